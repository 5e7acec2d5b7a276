"""Child processes that end with a benchmark: when it is stopped, none of them runs on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from widegram.machine import interrupts

Finished = subprocess.CompletedProcess[str]


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process, leader of a group of its own; at the end, by whatever way, the group is killed.

    ``options`` as for :class:`subprocess.Popen`.
    """
    process = subprocess.Popen(command, start_new_session=True, **options)

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    with interrupts.cleaning(kill):
        try:
            yield process
        finally:
            kill()


def finished(
    command: list[str],
    given: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Finished:
    """What a process printed that read ``given``.

    Raises :class:`subprocess.TimeoutExpired` with what it printed until then.
    """
    pipe = subprocess.PIPE
    options = {"stdin": pipe if given is not None else subprocess.DEVNULL, "text": True}
    with started(command, stdout=pipe, stderr=pipe, env=env, **options) as process:
        try:
            out, err = process.communicate(given, timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise subprocess.TimeoutExpired(command, error.timeout, out, err) from None
    return Finished(command, process.returncode, out, err)
