"""Labels and regression targets, checked and encoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.data.chosen_rows import ChosenRows
from widegram.data.formats import open_table
from widegram.errors import WidegramError, shown
from widegram.validation.arrays import as_int64, choice
from widegram.validation.choices import TARGETS, TASKS

Array = NDArray[Any]
_LARGEST_SHIFT = 1000.0
_FEW = 20  # different whole numbers: as many look like classes
_SMALLEST, _LARGEST = 1e-100, 1e100  # of the largest target: squares and their sums stay finite


@dataclass(frozen=True)
class Targets:
    """Labels as a solver takes them.

    * ``values``: float64 (n, k); of a classification one-hot rows less ``shift``; of a regression
      the numbers themselves
    * ``classes``: (k,), ascending; None of a regression
    * ``fingerprint``: of the labels as they were given
    * ``reason``: why the one or the other was taken
    * ``shift``: NaN of a regression
    """

    values: Array
    classes: Array | None
    fingerprint: str
    reason: str = ""
    shift: float = math.nan

    @property
    def task(self) -> str:
        """'classification' or 'regression'."""
        return "regression" if self.classes is None else "classification"

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.values.shape[0])


def load_targets(
    spec: str,
    n: int,
    *,
    classes: Array | None = None,
    limit: int | None = None,
    what: str = "rows",
    task: str = "auto",
    shift: float | None = None,
    rows: ChosenRows | None = None,
) -> Targets:
    """Read ``file.npy | file.npz:key | file.h5:path`` and encode it.

    ``limit`` takes the first rows, as `gram --limit` does; afterwards there must be ``n``. Of
    these ``rows`` are taken, in ascending order; the classes are those of all ``n``. Raises as
    :func:`encode`, and where the number of labels does not match.
    """
    table = open_table(spec)
    there = table.shape[0] if table.shape else 0
    taken = there if limit is None else min(there, limit)
    if taken != n:
        hint = f"; pass --limit {n} to take the first {n}" if taken > n else ""
        raise WidegramError(f"{spec}: holds {taken} labels, the matrix has {n} {what}{hint}")
    values = np.asarray(table.rows(0, n))
    among = None if rows is None else values
    values = values if rows is None else values[rows.ascending]
    return encode(values, classes=classes, name=spec, task=task, shift=shift, among=among)


def encode(
    values: Array,
    *,
    classes: Array | None = None,
    name: str = "y",
    task: str = "auto",
    shift: float | None = None,
    among: Array | None = None,
) -> Targets:
    """Encode labels (n,) or (n, 1) as classes, or numbers (n,) or (n, k) as they are.

    ``task`` 'classification' or 'regression' says which; 'auto' takes integers for classes and
    floats for numbers. ``classes`` are those of the training labels, else of the labels ``among``
    which these were chosen, else of these. One-hot targets are less
    ``shift``, by default 1 / classes, so that a row sums to zero. Raises WidegramError for NaN,
    other dtypes and shapes, labels that are not whole numbers or not among ``classes``, and a shift
    of numbers.
    """
    if task not in TASKS:
        raise WidegramError(f"no task {task!r}; choose from {', '.join(TASKS)}")
    values = np.asarray(values)
    digest = xxhash.xxh3_128(f"{values.shape}{values.dtype.str}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    usual = _usual_task(values, name)
    taken = usual if task == "auto" else task
    if taken != usual:
        digest.update(taken.encode())
    reason = "as asked" if task == taken else _reason(values, name)
    if taken == "regression":
        if shift is not None:
            raise WidegramError(
                f"{name}: targets one-hot, centered and their shift are of classes, and these are "
                f"taken for numbers ({reason}); for classes take --task classification"
            )
        return Targets(_regression(values, name), None, digest.hexdigest(), reason)
    place, known = _placed(values, classes, among, name)
    if among is not None:
        digest.update(known.tobytes())
    less = 1.0 / known.size if shift is None else shift
    if not isinstance(less, Real) or not abs(less) <= _LARGEST_SHIFT:
        raise WidegramError(f"target_shift {shown(less)}: give a number from -1000 to 1000")
    if shift is not None and shift != 1.0 / known.size:
        digest.update(f"shift {shift!r}".encode())
    one_hot = np.full((place.size, known.size), -less)
    one_hot[np.arange(place.size), place] += 1.0
    return Targets(one_hot, known, digest.hexdigest(), reason, less)


def _usual_task(values: Array, name: str) -> str:
    """What labels of that dtype are taken for; refuses what is none."""
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise WidegramError(f"{name}: has shape {values.shape}; labels are (n,) or (n, k)")
    if values.dtype.kind not in "fiub":
        raise WidegramError(
            f"{name}: {values.dtype} of shape {values.shape}; expected integer classes (n,) or "
            "floating-point targets (n, k)"
        )
    return "regression" if values.dtype.kind == "f" else "classification"


def _placed(
    values: Array, classes: Array | None, among: Array | None, name: str
) -> tuple[Array, Array]:
    """Where each label stands among the classes, (n,), and these, ascending; all as :func:`encode`
    takes them."""
    if values.ndim == 2 and values.shape[1] != 1:
        raise WidegramError(
            f"{name}: {values.dtype} of shape {values.shape}; expected integer classes (n,), or "
            "for numbers task regression"
        )
    labels = as_int64(values.reshape(-1), name)
    known = _classes(labels, among, name) if classes is None else np.asarray(classes)
    place = _places(labels, known, name)
    if classes is None and np.unique(labels).size < 2:
        what = "holds" if among is None else "the rows that are chosen hold"
        raise WidegramError(f"{name}: {what} the single class {labels[0]}; two or more are needed")
    return place, known


def _places(labels: Array, known: Array, name: str) -> Array:
    """Where labels (n,) stand among the ``known`` classes, which ascend."""
    place = np.minimum(np.searchsorted(known, labels), known.size - 1)
    if (known[place] != labels).any():
        row = int(np.flatnonzero(known[place] != labels)[0])
        raise WidegramError(
            f"{name}: row {row} has class {labels[row]}, which is not among the training classes "
            f"{known.tolist()[:12]}"
        )
    return np.asarray(place)


def _classes(labels: Array, among: Array | None, name: str) -> Array:
    """All classes, ascending."""
    return np.unique(labels if among is None else as_int64(among.reshape(-1), name))


def shift_of(encoding: str | None, shift: float | None) -> float | None:
    """What one-hot targets are less, of the names in :data:`TARGETS` or a number; None is the
    default, 'centered'. Raises WidegramError where both are given."""
    if encoding is None:
        return shift
    if shift is not None:
        raise WidegramError("targets and target_shift both name a shift; give one of them")
    return 0.0 if choice(encoding, "targets", TARGETS) == "one-hot" else None


def accuracy(predicted: Array, targets: Array) -> float | None:
    """Share of rows whose largest entry, or sign of a single +-1 column, agrees.

    None for targets that name no class: one-hot rows do, plain or shifted, and single +-1 columns.
    """
    if targets.shape[1] > 1:
        high = targets > 0.5 * (targets.min() + targets.max())
        values = np.where(high, targets.max(), targets.min())
        if (high.sum(axis=1) != 1).any() or not np.allclose(values, targets, rtol=0, atol=1e-6):
            return None
        return float(np.mean(agreeing(predicted, targets)))
    if np.isin(targets, (-1.0, 1.0)).all():
        return float(np.mean(agreeing(predicted, targets)))
    return None


def agreeing(predicted: Array, targets: Array) -> Array:
    """Which rows (n,) have the targets' largest entry, or of a single +-1 column their sign."""
    if targets.shape[1] > 1:
        return np.asarray(predicted.argmax(axis=1) == targets.argmax(axis=1))
    return np.asarray(np.where(predicted > 0, 1.0, -1.0) == targets)[:, 0]


def _reason(values: Array, name: str) -> str:
    """What 'auto' went by, and what to pass where that looks wrong."""
    distinct = np.unique(values).size
    if values.dtype.kind == "f":
        whole = bool(np.all(np.isfinite(values))) and bool(np.all(values == np.rint(values)))
        labels = whole and distinct <= min(_FEW, values.size // 2) and values.size == len(values)
        hint = f", though only {distinct} whole ones: for classes take --task classification"
        return f"{name} holds floating-point numbers{hint if labels else ''}"
    many = distinct > max(_FEW, values.size // 10)
    hint = "; if they are quantities take --task regression"
    return f"{name} holds integers, {distinct} different ones in {values.size} rows" + (
        hint if many else ""
    )


def _regression(values: Array, name: str) -> Array:
    targets = values.astype(np.float64).reshape(values.shape[0], -1)
    finite = np.isfinite(targets).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise WidegramError(f"{name}: row {row} holds NaN or an infinity; labels must be finite")
    largest = np.max(np.abs(targets))
    if largest and not _SMALLEST <= largest <= _LARGEST:
        row = int(np.argmax(np.abs(targets).max(axis=1)))
        raise WidegramError(
            f"{name}: the largest target, {largest:.2g} in row {row}, is beyond {_SMALLEST:g} to "
            f"{_LARGEST:g}, where squared errors leave float64; multiply the targets by a number"
        )
    return targets
