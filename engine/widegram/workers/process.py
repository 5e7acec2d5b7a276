"""``python -m widegram.workers.process ADDRESS THREADS FOLDER``: a worker of a run on this machine.

It ends with the process that started it, whatever ends that: its standard input is a pipe which
only that process holds. It leaves no file: what Dask makes in FOLDER is removed as soon as the
worker runs, FOLDER when that process is gone, and results stay in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import threading

_SET_PARENT_DEATH_SIGNAL = 1
_PARENT_SECONDS = 1.0


def _end_with_parent(folder: str) -> None:
    """Leave when standard input ends."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _wake_with_parent() -> None:
    """A worker that was stopped goes on when its parent dies, and then sees that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGCONT)


async def _serve(address: str, threads: int, folder: str) -> None:
    import dask
    from distributed import Worker

    memory = {f"distributed.worker.memory.{k}": False for k in ("target", "spill", "pause")}
    with dask.config.set({**memory, "distributed.comm.timeouts.connect": "10s"}):
        worker = await Worker(
            address, nthreads=threads, memory_limit=0, local_directory=folder,
            dashboard=False, dashboard_address=":0",
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
        await worker.finished()


def main() -> None:
    """Serve until the scheduler or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    address, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    _wake_with_parent()
    watch = threading.Thread(target=_end_with_parent, args=(folder,), daemon=True)
    watch.start()
    own = os.path.join(folder, str(os.getpid()))
    try:
        asyncio.run(_serve(address, threads, own))
    finally:
        shutil.rmtree(own, ignore_errors=True)
        watch.join(_PARENT_SECONDS)  # The scheduler may have gone with the parent.
        os._exit(0)


if __name__ == "__main__":
    main()
