"""Tiles computed ahead of the one that is wanted, while finished ones are written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from widegram.backends.evaluator import Evaluator
from widegram.closing import Closing

Arrays = dict[str, np.ndarray]


def tiles_at_once(evaluator: Evaluator) -> int:
    """Tiles that :class:`TileQueue` keeps in memory at once, for the caller's budget."""
    return evaluator.workers + 1


class TileQueue(Closing):
    """The tiles ``wanted`` (rows, columns), in that order, from an evaluator.

    An evaluator with ``workers`` computes that many at once, and one more while the caller writes;
    beside those, its ``prepare`` is called with the first tile of the rows that come next. Any
    other computes each tile when it is asked for.
    :meth:`close`, at a block's end too, waits for the tiles in work; :meth:`unasked` then gives
    those that succeeded.
    """

    def __init__(
        self, evaluator: Evaluator, wanted: Sequence[tuple[range, range]], symmetric: bool
    ) -> None:
        self._evaluator, self._symmetric = evaluator, symmetric
        self._left = deque(enumerate(wanted))
        self._running: deque[tuple[int, Future[Arrays]]] = deque()
        self._most = tiles_at_once(evaluator)
        self._pool = ThreadPoolExecutor(self._most - 1) if self._most > 1 else None
        self._preparing, self._rows = ThreadPoolExecutor(1), range(0)

    def next(self, advance: Callable[[int], None]) -> Arrays:
        """The next tile; ``advance`` is told the pairs of inputs as they finish."""
        if self._pool is None:
            _, (rows, cols) = self._left.popleft()
            return self._evaluator.tile(rows, cols, self._symmetric, advance)
        while self._left and len(self._running) < self._most:
            n, (rows, cols) = self._left.popleft()
            job = self._pool.submit(self._evaluator.tile, rows, cols, self._symmetric)
            self._running.append((n, job))
            self._look_ahead(rows)
        _, first = self._running.popleft()
        found = first.result()
        advance(next(iter(found.values())).size)
        return found

    def close(self) -> None:
        """Begin no more tiles and wait for those in work."""
        for pool in (self._pool, self._preparing):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def unasked(self) -> Iterator[tuple[int, Arrays]]:
        """After :meth:`close`: the place in ``wanted`` and the arrays of every tile that was
        computed and never asked for, each once."""
        while self._running:
            n, job = self._running.popleft()
            if not job.cancelled() and job.exception() is None:
                yield n, job.result()

    def _look_ahead(self, rows: range) -> None:
        """A tile of ``rows`` is begun: if it is their first, prepare the next ones'. An error there
        is the tile's to raise."""
        if rows == self._rows:
            return
        self._rows = rows
        coming = next((tile for _, tile in self._left if tile[0] != rows), None)
        if coming is not None:
            self._preparing.submit(self._evaluator.prepare, *coming)


def in_turn(
    evaluator: Evaluator, wanted: Sequence[tuple[range, range]], symmetric: bool
) -> Iterator[Arrays]:
    """The tiles ``wanted``, one after another."""
    with TileQueue(evaluator, wanted, symmetric) as queue:
        for _ in wanted:
            yield queue.next(lambda _: None)
