"""Commands as processes that get signals. Waiting has generous limits, to find hangs alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from widegram_cli import running

HANG_SECONDS = 120
SHORT_SECONDS = 0.6  # for a process to stop, where it will not
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cli(*arguments: object) -> list[str]:
    """The command line of a process that runs ``widegram``."""
    return [sys.executable, "-m", "widegram_cli", *map(str, arguments)]


def guarded(body: str, stop: float = running._STOP_SECONDS) -> list[str]:
    """The command line of a process that runs ``body`` as a command does: under a guard.

    The body prints "ready" once a signal may come; its value of ``code`` is the exit code. It has
    ``stop`` seconds to notice that it is to stop.
    """
    script = f"""
import sys, time
from widegram.machine import interrupts
from widegram_cli import running, streams
def work():
    code = 0
{textwrap.indent(textwrap.dedent(body), "    ")}
    return code
def program():
    from widegram_cli.failures import exit_code_of
    try:
        return work()
    except BaseException as error:  # as in main.py
        return exit_code_of(error)
streams.secure()
running._STOP_SECONDS = {stop}
guard = running.Guard()
guard.listen()
running.end(running.run(program, guard))
"""
    return [sys.executable, "-c", script]


def start(arguments: list[str], **options: object) -> subprocess.Popen[str]:
    """Start with pipes; stdout and stderr are text."""
    return subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        **{"preexec_fn": _heeding, **options},
    )


def _heeding() -> None:
    """The signals' default actions, also where the tests themselves run under nohup."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def listening(process: subprocess.Popen[str]) -> None:
    """Wait until SIGTERM has a handler: before Python is up it has its default action."""
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "SigCgt" and int(value, 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.005)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit code and lines on stderr."""
    try:
        _, err = process.communicate(timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, err.splitlines()


def litter(folder: Path) -> list[str]:
    """Files that only a run in work may have."""
    return [path.name for path in folder.rglob("*") if path.suffix in (".part", ".tmp")]
