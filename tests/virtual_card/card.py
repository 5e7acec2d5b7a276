"""The stub driver compiled, and programs run with it in place of NVIDIA's."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_DRIVER = Path(__file__).with_name("driver")
_ROOT = Path(__file__).parents[2]


def lacking() -> str:
    """What a virtual card needs and this machine does not have; '' if nothing."""
    if shutil.which("cc") is None:
        return "a C compiler (cc)"
    missing = [name for name in ("numba_cuda", "cuda") if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} (pip install 'widegram[cuda]')" if missing else ""


@dataclass(frozen=True)
class VirtualCard:
    """``folder`` holds the driver, and the log of the last program; ``server``: of forks."""

    folder: Path
    server: subprocess.Popen[bytes]

    @property
    def log(self) -> list[str]:
        """A line for each copy, fill, launch and wait, and for each fault that was found."""
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines]

    @property
    def faults(self) -> list[str]:
        return [line for line in self.log if line.startswith("fault")]

    def environment(self, settings: dict[str, object]) -> dict[str, str]:
        """Variables of a program: ``settings`` are those of state.c, without VIRTUAL_CARD_."""
        own = {f"VIRTUAL_CARD_{key.upper()}": str(value) for key, value in settings.items()}
        return _environment(self.folder) | own

    def run(
        self, *arguments: object, seconds: float = 120, env: dict[str, str] | None = None,
        **settings: object,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run Python with these arguments and variables ``env``; ``-c`` in a fork."""
        (self.folder / "log").unlink(missing_ok=True)
        words, environment = [*map(str, arguments)], self.environment(settings) | (env or {})
        if words[0] == "-c":
            return self._forked(words, environment, seconds)
        return subprocess.run(
            [sys.executable, *words], env=environment,
            capture_output=True, text=True, timeout=seconds, check=False, cwd=_ROOT,
        )  # fmt: skip

    def _forked(
        self, words: list[str], environment: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Let the server run code in a fork."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        folder = str(self.folder)
        wanted = {"words": words[1:], "environment": environment, "folder": folder}
        self.server.stdin.write(json.dumps(wanted).encode() + b"\n")
        number = int(self.server.stdout.readline())
        if not select.select([self.server.stdout], [], [], seconds)[0]:
            os.kill(number, signal.SIGKILL)
            self.server.stdout.readline()
            raise subprocess.TimeoutExpired(words, seconds)
        code = int(self.server.stdout.readline())
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(words, code, out, err)

    def widegram(self, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        start = "from widegram_cli.start import main; main()"
        return self.run("-c", start, *arguments, **options)


@contextmanager
def virtual_card(folder: Path) -> Iterator[VirtualCard]:
    """Compile the driver into a folder, and be ready to run programs."""
    sources = sorted(_DRIVER.glob("*.c"))
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run(
        [*command, "-o", folder / "libcuda.so.1", *sources, "-ldl"], check=True, text=True
    )
    with subprocess.Popen(
        [sys.executable, "-m", "virtual_card.forks"], env=_environment(folder), cwd=_ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
    ) as server:  # fmt: skip
        yield VirtualCard(folder, server)


def _environment(folder: Path) -> dict[str, str]:
    """Variables by which a program finds the driver, the engine and the tests."""
    own = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    paths = [str(_ROOT / name) for name in ("engine", "cli", "bench", "tests")]
    before = os.environ.get("LD_LIBRARY_PATH")
    return {
        **own,
        "PYTHONPATH": os.pathsep.join(paths),
        "LD_LIBRARY_PATH": os.pathsep.join([str(folder), *([before] if before else [])]),
        "VIRTUAL_CARD_LOG": str(folder / "log"),
        "NUMBA_CACHE_DIR": "",  # read before a fork: compiled kernels lie in widegram's folder
    }
