"""Running commands in this process: what they say, what they write, and that they end well."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from campaigns import commands
from widegram_cli.main import program

CPU_SECONDS, SECONDS = 20, 120  # that no command here comes near
_TIMES = {"seconds", "entries_per_second", "trial_seconds", "compile_seconds", "free_disk",
          "memory", "flops", "read", "profile"}  # fmt: skip
_LAID = ("empty.h5", "empty.npy", "text.h5")
_TIME = re.compile(r"[\d.,]+ ?(s|ms|min|entries/s|GFLOP/s|\w?B/s)\b")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: ``answer`` is what it printed and wrote, without times; ``changed`` the
    files that differ from before, of a failure."""

    code: int
    out: str
    err: str
    traceback: str
    changed: Sequence[str]
    answer: Any = field(repr=False, default=None)

    @property
    def line(self) -> str:
        """The last line on stderr, or of the traceback."""
        return ((self.traceback or self.err).strip().splitlines() or [""])[-1]

    def wrong(self, codes: Sequence[int]) -> list[str]:
        """What is wrong with the end, in words."""
        if self.traceback:
            return ["traceback" if self.code >= 0 else "hangs"]
        found = [] if self.code in codes else [f"exit code {self.code}"]
        if self.code:
            lines = self.err.splitlines()
            errors = [line for line in lines if line.startswith("widegram: error: ")]
            others = [line for line in lines if not line.startswith("widegram: ")]
            if len(errors) != 1 or others:
                found.append(f"{len(errors)} error lines and {len(others)} others")
            if self.changed:
                found.append(f"left {', '.join(self.changed)}")
        return found


class _TooLong(BaseException):
    """A command that hangs."""


class Inside:
    """Runs commands in ``folder``, beside the folder ``base`` of good inputs, which none may
    change."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, folder.parent / "base"
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, _too_long)

    def run(
        self,
        words: Sequence[str],
        laid: Mapping[str, bytes | Path] | None = None,
        keep: bool = False,
        prepare: Callable[[], None] | None = None,
    ) -> Outcome:
        """Run ``widegram`` with these words, these files in its folder; ``keep`` the answer."""
        making = laid is None  # the folder of good inputs is being filled
        self._fill(laid or {})
        before = {} if making else self._state()
        with contextlib.chdir(self.folder):
            _limit(CPU_SECONDS, SECONDS)
            try:
                result = CliRunner().invoke(program, [str(word) for word in words])
            except _TooLong as error:
                return Outcome(-1, "", "", str(error), ())
            finally:
                _limit(0, 0)
        error = result.exception
        known = error is None or isinstance(error, SystemExit)
        text = "" if known else "".join(traceback.format_exception(error))
        after = {} if making else self._state()
        names = sorted({name for name, _ in before.items() ^ after.items()})
        if result.exit_code == 0:
            names = [name for name in names if name.startswith("base")]
        answer = self._answer(result.stdout) if keep and not result.exit_code else None
        return Outcome(result.exit_code, result.stdout, result.stderr, text, names, answer)

    def _fill(self, laid: Mapping[str, bytes | Path]) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        (self.folder / "folder").mkdir()
        for name in ("pipe", "pipe.h5", "pipe.npy"):
            os.mkfifo(self.folder / name)
        (self.folder / "loop.h5").symlink_to("loop.h5")
        (self.folder / "link-to-nowhere").symlink_to("nowhere")
        for name in _LAID:
            (self.folder / name).write_text("no HDF5 file at all" if "text" in name else "")
        for name, content in laid.items():
            if isinstance(content, Path):
                shutil.copy2(content, self.folder / name)
            else:
                (self.folder / name).write_bytes(content)

    def _state(self) -> dict[str, Any]:
        """Names below both folders, with what tells one content from another."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[str, Any]]:
        for root in (self.folder, self.base):
            for place, folders, names in os.walk(root):
                for name in (*folders, *names):
                    path = Path(place, name)
                    about = path.lstat()
                    mark = (about.st_mtime_ns, about.st_size, about.st_ino)
                    yield f"{root.name}/{path.relative_to(root)}", path.is_file() and mark

    def _answer(self, out: str) -> Any:
        """What was printed, and the content of what was written, without times."""
        try:
            said = _timeless(json.loads(out))
        except ValueError:
            said = _TIME.sub("", out)
        made = (path for path in self.folder.iterdir() if path.name not in _LAID)
        return said, {path.name: commands.content(path) for path in made if path.is_file()}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in _TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _limit(cpu: float, wall: float) -> None:
    """Raise :class:`_TooLong` after that many seconds; 0: never."""
    signal.setitimer(signal.ITIMER_PROF, cpu)
    signal.setitimer(signal.ITIMER_REAL, wall)


def _too_long(number: int, frame: object) -> None:
    raise _TooLong(f"takes too long ({signal.Signals(number).name})")
