"""``python -m virtual_card.forks``: programs for a virtual card, in forks of a process that has
imported everything but the driver, which a fork loads with settings of its own.

Reads lines of JSON, ``{"words": [CODE, ARGUMENT, ...], "environment": ..., "folder": FOLDER}``;
writes the number of the fork's process, and, when that has ended, its exit code. What it says goes
to the files ``out`` and ``err`` in the folder.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import h5py  # noqa: F401 - as all below

import widegram_cli.gram
import widegram_cli.preferences
import widegram_cli.start  # noqa: F401
from widegram.cuda.compiling import prepare_import


def _become(words: list[str], environment: dict[str, str], folder: str) -> str:
    """Make a fork look like a process of its own; the code that it is to run."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["-c", *words[1:]]
    return words[0]


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _forked() -> str:
    """Serve; in a fork, the code that it is to run. An end of the input ends the process."""
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        number = os.fork()
        if number == 0:
            return _become(**wanted)
        _say(number)
        _say(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
    raise SystemExit


if __name__ == "__main__":
    prepare_import()
    from numba import cuda  # noqa: F401

    # As the outermost code, whose end is that of the process.
    exec(compile(_forked(), "<string>", "exec"), {"__name__": "__main__"})
