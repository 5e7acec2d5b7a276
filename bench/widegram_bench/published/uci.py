"""Support vector machines on the kernels of a UCI data set, as in arXiv:1910.01663.

    python -m widegram_bench.published.uci uci90.npz iris

The file has of each data set NAME/x (n, D), NAME/y (n,) and rows: NAME/train and /valid, halves by
which depth, fixed layers and C are chosen, and NAME/fold0_train ... /fold3_test, four folds whose
mean test accuracy is the result. Those are the splits of Fernandez-Delgado et al. 2014 (JMLR 15),
whose halves share rows with the test folds. ``--within-folds`` chooses for each fold by the rows of
the two halves that it trains on, so that no test label is looked at. Prints one JSON object.

Kernels are computed in memory one after the other, and those alone are kept that are best so far.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import widegram
from widegram.errors import WidegramError, shown
from widegram.linalg.svm.machines import ITERATIONS
from widegram.linalg.svm.svmjob import C_PATH
from widegram_bench.published.modules import ended, opened

FOLDS = 4
LAYERS = 5  # with weights, at most
Array = NDArray[Any]


@dataclass(frozen=True)
class DataSet:
    """Inputs x (n, D), classes y (n,), and rows by the name of a split."""

    x: Array
    y: Array
    rows: Mapping[str, Array]


@dataclass(frozen=True)
class FixedKernel:
    """The NTK (n, n) of ``depth`` layers with weights, the first ``fixed`` of them not trained."""

    depth: int
    fixed: int
    matrix: Array


@dataclass(frozen=True)
class Machine:
    """A kernel, C of the machine, and the accuracy that they were chosen by."""

    kernel: FixedKernel
    penalty: float
    valid: float

    def as_dict(self) -> dict[str, float]:
        """The kernel's depth and fixed layers, C and the accuracy, by name."""
        own = {"C": self.penalty, "valid": self.valid}
        return {"depth": self.kernel.depth, "fixed": self.kernel.fixed, **own}


def load(path: Path, name: str) -> DataSet:
    """One data set. Raises WidegramError where there is no file, or none of that name in it."""
    with opened(path) as file:
        own = {key.split("/", 1)[1]: key for key in file.files if key.startswith(f"{name}/")}
        if not own:
            raise WidegramError(f"{path}: has no data set {shown(name)}")
        arrays = {short: file[key] for short, key in own.items()}
    return DataSet(arrays.pop("x"), arrays.pop("y"), arrays)


def inputs(data: DataSet) -> Array:
    """x sqrt(D), (n, D) float64: inner products divided by D are then those of x."""
    return data.x * math.sqrt(data.x.shape[1])


def kernels(data: DataSet) -> Iterator[FixedKernel]:
    """The kernels to choose from, float64, by depth, then by fixed layers.

    One layer alone is linear. All layers but the last one fixed are the NNGP, which the engine
    gives beside the NTK of the same network.
    """
    yield FixedKernel(1, 0, data.x @ data.x.T)
    x = inputs(data)
    for hidden in range(1, LAYERS):
        net = f"fcn:depth={hidden},w_var=1"
        nngp, ntk = cast("tuple[Array, Array]", widegram.kernel(net, x))
        yield FixedKernel(hidden + 1, 0, ntk)
        for fixed in range(1, hidden):
            ntk = cast("Array", widegram.kernel(f"{net},fixed_first={fixed}", x, get="ntk"))
            yield FixedKernel(hidden + 1, fixed, ntk)
        yield FixedKernel(hidden + 1, hidden, nngp)


def accuracies(
    kernel: Array, y: Array, train: Array, test: Array, path: Sequence[float]
) -> list[float]:
    """For each C of ``path`` the share of right classes of ``test`` rows, by a machine trained on
    ``train`` rows.

    It is stopped where ``solve --method svm`` stops one, with a warning of scikit-learn's: the
    linear kernel of few features has no end where classes overlap and C is large.
    """
    from sklearn.svm import SVC

    if len(np.unique(y[train])) < 2:
        return [float(np.mean(y[test] == y[train[0]]))] * len(path)
    inner, across = kernel[np.ix_(train, train)], kernel[np.ix_(test, train)]
    found = []
    for penalty in path:
        machine = SVC(kernel="precomputed", C=penalty, cache_size=1000, max_iter=ITERATIONS)
        machine.fit(inner, y[train])
        found.append(float(np.mean(machine.predict(across) == y[test])))
    return found


def choose(
    kinds: Iterable[FixedKernel], y: Array, splits: Sequence[tuple[Array, Array]]
) -> list[Machine]:
    """For each (train, valid) rows the best kernel and C by the latter; of equals the first, C
    ascending in each kernel."""
    best: list[Machine | None] = [None] * len(splits)
    for kernel in kinds:
        for number, (train, valid) in enumerate(splits):
            shares = accuracies(kernel.matrix, y, train, valid, C_PATH)
            for penalty, share in zip(C_PATH, shares, strict=True):
                kept = best[number]
                if kept is None or share > kept.valid:
                    best[number] = Machine(kernel, penalty, share)
    return [machine for machine in best if machine is not None]


def judged(data: DataSet, kinds: Iterable[FixedKernel], within_folds: bool) -> dict[str, Any]:
    """The mean accuracy of the folds, how many rows they test, and what was chosen."""
    halves = data.rows["train"], data.rows["valid"]
    folds = [
        (data.rows[f"fold{fold}_train"], data.rows[f"fold{fold}_test"]) for fold in range(FOLDS)
    ]
    splits = [halves]
    if within_folds:
        fit, valid = halves
        splits = [(fit[np.isin(fit, train)], valid[np.isin(valid, train)]) for train, _ in folds]
    chosen = choose(kinds, data.y, splits)
    found = [
        accuracies(best.kernel.matrix, data.y, train, test, [best.penalty])[0]
        for best, (train, test) in zip(chosen * (FOLDS // len(chosen)), folds, strict=True)
    ]
    return {
        "accuracy": float(np.mean(found)),
        "n_test": sum(len(test) for _, test in folds),
        "chosen": [choice.as_dict() for choice in chosen],
    }


def main() -> None:
    """Judge the kernels of one data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("set")
    parser.add_argument("--within-folds", action="store_true", help="choose in each fold")
    given = parser.parse_args()
    data = load(given.file, given.set)
    print(json.dumps(judged(data, kernels(data), given.within_folds)))


if __name__ == "__main__":
    ended(main)
