"""Which rows of a data set are for training and which for tests, and reading them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.formats import Table
from widegram.data.raw import RawData, Split
from widegram.data.read_together import read_together
from widegram.errors import WidegramError
from widegram.machine import interrupts

_TEST_SHARE = 5


@dataclass(frozen=True)
class Selection:
    """Rows ``indices``, in this order, of one split."""

    split: Split
    indices: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, D) or (n, H, W, C)."""
        return (len(self.indices), *input_shape(self.split.x))

    @property
    def labels(self) -> NDArray[Any] | None:
        """The labels of the rows, None where there are none."""
        return None if self.split.y is None else self.split.y[self.indices]

    def blocks(self, block: int) -> Iterator[NDArray[np.float64]]:
        """The rows in float64, at most ``block`` bytes at a time.

        Raises :class:`WidegramError` naming the first row that holds NaN or an infinity.
        """
        shape = self.shape[1:]
        step = max(1, block // (8 * int(np.prod(shape))))
        for lo in range(0, len(self.indices), step):
            interrupts.check()
            yield take(self.split.x, self.indices[lo : lo + step], step).reshape(-1, *shape)

    def ascending(self) -> Selection:
        """The same rows in the order of the source."""
        return Selection(self.split, np.sort(self.indices))


def everything(split: Split) -> Selection:
    """All rows of a split, checked.

    Raises WidegramError for one without rows, and for what is no numbers of the shape of inputs.
    """
    _check_numbers(split.x)
    if not split.x.shape[0]:
        raise WidegramError(f"{split.x.name}: is empty")
    return Selection(split, np.arange(split.x.shape[0]))


def select(
    raw: RawData, train: int | None, test: int | None, seed: int, balanced: bool = False
) -> tuple[Selection, Selection | None]:
    """The training and test rows; the test rows of a seed do not depend on ``train``, and the first
    training rows not on how many there are.

    ``balanced``: of every class as many training rows as of any other, or all that it has; without
    ``train`` as many as the smallest class has. Raises WidegramError for more rows than there are,
    inputs of two shapes, labels that are no classes to balance, and as :func:`everything`.
    """
    for split in (raw.train, raw.test):
        if split is not None:
            _check_numbers(split.x)
    total = raw.train.x.shape[0]
    if not total:
        raise WidegramError(f"{raw.train.x.name}: is empty")
    if raw.test is not None:
        if input_shape(raw.test.x) != input_shape(raw.train.x):
            raise WidegramError(f"{raw.name}: its training and test inputs differ in shape")
        chosen = _drawn(raw.train, train, [seed, 0], balanced)
        held_out = _drawn(raw.test, test, [seed, 1])
        return chosen, held_out if len(held_out.indices) else None
    if test is None:
        test = max(0, min(total // _TEST_SHARE, total - (train or 0)))
    least = 1 if train is None else train
    if test + least > total:
        raise WidegramError(
            f"{raw.name}: has {total} inputs, too few for {least} training and {test} test inputs"
        )
    order = np.random.default_rng(seed).permutation(total)
    rest = order[test:]
    if balanced:
        rest = _in_balance(raw.train, rest, train)
    chosen = Selection(raw.train, rest[:train])
    return chosen, Selection(raw.train, order[:test]) if test else None


def is_drawn(raw: RawData, train: int | None, test: int | None, balanced: bool) -> bool:
    """Whether :func:`select` draws rows, so that a seed counts."""
    return raw.test is None or train is not None or test is not None or balanced


def _drawn(split: Split, count: int | None, seed: list[int], balanced: bool = False) -> Selection:
    total = split.x.shape[0]
    if count is not None and count > total:
        raise WidegramError(f"{split.x.name}: has {total} inputs, {count} were asked for")
    if balanced:
        order = np.random.default_rng(seed).permutation(total)
        return Selection(split, _in_balance(split, order, count)[:count])
    if count is None:
        return Selection(split, np.arange(total))
    return Selection(split, np.random.default_rng(seed).permutation(total)[:count])


def _in_balance(split: Split, order: NDArray[Any], count: int | None) -> NDArray[Any]:
    """The rows ``order`` such that the first of them, however many, have all classes equally often;
    without ``count`` only as many as the smallest class has."""
    if split.y is None or split.y.ndim != 1 or split.y.dtype.kind not in "iu":
        raise WidegramError(
            f"{split.x.name}: has no classes to balance; its labels must be integers of shape (n,)"
        )
    turns = in_turns(split.y[order])
    if count is None:
        _, sizes = np.unique(split.y[order], return_counts=True)
        turns = turns[: sizes.min() * len(sizes)]
    return order[turns]


def in_turns(y: NDArray[Any]) -> NDArray[np.int64]:
    """Positions in ``y`` (n,) such that the first of them, however many, have every class as often
    as any other, or all rows of a class that has fewer; within a class they ascend."""
    _, members, sizes = np.unique(y, return_inverse=True, return_counts=True)
    of_class = np.argsort(members, kind="stable")
    rank = np.empty(len(y), dtype=np.int64)
    rank[of_class] = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.argsort(rank, kind="stable")


def _check_numbers(table: Table) -> None:
    shape = table.shape[1:]
    if len(shape) not in (1, 2, 3) or 0 in shape:
        raise WidegramError(
            f"{table.name}: has shape {table.shape}; expected (n, D), (n, H, W) or (n, H, W, C)"
        )
    if table.dtype.kind not in "iubf":
        raise WidegramError(f"{table.name}: holds {table.dtype}, numbers are needed")


def input_shape(table: Table) -> tuple[int, ...]:
    """(D,) or (H, W, C); images without a channel axis get one."""
    shape = table.shape[1:]
    return (*shape, 1) if len(shape) == 2 else shape


def take(table: Table, indices: NDArray[Any], window: int) -> NDArray[np.float64]:
    """Rows in any order, read in ascending runs of at most ``window`` rows.

    Raises :class:`WidegramError` naming the first that holds NaN or an infinity.
    """
    order = np.argsort(indices, kind="stable")
    wanted = indices[order]
    rows = np.empty((len(indices), *table.shape[1:]))
    for places in read_together(wanted, window, window):
        lo = int(wanted[places][0])
        run = table.rows(lo, int(wanted[places][-1]) + 1)
        rows[order[places]] = run[wanted[places] - lo]
    bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))
    if len(bad):
        raise WidegramError(f"{table.name}: row {indices[bad[0]]} holds NaN or an infinite value")
    return rows
