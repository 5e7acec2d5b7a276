"""Raw inputs and labels in .npy, .npz, HDF5 and .mat files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from widegram.data import matlab
from widegram.data.columns import MOST_EXACT
from widegram.data.formats import (
    HDF5_SUFFIXES,
    Table,
    list_arrays,
    nearest,
    open_table,
    split_spec,
)
from widegram.data.raw import RawData, Split
from widegram.errors import WidegramError
from widegram.validation.arrays import as_int64
from widegram.validation.reading import existing_file

SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES, matlab.SUFFIX)
# (inputs, labels) as data sets in the wild are named; the last column marks a test split.
_NAMES = (
    (("train/x", "train/y"), ("test/x", "test/y")),
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("X_train", "y_train"), ("X_test", "y_test")),
    (("train_x", "train_y"), ("test_x", "test_y")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("train_set_x", "train_set_y"), ("test_set_x", "test_set_y")),
    (("x", "y"), None),
    (("X", "y"), None),
    (("images", "labels"), None),
    (("data", "labels"), None),
    (("fea", "gnd"), None),
    (("data", "target"), None),
)


def open_labelled(source: str, labels: str | None) -> RawData:
    """Inputs and labels of ``source``, found by the usual names of arrays.

    ``file.npy`` takes its labels from ``labels`` or a file beside it (``x.npy`` and ``y.npy``,
    ``images.npy`` and ``labels.npy``); ``.npz`` and HDF5 hold both, as ``x`` and ``y``,
    ``x_train`` ... ``y_test``, ``images`` and ``labels``, ``train/x`` ...; ``file:key`` names the
    inputs. Where no labels are found there are none.

    Of a .mat file, whose arrays have two axes or more, a row or column of labels is (n,), and whole
    numbers are integers. Its inputs are along the last axis where that alone has as many as there
    are labels, as in images (H, W, C, n). Raises WidegramError for a file that is missing or
    damaged, and where its arrays do not say which of them are inputs.
    """
    path, key = split_spec(source)
    existing_file(path)
    if labels is None and path.suffix.lower() == ".npy":
        beside = _label_file(path)
        labels = str(beside) if beside else None
    elif labels is None:
        names = _names(path)
        if key is None:
            return _by_names(path, names)
        partner = _partner(key, names)
        labels = f"{path}:{partner}" if partner else None
    split = _split(source, labels)
    return RawData(source, split, note=_note(split))


def _note(split: Split) -> str:
    return "no labels were found; name them with --labels" if split.y is None else ""


def _names(path: Path) -> list[str]:
    return matlab.variables(path) if path.suffix.lower() == matlab.SUFFIX else list_arrays(path)


def _open(spec: str, last_first: bool = False) -> Table:
    path, key = split_spec(spec)
    if path.suffix.lower() != matlab.SUFFIX:
        return open_table(spec)
    names = matlab.variables(path)
    if key is None and len(names) != 1:
        raise WidegramError(f"{path}: which variable? write {path}:NAME; {nearest('', names)}")
    return matlab.open_variable(path, key or names[0], last_first)


def _split(inputs: str, labels: str | None) -> Split:
    x, y = _open(inputs), None if labels is None else _values(labels)
    if y is not None and split_spec(inputs)[0].suffix.lower() == matlab.SUFFIX:
        several = len(x.shape) > 1
        if several and x.shape[-1] == len(y) and x.shape[0] != len(y):
            x = _open(inputs, last_first=True)
    return Split(x, y)


def _by_names(path: Path, names: list[str]) -> RawData:
    """The first of the usual pairs that a file holds; pairs with their labels go first."""

    def split(pair: tuple[str, str]) -> Split:
        inputs, labels = pair
        return _split(f"{path}:{inputs}", f"{path}:{labels}" if labels in names else None)

    known = [pairs for pairs in _NAMES if pairs[0][0] in names]
    if known:
        train, test = min(known, key=lambda pairs: pairs[0][1] not in names)
        kept = split(train)
        held_out = split(test) if test and test[0] in names else None
        return RawData(str(path), kept, held_out, _note(kept))
    if len(names) == 1:
        kept = split((names[0], ""))
        return RawData(str(path), kept, note=_note(kept))
    raise WidegramError(
        f"{path}: which array holds the inputs? write {path}:NAME; {nearest('', names)}"
    )


def _values(spec: str) -> np.ndarray:
    """All labels: integers as int64, real targets as float64; a column (n, 1) is flattened."""
    table = _open(spec)
    if table.dtype.kind not in "iubf" or len(table.shape) not in (1, 2):
        raise WidegramError(
            f"{table.name}: labels are numbers of shape (n,) or (n, k), "
            f"found {table.dtype} of shape {table.shape}"
        )
    values = table.rows(0, table.shape[0])
    if split_spec(spec)[0].suffix.lower() == matlab.SUFFIX:
        values = _of_matlab(values)
    floating = values.dtype.kind == "f"
    values = values.astype(np.float64) if floating else as_int64(values, table.name)
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise WidegramError(
            f"{table.name}: row {row} holds NaN or an infinite value; leave out rows that have no "
            "label"
        )
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _of_matlab(values: np.ndarray) -> np.ndarray:
    """Labels as MATLAB keeps them: a row is a column, whole numbers of type double are integers."""
    values = values.T if values.ndim == 2 and values.shape[0] == 1 else values
    if values.size and (np.rint(values) == values).all() and abs(values).max() <= MOST_EXACT:
        return values.astype(np.int64)
    return values


def _partner(name: str, names: list[str]) -> str | None:
    """The name of the labels of inputs called ``name``, or of those in its group (``set/x``)."""
    group, _, last = name.rpartition("/")
    for pairs in _NAMES:
        for pair in pairs:
            for before, known in (("", name), (f"{group}/", last)) if group else (("", name),):
                if pair and pair[0] == known and before + pair[1] in names:
                    return before + pair[1]
    return None


def _label_file(path: Path) -> Path | None:
    for pattern, label in (
        (r"images", "labels"),
        (r"data", "labels"),
        (r"(?<![A-Za-z])[xX](?![A-Za-z])", "y"),
    ):
        name, count = re.subn(pattern, label, path.stem)
        if count and path.with_name(name + ".npy").is_file():
            return path.with_name(name + ".npy")
    return None
