"""Which planes of a program are worked on at the same time.

Planes of one pair that run side by side read the same factors, which then come from the first-level
cache. Where a program pools, each plane adds to pooled planes in memory, without order, so that
those that run side by side must add to different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.plan.steps import Pooling, Step

Displacement = tuple[int, int]
# Idle places that more planes at once may cost, as a share of all.
_IDLE = 0.01


def together(
    base: NDArray[np.int64], planes: int, steps: Sequence[Step]
) -> list[list[Displacement]]:
    """Displacements in groups of up to ``planes`` that may be worked on side by side: no two of
    them add to the same pooled plane, because threads do so without order."""
    pools = [step for step in steps if isinstance(step, Pooling)]
    done: list[list[Displacement]] = []
    open_: list[tuple[list[Displacement], set[Any]]] = []
    for dy, dx in base.tolist():
        targets = {(step.node, *to) for step in pools for to in pooled(step, dy, dx)}
        found = next((n for n, (_, used) in enumerate(open_) if used.isdisjoint(targets)), None)
        if found is None:
            found = len(open_)
            open_.append(([], set()))
        group, used = open_[found]
        group.append((dy, dx))
        used |= targets
        if len(group) == planes:
            done.append(open_.pop(found)[0])
    return [*done, *(group for group, _ in open_)]


def most_at_once(base: NDArray[np.int64], steps: Sequence[Step], planes: int, limit: int) -> int:
    """How many times ``planes`` planes to work on at once: the most, up to ``limit``, that leave
    hardly more of them idle than once does."""
    alone = planes * len(together(base, planes, steps))
    for times in range(limit, 1, -1):
        if times * planes * len(together(base, times * planes, steps)) <= (1 + _IDLE) * alone:
            return times
    return 1


def pooled(step: Pooling, dy: int, dx: int) -> set[Displacement]:
    """Displacements of the pooled planes that the plane at (dy, dx) adds to."""
    (sy, sx), (oh, ow) = step.pool.strides, step.store.shape
    axes = ((dy, sy, oh), (dx, sx, ow))
    rows, columns = ({(d + tap) // s % o for tap in range(s)} for d, s, o in axes)
    return {(a, b) for a in rows for b in columns}
