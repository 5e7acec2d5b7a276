"""The stub driver compiled, and programs run with it in place of NVIDIA's."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
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
    """``folder`` holds the driver, and the log of the last program."""

    folder: Path

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
        own = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        paths = [str(_ROOT / name) for name in ("engine", "cli", "bench", "tests")]
        before = os.environ.get("LD_LIBRARY_PATH")
        return {
            **own,
            "PYTHONPATH": os.pathsep.join(paths),
            "LD_LIBRARY_PATH": os.pathsep.join([str(self.folder), *([before] if before else [])]),
            "VIRTUAL_CARD_LOG": str(self.folder / "log"),
            **{f"VIRTUAL_CARD_{key.upper()}": str(value) for key, value in settings.items()},
        }

    def run(
        self, *arguments: object, seconds: float = 120, env: dict[str, str] | None = None,
        **settings: object,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run Python with these arguments."""
        (self.folder / "log").unlink(missing_ok=True)
        return subprocess.run(
            [sys.executable, *map(str, arguments)], env=self.environment(settings) | (env or {}),
            capture_output=True, text=True, timeout=seconds, check=False, cwd=_ROOT,
        )  # fmt: skip

    def widegram(self, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        start = "from widegram_cli.start import main; main()"
        return self.run("-c", start, *arguments, **options)


def build(folder: Path) -> VirtualCard:
    """Compile the driver into a folder."""
    sources = sorted(_DRIVER.glob("*.c"))
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run(
        [*command, "-o", folder / "libcuda.so.1", *sources, "-ldl"], check=True, text=True
    )
    return VirtualCard(folder)
