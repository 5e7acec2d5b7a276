"""Support vector machines on the kernels of a UCI data set, as in arXiv:1910.01663.

    python -m widegram_bench.published.uci inputs uci90.npz iris --out x.npy
    python -m widegram_bench.published.uci svm uci90.npz iris K0.h5 K1.h5 K2.h5 K3.h5

The file has of each data set NAME/x (n, D), NAME/y (n,) and rows: NAME/train and /valid, halves by
which depth, fixed layers and C are chosen, and NAME/fold0_train ... /fold3_test, four folds whose
mean test accuracy is the result. Those are the splits of Fernandez-Delgado et al. 2014 (JMLR 15),
whose halves share rows with the test folds. ``--within-folds`` chooses for each fold by the rows of
the two halves that it trains on, so that no test label is looked at. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.durable import write_bytes
from widegram.errors import WidegramError, shown

FOLDS = 4
PENALTIES = tuple(10.0**k for k in range(-2, 5))
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
        """Of the kernel its depth and fixed layers."""
        own = {"C": self.penalty, "valid": self.valid}
        return {"depth": self.kernel.depth, "fixed": self.kernel.fixed, **own}


def load(path: Path, name: str) -> DataSet:
    """One data set. Raises WidegramError where the file has none of that name."""
    with np.load(path) as file:
        own = {key.split("/", 1)[1]: key for key in file.files if key.startswith(f"{name}/")}
        if not own:
            raise WidegramError(f"{path}: has no data set {shown(name)}")
        arrays = {short: file[key] for short, key in own.items()}
    return DataSet(arrays.pop("x"), arrays.pop("y"), arrays)


def inputs(data: DataSet) -> Array:
    """x sqrt(D), (n, D) float64: inner products divided by D are then those of x."""
    return data.x * math.sqrt(data.x.shape[1])


def kernels(data: DataSet, grams: Sequence[Path]) -> list[FixedKernel]:
    """The kernels to choose from, by depth, then by fixed layers.

    File k of ``grams`` has its first k layers fixed and a depth sweep. All layers but the last one
    fixed are the NNGP, in file 0; one layer alone is linear.
    """
    import h5py

    found = [FixedKernel(1, 0, data.x @ data.x.T)]
    for fixed, path in enumerate(grams):
        with h5py.File(path, "r") as file:
            for repeats, kinds in ((int(d), file["depth"][d]) for d in file["depth"]):
                found.append(FixedKernel(fixed + repeats + 1, fixed, kinds["ntk"][:]))
                if not fixed:
                    found.append(FixedKernel(repeats + 1, repeats, kinds["nngp"][:]))
    return sorted(found, key=lambda kernel: (kernel.depth, kernel.fixed))


def accuracy(kernel: Array, y: Array, train: Array, test: Array, penalty: float) -> float:
    """Share of right classes of ``test`` rows, by a machine trained on ``train`` rows."""
    from sklearn.svm import SVC

    if len(np.unique(y[train])) < 2:
        return float(np.mean(y[test] == y[train[0]]))
    machine = SVC(kernel="precomputed", C=penalty, cache_size=1000)
    machine.fit(kernel[np.ix_(train, train)], y[train])
    return float(np.mean(machine.predict(kernel[np.ix_(test, train)]) == y[test]))


def choose(kinds: Sequence[FixedKernel], y: Array, train: Array, valid: Array) -> Machine:
    """The best kernel and C by ``valid`` rows; of equals the first, C ascending in each kernel."""
    tried = (
        Machine(kernel, penalty, accuracy(kernel.matrix, y, train, valid, penalty))
        for kernel in kinds
        for penalty in PENALTIES
    )
    return max(tried, key=lambda choice: choice.valid)


def judged(data: DataSet, kinds: Sequence[FixedKernel], within_folds: bool) -> dict[str, Any]:
    """The mean accuracy of the folds, how many rows they test, and what was chosen."""
    halves = data.rows["train"], data.rows["valid"]
    choices: list[Machine] = []
    found, tested = [], 0
    for fold in range(FOLDS):
        train, test = (data.rows[f"fold{fold}_{part}"] for part in ("train", "test"))
        if within_folds:
            fit, valid = (half[np.isin(half, train)] for half in halves)
            choices.append(choose(kinds, data.y, fit, valid))
        elif not choices:
            choices.append(choose(kinds, data.y, *halves))
        best = choices[-1]
        found.append(accuracy(best.kernel.matrix, data.y, train, test, best.penalty))
        tested += len(test)
    chosen = [choice.as_dict() for choice in choices]
    return {"accuracy": float(np.mean(found)), "n_test": tested, "chosen": chosen}


def main() -> None:
    """Write inputs, or judge kernels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("inputs", "svm"))
    parser.add_argument("file", type=Path)
    parser.add_argument("set")
    parser.add_argument("grams", type=Path, nargs="*", help="svm")
    parser.add_argument("--out", type=Path, help="inputs: a .npy file")
    parser.add_argument("--within-folds", action="store_true", help="svm: choose in each fold")
    given = parser.parse_args()
    data = load(given.file, given.set)
    if given.what == "inputs":
        file = io.BytesIO()
        np.save(file, inputs(data))
        write_bytes(given.out, file.getvalue(), overwrite=True)
        print(json.dumps({"n": len(data.x), "features": data.x.shape[1]}))
        return
    print(json.dumps(judged(data, kernels(data, given.grams), given.within_folds)))


if __name__ == "__main__":
    main()
