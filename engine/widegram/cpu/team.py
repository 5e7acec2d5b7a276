"""The threads that share a tile, and the workspaces that they take in turn."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

from widegram.cpu.kernels.variants import LANES
from widegram.cpu.tables import Tables
from widegram.cpu.workspace import Workspace
from widegram.errors import WidegramError
from widegram.machine.budgets import PROGRAM, format_size


class Team:
    """``pool`` with a workspace for each of at most ``threads`` threads, in ``memory`` bytes.

    ``threads``: how many there are; ``tables``: those that the workspaces were made for. Raises
    :class:`WidegramError` where there is no room for one.
    """

    def __init__(
        self, pool: ThreadPoolExecutor, tables: Tables, dtype: str, threads: int, memory: int
    ) -> None:
        size = Workspace.bytes(tables, dtype)
        if size > memory:
            raise WidegramError(
                f"memory: the planes of {LANES[dtype]} pairs of this network take "
                f"{format_size(size)}, a quarter of what is left for arrays is "
                f"{format_size(memory)}; give at least --memory {format_size(PROGRAM + 4.1 * size)}"
            )
        self.tables, self.pool = tables, pool
        self.threads = min(threads, memory // max(size, 1))
        self._free: SimpleQueue[Workspace] = SimpleQueue()
        for _ in range(self.threads):
            self._free.put(Workspace(tables, dtype))

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A workspace that nobody else has meanwhile."""
        work = self._free.get()
        try:
            yield work
        finally:
            self._free.put(work)
