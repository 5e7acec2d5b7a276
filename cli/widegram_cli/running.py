"""A command under signals: it works in a thread while the main thread waits for it or a signal.

Python handles signals in the main thread alone, and only between its own instructions; so the main
thread does nothing else, and the command may be inside a library for as long as it likes. The
first SIGINT, SIGTERM or SIGHUP asks it to stop (:mod:`widegram.machine.interrupts`) and says what
is waited for; if it has not ended in time, or with a second one, the process is left.
"""

from __future__ import annotations

import atexit
import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from widegram.machine import interrupts
from widegram_cli.streams import lost, say

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FINISH_SECONDS = 3.0  # What takes no longer is finished.
_STOP_SECONDS = 2.0  # Then for the command to notice and to tidy up.
_SAVE_SECONDS = 60.0  # Finished work that is being written has this long.
_SAME_SECONDS = 0.1  # `timeout` and shells send one signal to the process and to its group.
_POLL_SECONDS = 0.1
_SHORT_SECONDS = 1.0  # Until then most of what is made are modules, which stay: no garbage.
_STACK = 16 << 20  # Threads have 2 MB where the main one has no limit: too little for LLVM.


class Guard:
    """Asks to stop at the first signal, and leaves the process when the time is over."""

    def __init__(self) -> None:
        self._asked_at = self._halt_at = self._leave_at = math.inf

    def listen(self) -> None:
        """From here on signals come to this guard; a hang-up that is ignored stays ignored."""
        interrupts.listen()
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def tick(self) -> None:
        """Do what is due by now."""
        now = time.monotonic()
        if now >= self._halt_at:
            interrupts.halt()
        late = now - self._leave_at
        if late >= 0 and not (interrupts.is_saving() and late < _SAVE_SECONDS):
            leave(interrupts.report())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now, work = time.monotonic(), interrupts.in_work()
        if interrupts.requested():
            if now > self._asked_at + _SAME_SECONDS:
                leave(interrupts.report())
            return
        interrupts.request()
        self._asked_at = now
        seconds = 0.0 if work is None else work.seconds()
        if work is None:
            self._halt_at, done = now, f"stopping, at most {_STOP_SECONDS:.0f} s"
        elif seconds <= _FINISH_SECONDS:
            self._halt_at = now + _FINISH_SECONDS
            done = f"finishing {work.what}, at most {_FINISH_SECONDS + _STOP_SECONDS:.0f} s"
        elif work.stoppable:
            self._halt_at, done = now, f"leaving {work.what}, at most {_STOP_SECONDS:.0f} s"
        else:
            self._halt_at = now + 2 * seconds
            done = f"finishing {work.what}, about {math.ceil(min(seconds, 1e6))} s"
        self._leave_at = self._halt_at + _STOP_SECONDS
        say(f"widegram: interrupted: {done}; once more to end at once")
        self.tick()


def leave(line: str) -> NoReturn:
    """End the process now: tidy up, as far as that takes no time, and say the line."""
    cleaner = threading.Thread(target=interrupts.clean, daemon=True)
    try:
        cleaner.start()
        cleaner.join(1.0)
    except RuntimeError:
        interrupts.clean()
    say(f"widegram: error: {line}")
    os._exit(INTERRUPTED)


def run(work: Callable[[], int], guard: Guard) -> int:
    """The exit code of ``work()``, run in a thread under a listening ``guard``.

    Where no thread can be started it runs here, and the first signal leaves the process.
    """
    codes: list[int] = []
    ended = threading.Event()

    def target() -> None:
        try:
            codes.append(work())
        finally:
            ended.set()

    threading.stack_size(_STACK)
    thread = threading.Thread(target=target, name="command", daemon=True)
    began = time.monotonic()
    try:
        thread.start()
        gc.disable()
    except RuntimeError:
        for number in _SIGNALS:
            signal.signal(number, lambda *_: leave(interrupts.report()))
        return work()
    finally:
        threading.stack_size(0)
    while not ended.wait(_POLL_SECONDS):
        guard.tick()
        if time.monotonic() - began > _SHORT_SECONDS:
            gc.enable()
    gc.enable()
    return codes[0] if codes else 1


def end(code: int) -> NoReturn:
    """Leave with ``code``; after a failure or a stop nothing else gets a chance to fail or wait."""
    for number in _SIGNALS:  # All is done; Python would restore their fatal actions.
        signal.signal(number, signal.SIG_IGN)
    problem = lost()
    if problem is not None:
        say(f"widegram: error: {problem}")
        code = code or 2
    sys.stderr.flush()
    if code == 0:
        # No public function does this and no more: a handler that leaves would cut off those that
        # were registered before it, and Python's own way out takes libraries apart, any of which
        # may wait or fail once all is done.
        atexit._run_exitfuncs()
    os._exit(code)
