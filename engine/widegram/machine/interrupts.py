"""Being asked to stop: what a command leaves behind, what it finishes first, and when it is left.

Nothing here catches signals. :func:`request` says that one came, :func:`halt` that there is no
more time; the command line and :class:`widegram.machine.progress.StopRequest` call them. Work that
takes long says what a stop would leave (:func:`keeping`), what is worth finishing
(:func:`finishing`) and calls :func:`check` now and then. Compiled loops read the word at
:func:`halt_address`.

Whoever leaves a command by force, while it runs in another thread, calls the functions given to
:func:`cleaning` and prints :func:`report`: both must do without the locks of libraries.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

_HALT = array("q", [0])


class Stopped(KeyboardInterrupt):
    """Work left in the middle because a signal asked for it; the message is :func:`report`'s.

    No ordinary exception: what handles errors must not take it for one.
    """


@dataclass
class _Request:
    requested: bool = False
    saving: int = 0
    kept: list[Callable[[], str]] = field(default_factory=list)
    cleaners: list[Callable[[], None]] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    listening: bool = False
    written: list[str] = field(default_factory=list)


_state = _Request()


def listen() -> None:
    """This process is one command, of which :func:`report` tells."""
    _state.listening = True


def request() -> None:
    """Someone asks to stop."""
    _state.requested = True


def requested() -> bool:
    """Whether someone asked to stop: nothing new should be begun."""
    return _state.requested


def halt() -> None:
    """From here on :func:`check` raises and compiled loops return early."""
    _HALT[0] = 1


@contextmanager
def halting() -> Iterator[None]:
    """Inside, compiled loops return early."""
    before, _HALT[0] = _HALT[0], 1
    try:
        yield
    finally:
        _HALT[0] = before


def halt_address() -> int:
    """The address of a 64-bit integer that becomes 1 when loops shall return."""
    return _HALT.buffer_info()[0]


def resume() -> None:
    """Forget the request: a library call that was stopped has ended."""
    _state.requested = False
    _HALT[0] = 0


def check() -> None:
    """Raise :class:`Stopped` once there is no more time."""
    if _HALT[0]:
        raise Stopped(report())


@contextmanager
def _among(known: list[Any], one: Any) -> Iterator[None]:
    """Inside, ``one`` is among those that are known."""
    known.append(one)
    try:
        yield
    finally:
        known.remove(one)


def keeping(describe: Callable[[], str]) -> AbstractContextManager[None]:
    """Inside, a stop leaves what ``describe()`` says: one line, with how to go on."""
    return _among(_state.kept, describe)


def cleaning(clean: Callable[[], None]) -> AbstractContextManager[None]:
    """Inside, leaving the process by force calls ``clean()`` first."""
    return _among(_state.cleaners, clean)


@contextmanager
def saving() -> Iterator[None]:
    """Inside, finished work is being written: leaving by force waits for it."""
    _state.saving += 1
    try:
        yield
    finally:
        _state.saving -= 1


@dataclass(frozen=True)
class Work:
    """What is in work.

    * ``what``: its name
    * ``seconds()``: an estimate of those that it still takes
    * ``stoppable``: whether :func:`check` or compiled loops end it early
    """

    what: str
    seconds: Callable[[], float]
    stoppable: bool


def finishing(
    what: str, seconds: Callable[[], float] = lambda: inf, stoppable: bool = True
) -> AbstractContextManager[None]:
    """Inside, a stop may wait for ``what``, where it takes few seconds: see :class:`Work`."""
    return _among(_state.works, Work(what, seconds, stoppable))


def in_work() -> Work | None:
    """What a stop may wait for at present."""
    return _state.works[-1] if _state.works else None


def is_saving() -> bool:
    """Whether finished work is being written at present."""
    return _state.saving > 0


def wrote(path: object) -> None:
    """The file ``path`` appeared, whole."""
    if _state.listening and str(path) not in _state.written:
        _state.written.append(str(path))


def clean() -> None:
    """Do what :func:`cleaning` asks for, the last first; a failure there ends nothing."""
    for action in reversed(_state.cleaners):
        with suppress(Exception):  # Of anybody's action: the process ends, the next has its turn.
            action()


def report() -> str:
    """One line: what is saved and how to go on."""
    if _state.kept:
        return _state.kept[-1]()
    if _state.written:
        names = ", ".join(_state.written)
        return f"interrupted; written so far: {names}; run the same command again"
    return "interrupted; nothing was written, run the same command again"
