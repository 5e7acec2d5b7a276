"""Passes over the rows of kernel(train, centers), resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.operator import GramOperator, read_into
from widegram.linalg.prefetch import prefetched
from widegram.linalg.subset.sumsfile import SumsFile
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]


class PassSums(Protocol):
    """What a pass adds up."""

    what: str

    def add(self, rows: slice, block: Array) -> None:
        """Take in the rows ``block`` (rows, M), float64, which may be overwritten."""

    def arrays(self) -> Mapping[str, Array]:
        """The sums so far, by name, as a work file holds them."""

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on with what :meth:`arrays` gave."""


def streamed(
    operator: GramOperator,
    height: int,
    sums: PassSums,
    file: SumsFile | None,
    *,
    discard_other: bool = False,
    progress: ProgressCallback | None = None,
) -> int:
    """Add all rows to ``sums``, ``height`` at a time; how many ``file`` already had.

    Blocks have the height that ``file`` says where that is no larger, so that a run that was
    stopped ends with the same bits. Raises :class:`widegram.machine.interrupts.Stopped` where a
    stop is asked for.
    """
    total, start = operator.shape[0], 0
    found = None if file is None else file.load(tuple(sums.arrays()), discard_other)
    if found is not None:
        arrays, start, before = found
        sums.restore(arrays)
        height = min(height, before)
    with ExitStack() as held:
        if file is not None:
            held.enter_context(interrupts.finishing("the block in work", file.clock.seconds_left))
        for rows, block in blocks(operator, height, start):
            sums.add(rows, block)
            if progress:
                progress(Progress(rows.stop, total, what=sums.what))
            if file is not None and file.reached(rows.stop, total, height, sums.arrays):
                raise interrupts.Stopped(interrupts.report())
    return start


def blocks(operator: GramOperator, height: int, start: int = 0) -> Iterator[tuple[slice, Array]]:
    """(rows, float64 block of all columns) from row ``start`` on, one read ahead by a thread.

    A block is overwritten two steps later: use it at once.
    """
    total, columns = operator.shape
    starts = range(start, total, height)
    rows = min(height, total)
    whole = slice(0, columns)
    raw = None if operator.dtype == np.float64 else np.empty((rows, columns), operator.dtype)
    buffers = [np.empty((rows, columns)) for _ in range(min(2, len(starts)))]

    def fetch(index: int) -> Array:
        place = slice(starts[index], min(total, starts[index] + height))
        into = buffers[index % 2][: place.stop - place.start]
        if raw is None:
            read_into(operator.source, into, place, whole)
        else:
            part = raw[: len(into)]
            read_into(operator.source, part, place, whole)
            into[...] = part
        return into

    for lo, block in zip(starts, prefetched(fetch, len(starts)), strict=True):
        yield slice(lo, lo + len(block)), block
