"""Do error bars cover? Nominal beside actual coverage on tables, with the scale and the noise of
the prior as they come, and by evidence.

TABLES.npz has NAME/x and NAME/y for each NAME below; targets are y, or a column of x that the
others tell. Everything is chosen on training rows; test rows are looked at once, for this table.
"""

import argparse
import math
import sys

import numpy as np

from widegram.sklearn import GaussianProcessRegressor

NETWORK = "fcn:depth=2,act=erf,b_var=0.1"
TABLES = {"wine-quality-red": None, "wine-quality-white": 10, "abalone": 7}  # column, None: y
LEVELS = {0.5: 0.674490, 0.8: 1.281552, 0.95: 1.959964}  # shares of a normal, and its quantiles
PRIORS = {"as it comes": {"scale": 1.0, "noise": 1e-3}, "by evidence": {}}


def split(tables: dict, name: str, train: int, test: int, seed: int) -> tuple:
    """Training and test rows, drawn without replacement."""
    x, column = tables[f"{name}/x"].astype(float), TABLES[name]
    y = tables[f"{name}/y"].astype(float) if column is None else x[:, column]
    x = x if column is None else np.delete(x, column, axis=1)
    order = np.random.default_rng(seed).permutation(len(x))[: train + test]
    return x[order[:train]], y[order[:train]], x[order[train:]], y[order[train:]]


def judged(model: GaussianProcessRegressor, x: np.ndarray, y: np.ndarray) -> list[float]:
    """Coverage at each level, the mean negative log likelihood and the root mean square error."""
    mean, std = model.predict(x, return_std=True)
    errors = np.abs(y - mean) / std
    shares = [float(np.mean(errors < quantile)) for quantile in LEVELS.values()]
    nll = np.mean(0.5 * errors**2 + np.log(std) + 0.5 * math.log(2 * math.pi))
    return [*shares, float(nll), float(np.sqrt(np.mean((y - mean) ** 2)))]


def main() -> None:
    """Print a row for every table and prior."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", metavar="TABLES.npz")
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    levels = "".join(f" {level:5.0%}" for level in LEVELS)
    print(f"{'':20}{'prior':14}{levels}     nll    rmse   scale   noise")
    with np.load(given.tables) as tables:
        for name in [name for name in TABLES if f"{name}/x" in tables]:
            x, y, x_test, y_test = split(tables, name, given.train, given.test, given.seed)
            for prior, known in PRIORS.items():
                model = GaussianProcessRegressor(NETWORK, normalize_y=True, **known).fit(x, y)
                *shares, nll, error = judged(model, x_test, y_test)
                row = "".join(f" {share:5.3f}" for share in shares)
                levels = f"{model.scale_:8.3g}{model.noise_:8.3g}"
                print(f"{name:20}{prior:14}{row} {nll:7.3f}{error:8.3f}{levels}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
