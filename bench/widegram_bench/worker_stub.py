"""A stand-in for what a worker computes: it sleeps, and sends numbers. Also a process that holds
many workers: ``python -m widegram_bench.worker_stub ADDRESS COUNT FOLDER``."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from widegram.data.formats import Table
from widegram.workers.serving import Served
from widegram.workers.session import Request

KIND = "widegram_bench.worker_stub:Sleeping"


class Sleeping(Served):
    """Takes ``seconds`` for an item, whose result has ``bytes`` bytes."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds, self._size = seconds, size

    @classmethod
    def facts(cls, request: Request) -> tuple[str, str]:
        return "cpu", "sleeps"

    @classmethod
    def open(cls, request: Request, parcels: Mapping[str, list[Table]]) -> Sleeping:
        return cls(request["seconds"], request["bytes"])

    def described(self) -> dict[str, Any]:
        return {}

    def work(self, items: list[Any]) -> list[Any]:
        time.sleep(self._seconds * len(items))
        return [np.zeros(self._size, np.uint8) for _ in items]

    def close(self) -> None:
        """Nothing is held."""


async def _many(address: str, count: int, folder: str) -> None:
    import dask
    from distributed import Worker

    with dask.config.set({f"distributed.worker.memory.{k}": False for k in ("target", "spill")}):
        workers = [
            Worker(address, nthreads=1, memory_limit=0, local_directory=folder, dashboard=False)
            for _ in range(count)
        ]
        await asyncio.gather(*workers)
        shutil.rmtree(folder, ignore_errors=True)
        await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(_many(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
