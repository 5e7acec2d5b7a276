"""`solve --method nystrom`: its speed beside SciPy's syrk, and all of it beside scikit-learn.

    python -m widegram_bench.nystrom syrk --centers 2000
    python -m widegram_bench.nystrom sklearn --data fashion.h5 --n 20000 --centers 1000

The first whitens and squares blocks of rows, as the pass over kernel(train, centers) does, in turns
with SciPy's syrk of the same blocks: GFLOP/s of the best of many turns. The second fits and
predicts with the same centers and regulariser as scikit-learn's Nystroem and Ridge, which get the
same kernel through a callable.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NET = "fcn:depth=3"
_REGULARISER = 1e-3  # relative to the mean of K(x, x)


def beside_syrk(m: int, rows: int, turns: int) -> dict[str, float]:
    """GFLOP/s of a block of the pass (m^2 rows operations to whiten, as many to square) and of
    SciPy's syrk (m^2 rows), and their ratio; the best of ``turns``."""
    from scipy.linalg.blas import dsyrk

    from widegram.linalg.subset.normal import NormalEquations

    rng = np.random.default_rng(0)
    block = rng.standard_normal((rows, m))
    factor = np.asfortranarray(np.tril(rng.standard_normal((m, m))) / m + np.eye(m))
    equations = NormalEquations(factor, rng.standard_normal((rows, 10)))
    gram, best = np.zeros((m, m), order="F"), [np.inf, np.inf]
    for _ in range(turns):
        begun = time.perf_counter()
        dsyrk(1.0, block.T, 1.0, gram, lower=1, overwrite_c=1)
        between = time.perf_counter()
        equations.add(slice(0, rows), block.copy())
        ended = time.perf_counter()
        best = [min(best[0], between - begun), min(best[1], ended - between)]
    operations = float(rows) * m * m / 1e9
    found = {"syrk_gflops": operations / best[0], "pass_gflops": 2.0 * operations / best[1]}
    return found | {"ratio": found["pass_gflops"] / found["syrk_gflops"]}


def beside_sklearn(data: Path, n: int, m: int, tested: int) -> dict[str, Any]:
    """Seconds and test accuracy of both, on the first ``n`` rows of /train and ``tested`` of
    /test."""
    with h5py.File(data, "r") as file:
        x, y = file["train/x"][:n], file["train/y"][:n]
        x_test, y_test = file["test/x"][:tested], file["test/y"][:tested]
    found = {"n": n, "centers": m, "test": len(x_test)}
    theirs, index, shift = _sklearn((x, y), (x_test, y_test), m)
    with tempfile.TemporaryDirectory() as folder:
        ours = _ours((x, y), (x_test, y_test), index, shift, Path(folder))
    return {**found, "scikit-learn": theirs, "widegram": ours}


def _sklearn(
    train: tuple[Array, Array], test: tuple[Array, Array], m: int
) -> tuple[dict[str, float], Array, float]:
    """(figures, rows that are centers, the regulariser).

    scikit-learn asks a callable for one entry at a time, so that this one looks entries up in
    matrices that were computed before: calls that compute would take hours. Nystroem is fitted so;
    what its transform would take for all rows is estimated from that, and done as the one product
    of matrices that it comes to.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge
    from sklearn.utils import check_random_state

    import widegram

    n = len(train[0])
    index = check_random_state(0).permutation(n)[:m]  # what Nystroem is going to draw
    column = {int(row): place for place, row in enumerate(index)}
    begun = time.perf_counter()
    every = np.concatenate([train[0], test[0]])
    table = np.asarray(widegram.kernel(NET, every, train[0][index], get="ntk"), np.float32)
    kernels = time.perf_counter() - begun
    own = widegram.kernel(NET, train[0][:200], get="ntk")
    shift = _REGULARISER * float(np.mean(np.diagonal(np.asarray(own))))
    one_hot = np.eye(int(train[1].max()) + 1)[train[1]]
    rows = np.arange(n, dtype=float)[:, None]
    begun = time.perf_counter()
    features = Nystroem(
        kernel=lambda a, b: table[int(a[0]), column[int(b[0])]], n_components=m, random_state=0
    ).fit(rows)
    fit = time.perf_counter() - begun
    mapped = table @ features.normalization_.T
    ridge = Ridge(alpha=shift, fit_intercept=False)
    ridge.fit(mapped[:n], one_hot - 1.0 / one_hot.shape[1])
    predicted = ridge.predict(mapped[n:])
    figures = {
        "kernels": kernels,
        "fit_through_the_callable": fit,
        "transform_through_it_estimated": fit * len(every) / m,
        "seconds_without": time.perf_counter() - begun - fit,
        "accuracy": float(np.mean(predicted.argmax(1) == test[1])),
    }
    return figures, index, shift


def _ours(
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    index: Array,
    shift: float,
    folder: Path,
) -> dict[str, Any]:
    import widegram
    from widegram.linalg import SolveJob, SolveOptions, solve_file
    from widegram.predict.predicting import PredictJob, predict_file

    np.save(folder / "y.npy", train[1])
    np.save(folder / "ty.npy", test[1])
    centers = train[0][index]
    begun = time.perf_counter()
    for name, x, x2 in (
        ("own", centers, None),
        ("rows", train[0], centers),
        ("test", test[0], centers),
    ):
        widegram.gram(NET, x, folder / f"{name}.h5", x2=x2, get=("ntk",))
    kernels = time.perf_counter() - begun
    begun = time.perf_counter()
    job = SolveJob(
        gram=folder / "rows.h5",
        centers=folder / "own.h5",
        y=str(folder / "y.npy"),
        out=folder / "a.h5",
        diag_reg=shift,
        absolute=True,
        options=SolveOptions(method="nystrom"),
    )
    solved = solve_file(job)
    found = predict_file(
        PredictJob(solution=job.out, cross=folder / "test.h5", y=str(folder / "ty.npy"))
    )
    seconds = time.perf_counter() - begun
    return {
        "kernels": kernels,
        "seconds": seconds,
        "accuracy": found.accuracy,
        "status": solved.status,
        "error": solved.details["error"],
        "jitter": solved.details["jitter"],
    }


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("syrk", "sklearn"))
    parser.add_argument("--centers", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1024, help="syrk: of a block")
    parser.add_argument("--turns", type=int, default=10, help="syrk")
    parser.add_argument("--data", type=Path, help="sklearn: a file of `data prepare`")
    parser.add_argument("--n", type=int, default=20_000, help="sklearn: training rows")
    parser.add_argument("--test", type=int, default=10_000, help="sklearn: test rows")
    given = parser.parse_args()
    if given.what == "syrk":
        print(json.dumps(beside_syrk(given.centers, given.rows, given.turns)))
    else:
        print(json.dumps(beside_sklearn(given.data, given.n, given.centers, given.test)))


if __name__ == "__main__":
    main()
