"""Making the system calls of :mod:`widegram.durable.calls` fail, or kill, or be recorded."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from widegram.durable import calls

CHANGING = (
    "create", "open_for_update", "write", "allocate", "sync", "sync_data", "rename", "unlink",
    "sync_directory",
)  # fmt: skip
Hook = Callable[[int, str, tuple[Any, ...]], None]


def hook_calls(patch: pytest.MonkeyPatch, before: Hook, after: Hook | None = None) -> list[int]:
    """Let ``before(number, name, arguments)`` see every call that changes files, from 1 on, and
    ``after`` those that succeeded; returns a list that holds the number of calls so far."""
    count = [0]

    def wrap(name: str) -> None:
        real = getattr(calls, name)

        def call(*arguments: Any) -> Any:
            count[0] += 1
            number = count[0]
            before(number, name, arguments)
            result = real(*arguments)
            if after is not None:
                after(number, name, (*arguments, result))
            return result

        patch.setattr(calls, name, call)

    for name in CHANGING:
        wrap(name)
    return count


def count_calls(act: Callable[[], object]) -> int:
    """How many calls that change files ``act()`` makes."""
    with pytest.MonkeyPatch.context() as patch:
        count = hook_calls(patch, lambda *_: None)
        act()
    return count[0]


def failing(at: int, error: int, sticky: bool) -> Hook:
    """The call ``at`` fails with the number ``error``; with ``sticky`` all later ones too."""

    def hook(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number == at or (sticky and number > at):
            raise OSError(error, os.strerror(error))

    return hook


def killing(at: int, half: bool) -> Hook:
    """The process is killed at the call ``at``: before it, or ``half`` way through a write."""

    def hook(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if number == at:
            if half and name == "write":
                descriptor, data, offset = arguments
                view = memoryview(data).cast("B")
                os.pwrite(descriptor, view[: len(view) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def in_a_child(act: Callable[[], object], before: Hook) -> int:
    """The exit status of a forked process that runs ``act()`` with hooked calls."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                hook_calls(patch, before)
                act()
            os._exit(0)
        except BaseException:  # A forked child must not go on as pytest.
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Disk:
    """What a disk may hold after a power failure, from the calls of one run that creates ``path``.

    A page (4 KiB) that was written and not synced holds its old bytes or those after any of its
    writes; a rename whose directory was not synced may not have happened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.operations: list[tuple[str, int, bytes]] = []

    def record(self, patch: pytest.MonkeyPatch) -> None:
        """Record from now on."""

        def after(number: int, name: str, arguments: tuple[Any, ...]) -> None:
            if name == "write":
                _, data, offset, _ = arguments
                self.operations.append((name, offset, bytes(memoryview(data).cast("B"))))
            elif name == "allocate":
                self.operations.append((name, arguments[1], b""))
            else:
                self.operations.append((name, 0, b""))

        hook_calls(patch, lambda *_: None, after)

    def state(self, upto: int, random: Any) -> bytes | None:
        """The file's bytes if the power fails after ``upto`` operations; None: no such name."""
        content, durable = bytearray(), bytearray()
        versions: dict[int, list[bytes]] = {}
        named = synced = False
        for name, offset, data in self.operations[:upto]:
            if name == "allocate":
                content.extend(bytes(max(0, offset - len(content))))
            elif name == "write":
                content[offset : offset + len(data)] = data
                for page in range(offset >> 12, (offset + len(data) - 1 >> 12) + 1):
                    kept = versions.setdefault(page, [])
                    kept.append(bytes(content[page << 12 : (page + 1) << 12]))
            elif name in ("sync", "sync_data"):
                durable, versions = bytearray(content), {}
            elif name == "rename":
                named = True
            elif name == "sync_directory":
                synced = named
        if not named or (not synced and random.random() < 0.5):
            return None
        share = random.choice((0.1, 0.5, 0.9))
        for page, kept in versions.items():
            if random.random() < share:
                chosen = random.choice(kept)
                durable[page << 12 : (page << 12) + len(chosen)] = chosen
        return bytes(durable)
