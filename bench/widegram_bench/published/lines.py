"""Lines of a shell that rows are made of, run as they are printed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from widegram.durable import write_bytes
from widegram.errors import WidegramError
from widegram_bench import child
from widegram_bench.published.sources import DataPlace

Result = dict[str, Any]
RunOne = Callable[[str, Path], Result]
_DISK_BLOCK = 512  # bytes, whatever the file system: POSIX
_PROGRAMS = {"widegram": ["-m", "widegram_cli"], "python": []}


def run_line(line: str, folder: Path) -> Result:
    """What a line prints as JSON, run in ``folder`` by this Python; its messages pass to stderr.

    Raises WidegramError where it fails, or prints no JSON object.
    """
    name, *arguments = shlex.split(line)
    command = [sys.executable, *_PROGRAMS[name], *arguments]
    if name == "widegram":
        command.append("--json")
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": path}
    with child.started(command, cwd=folder, env=env, **options) as process:
        printed = process.communicate()[0]
    if process.returncode:
        raise WidegramError(f"`{line}` ended with {process.returncode}; what it said is above")
    try:
        found = json.loads(printed)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise WidegramError(f"`{line}` printed no JSON object")
    return found


class Folder:
    """A folder with links to sources, in which lines are run once each: what they found is kept in
    ``done.json``. What is there of other sources goes.

    After a kill the line that was under way is run again. It finds what it wrote itself: a Gram
    file is gone on with, any other output is taken away first.
    """

    def __init__(self, path: Path, used: Sequence[DataPlace] = (), run: RunOne = run_line) -> None:
        self._path, self._run, self._list = path, run, path / "done.json"
        self._sources = {source.path.name: source.digest for source in used}
        kept = _kept(self._list)
        if kept and kept.get("sources") != self._sources:
            shutil.rmtree(path)
            kept = {}
        self._done: dict[str, Result] = kept.get("lines", {})
        path.mkdir(parents=True, exist_ok=True)
        for source in used:
            (path / source.path.name).unlink(missing_ok=True)
            (path / source.path.name).symlink_to(source.path)

    def result(self, line: str) -> Result:
        """What ``line`` finds, now or before."""
        if line not in self._done:
            self._clear(shlex.split(line))
            self._done[line] = self._run(line, self._path)
            text = json.dumps({"sources": self._sources, "lines": self._done}, indent=1)
            write_bytes(self._list, text.encode(), overwrite=True)
        return self._done[line]

    def _clear(self, words: list[str]) -> None:
        if "--out" in words and "gram" not in words:
            (self._path / words[words.index("--out") + 1]).unlink(missing_ok=True)


def held(folder: Path) -> int:
    """Bytes of disk that the files of a folder take; 0 where there is none."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sum(file.lstat().st_blocks * _DISK_BLOCK for file in files)


def _kept(path: Path) -> dict[str, Any]:
    """What ``done.json`` holds: digests of sources, results of lines; nothing where it is absent or
    no such file."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
