"""Which planes of a program are computed at the same time.

Planes of one pair that run side by side read the same factors, which then come from the first-level
cache. Where a program pools, each plane adds to pooled planes in memory, so that those computed at
the same time must add to different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from widegram.plan.graph import Pair

Ints = NDArray[np.int64]
# Strides (the windows tile the image) and pooled shape.
Tiling = tuple[Pair, Pair]
# Idle places that more planes at once may cost, as a share of all.
_IDLE = 0.01


def rounds(base: Ints, pools: Sequence[Tiling], width: int) -> Ints:
    """Rounds of at most ``width`` base displacements (n, 2): positions in ``base``, shape
    (rounds, width), -1 where there is none.

    In a round no two planes add to the same plane of a pool.
    """
    taken: list[int] = []
    members: list[list[int]] = []
    open_: list[int] = []
    for n, d in enumerate(base):
        mask = _targets(d, pools)
        for at in open_:
            if not taken[at] & mask:
                break
        else:
            at = len(members)
            taken.append(0)
            members.append([])
            open_.append(at)
        taken[at] |= mask
        members[at].append(n)
        if len(members[at]) == width:
            open_.remove(at)
    found = np.full((len(members), width), -1, dtype=np.int64)
    for at, round_ in enumerate(members):
        found[at, : len(round_)] = round_
    return found


def most_at_once(base: Ints, pools: Sequence[Tiling], lanes: int, limit: int) -> int:
    """How many times ``lanes`` planes to compute at once: the most, up to ``limit``, that leave
    hardly more places idle than ``lanes`` planes do."""
    alone = rounds(base, pools, lanes).size
    for times in range(limit, 1, -1):
        if rounds(base, pools, times * lanes).size <= (1 + _IDLE) * alone:
            return times
    return 1


def _targets(d: Ints, pools: Sequence[Tiling]) -> int:
    """The pooled planes that displacement ``d`` adds to, as bits."""
    mask = at = 0
    for strides, shape in pools:
        rows, cols = (
            {(int(d[axis]) + tap) // strides[axis] % shape[axis] for tap in range(strides[axis])}
            for axis in (0, 1)
        )
        for row, col in product(rows, cols):
            mask |= 1 << (at + row * shape[1] + col)
        at += shape[0] * shape[1]
    return mask
