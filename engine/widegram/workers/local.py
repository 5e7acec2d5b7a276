"""Worker processes on this machine, for the time of one run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import widegram
from widegram.closing import ClosedOnFailure, Closing
from widegram.errors import WidegramError, one_line

# Processes that end sooner than this, one after another, will not come up.
_YOUNG_SECONDS = 20.0
_MOST_FAILURES = 5
# Linear algebra has one thread, as Dask's own workers have it: bits may depend on that.
_LIBRARIES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


class LocalProcesses(Closing):
    """``count`` workers with ``threads`` threads each, of the scheduler at ``address``.

    One that ends is started anew. They end with this process, whatever ends it, and leave nothing
    behind (:mod:`widegram.workers.process`).
    """

    def __init__(self, address: str, count: int, threads: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="widegram-workers-")
        self._command = [
            sys.executable, "-m", "widegram.workers.process", address, str(threads), self._folder,
        ]  # fmt: skip
        self._environment = _environment()
        self._failures = 0
        self._errors: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - for their life
        self._running: list[tuple[subprocess.Popen[bytes], float]] = []
        with ClosedOnFailure(self):
            for _ in range(count):
                self._running.append(self._start())

    @property
    def numbers(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process, _ in self._running]

    def tend(self) -> None:
        """Start what has ended anew; raises :class:`WidegramError` where they end at once."""
        for place, (process, begun) in enumerate(self._running):
            if process.poll() is None:
                continue
            young = time.monotonic() - begun < _YOUNG_SECONDS and process.returncode >= 0
            self._failures = self._failures + 1 if young else 0
            if self._failures >= _MOST_FAILURES:
                raise WidegramError(f"dask: worker processes do not start here: {self._last()}")
            _give_up(process)
            self._running[place] = self._start()

    def close(self) -> None:
        """End them all; nothing that they hold matters."""
        for process, _ in self._running:
            with suppress(OSError):
                process.kill()
        for process, _ in self._running:
            _give_up(process)
        self._running.clear()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> tuple[subprocess.Popen[bytes], float]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=self._environment,
            start_new_session=True,  # A terminal's Ctrl-C is for the run alone.
        )
        return process, time.monotonic()

    def _last(self) -> str:
        """The last line that they said."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1]) if lines else "they end without a word"


def _give_up(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    process.wait()


def _environment() -> dict[str, str]:
    """The variables of this process, with this program to be found."""
    home = str(Path(widegram.__file__).parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | dict.fromkeys(_LIBRARIES, "1") | {"PYTHONPATH": path}
