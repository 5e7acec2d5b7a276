"""Workers that come and go cheaply: forked from a process that has imported everything already.

That process waits for none of them, so that no number of a dead one becomes another process's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

from widegram.machine.progress import Progress
from widegram.workers.local import _environment

_LEAST, _MOST = 2, 6  # workers that run, stopped ones among them
_SERVER = """
import os, sys
import distributed, fake_served, widegram.computing.filling, widegram.workers.process as process

life, held = os.pipe()  # Ends with this process.
for _ in iter(sys.stdin.readline, ""):
    number = os.fork()
    if not number:
        os.dup2(life, 0)
        os.close(held)
        process.main()
    print(number, flush=True)
"""


class Herd:
    """Workers of one thread each, of the scheduler at ``address``."""

    def __init__(self, address: str, folder: Path, count: int) -> None:
        environment = _environment()
        environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, address, "1", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, text=True,
        )  # fmt: skip
        self.running: list[int] = []
        self.stopped: list[int] = []
        for _ in range(count):
            self.join()

    def join(self) -> None:
        """One more."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write("\n")
        self._server.stdin.flush()
        self.running.append(int(self._server.stdout.readline()))

    def kill(self, number: int) -> None:
        """One less, stopped or not."""
        os.kill(number, signal.SIGKILL)
        for where in (self.running, self.stopped):
            with suppress(ValueError):
                where.remove(number)

    def stop(self, number: int) -> None:
        """It says nothing more, until it goes on."""
        os.kill(number, signal.SIGSTOP)
        self.stopped.append(number)

    def go_on(self, number: int) -> None:
        """It was stopped."""
        os.kill(number, signal.SIGCONT)
        self.stopped.remove(number)

    def close(self) -> None:
        """End them all."""
        for number in list(self.running):
            self.kill(number)
        self._server.kill()
        self._server.communicate()


class Chaos:
    """Kills, stops, continues and joins workers of a herd, ``events`` times in a run that tells it
    of its progress: so often between its begin and its end, however slow the machine is."""

    def __init__(self, herd: Herd, events: int, seed: int) -> None:
        self.events: list[str] = []
        self._herd, self._draw, self._wanted = herd, Random(seed), events
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        """A callback of the run."""
        while len(self.events) < self._wanted and progress.done >= self._next * progress.total:
            self.events.append(self._event())
            # On the average the last event comes at nine tenths.
            self._next += 0.9 * 2 * self._draw.random() / self._wanted

    def _event(self) -> str:
        herd, draw = self._herd, self._draw
        awake = [number for number in herd.running if number not in herd.stopped]
        can = ["join"] * (len(herd.running) < _MOST) + ["go on"] * bool(herd.stopped)
        can += ["kill"] * (len(herd.running) > _LEAST and len(awake) > 1)
        can += ["stop"] * (len(awake) > 1)
        event = draw.choice(can)
        if event == "join":
            herd.join()
        elif event == "kill":
            one = draw.choice(herd.running)
            herd.kill(one)
        elif event == "stop":
            herd.stop(draw.choice(awake))
        else:
            herd.go_on(draw.choice(herd.stopped))
        return event
