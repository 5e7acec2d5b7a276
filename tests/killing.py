"""kill -9 at random moments, again and again, of something that works on a file."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable
from pathlib import Path

_FORK = multiprocessing.get_context("fork")


def kill_at_random(
    work: Callable[[Path], None], out: Path, kills: int, longest: float, left: Callable[[], bool]
) -> None:
    """Start ``work(out)`` until ``kills`` of them were killed within ``longest`` seconds.

    ``left`` checks what each leaves, and says whether it is half of the work. Where the machine is
    busy there are more kills than asked for, until one falls into the middle: one has to.
    """
    moments = random.Random(0)
    killed = partial = 0
    while killed < kills or (not partial and killed < 100):
        process = _FORK.Process(target=work, args=(out,))
        process.start()
        process.join(moments.uniform(0, longest))
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
        partial += left()
    assert partial > 0  # some kills did fall into the middle
