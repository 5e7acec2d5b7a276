"""Running commands in forks of a warm interpreter, with faults injected into their system calls.

A campaign is a function of a folder and options, given to :func:`start`. It calls
:meth:`Runner.run`, whose child unwinds to :func:`start` and there runs the command as the console
script does, so that it leaves the process by the same way out.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WRITE, SIZE, SYNC, NAME, CREATE = 1, 2, 4, 8, 16
ALL = WRITE | SIZE | SYNC | NAME | CREATE
COUNT, KILL, KILL_HALF_WAY, FAIL = 1, 2, 3, 4
TIMEOUT = 120.0  # seconds that no command here comes near


@dataclass(frozen=True)
class Fault:
    """What happens at the ``at``-th operation of the kinds in ``mask``, under the folder."""

    mode: int = COUNT
    at: int = 0
    error: int = 0
    sticky: bool = False
    mask: int = ALL


@dataclass(frozen=True)
class Ended:
    """How a command ended: ``code`` is minus the signal that killed it."""

    code: int
    out: str
    err: str
    seconds: float
    operations: int
    hung: bool

    @property
    def traceback(self) -> bool:
        """Whether Python's own words reached the user."""
        return "Traceback (most recent" in self.err or "Exception ignored" in self.err

    @property
    def line(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1][:300]


class _Child(BaseException):
    """Raised in a forked child to leave the campaign's functions."""


class Runner:
    """Starts commands in ``folder``; operations on files under it are counted or fail."""

    def __init__(self, folder: Path, shim: Any) -> None:
        self.folder = folder
        self._shim = shim
        self._logs = folder.parent / "logs"
        self._logs.mkdir(exist_ok=True)

    def empty(self) -> None:
        """Remove everything in the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def run(
        self,
        words: Sequence[str],
        fault: Fault | None = None,
        prepare: Callable[[], None] | None = None,
        kill_after: float | None = None,
    ) -> Ended:
        """Run ``widegram`` with these words, to its end or for ``kill_after`` seconds."""
        out, err = (self._logs / f"{os.getpid()}.{name}" for name in ("out", "err"))
        if self._shim is not None:
            wanted = fault or Fault()
            self._shim.shim_set(
                os.fsencode(f"{self.folder}/"), wanted.mode, wanted.at, wanted.error,
                int(wanted.sticky), wanted.mask,
            )  # fmt: skip
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(words, out, err, prepare)
        if self._shim is not None:
            self._shim.shim_mode(0)
        return self._waited(pid, out, err, kill_after)

    def _become(
        self, words: Sequence[str], out: Path, err: Path, prepare: Callable[[], None] | None
    ) -> NoReturn:
        os.setsid()
        for number, path in ((1, out), (2, err)):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self.folder)
        if prepare is not None:
            prepare()
        sys.argv = ["widegram", *map(str, words)]
        raise _Child

    def _waited(self, pid: int, out: Path, err: Path, kill_after: float | None) -> Ended:
        began, hung = time.monotonic(), False
        limit = TIMEOUT if kill_after is None else kill_after
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() - began > limit:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                hung = kill_after is None
                break
            time.sleep(0.002)
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err)]
        operations = 0 if self._shim is None else int(self._shim.shim_count())
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, *texts, time.monotonic() - began, operations, hung)


def arguments(description: str, count: int) -> argparse.Namespace:
    """The options that every campaign takes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--count", type=int, default=count, help="cases")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--only", default="", help="commands or kinds whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def start(campaign: Callable[[Runner, Path, argparse.Namespace], int], options: Any) -> NoReturn:
    """Run a campaign in a folder of its own, with the shim where there is a compiler; exit."""
    _preload()
    folder = Path(os.environ["WIDEGRAM_CAMPAIGN_FOLDER"])
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"]) if os.environ.get("LD_PRELOAD") else None
    if shim is not None:
        shim.shim_set.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, *[ctypes.c_int] * 3]
        shim.shim_count.restype = ctypes.c_long
    _warm()
    (folder / "work").mkdir()
    parent = os.getpid()
    try:
        code = campaign(Runner(folder / "work", shim), folder, options)
    except _Child:
        from widegram_cli.start import main

        main()
        raise SystemExit(0) from None
    finally:
        if os.getpid() == parent:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(code)


def _preload() -> None:
    """Start this script again with the shim loaded, once; without a compiler say so, exit 77."""
    if "WIDEGRAM_CAMPAIGN_FOLDER" in os.environ:
        return
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    folder = Path(tempfile.mkdtemp(prefix="widegram-campaign-"))
    if compiler is None:
        sys.stderr.write("skipped: no C compiler\n")
        raise SystemExit(77)
    shim = folder / "shim.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), str(HERE / "shim.c")], check=True
    )
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "NUMBA", "MKL")}
    roots = [str(ROOT / part) for part in ("engine", "cli", "bench")]
    path = os.pathsep.join([str(HERE.parent), *roots])
    os.environ.update(threads, WIDEGRAM_CAMPAIGN_FOLDER=str(folder), LD_PRELOAD=str(shim))
    os.environ["PYTHONPATH"] = path
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.execv(sys.executable, [sys.executable, *sys.argv])


def _warm() -> None:
    """Import what the commands import, so that a child starts at once."""
    from widegram_cli.main import COMMANDS

    for place, _ in COMMANDS.values():
        importlib.import_module(place)
    for name in _MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


_MODULES = (
    "h5py", "scipy.linalg", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "matplotlib.font_manager", "widegram.verifying.verify", "widegram.computing.gram",
    "widegram.cpu.evaluator",
    "widegram.linalg.jobs", "widegram.linalg.spectrum",
    "widegram.linalg.spectrumfile", "widegram.linalg.spectrumplot",
    "widegram.meanfield.experiments.phase", "widegram.meanfield.experiments.plots",
    "widegram.meanfield.experiments.sweepfile", "widegram.meanfield.experiments.training",
    "widegram.predict.predicting", "widegram.gramfile.exporting", "widegram.verifying.file_kinds",
)  # fmt: skip


def report(name: str, counts: dict[str, Any], bad: Sequence[str], as_json: bool) -> int:
    """Print what was counted, and what was wrong; 1 if anything was."""
    if as_json:
        print(json.dumps({"campaign": name, **counts, "bad": list(bad)}))
    else:
        for key, value in counts.items():
            print(f"{key}: {value}")
        for line in bad:
            print(f"WRONG {line}")
    return int(bool(bad))
