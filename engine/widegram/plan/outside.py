"""Which images meet variances outside the floating point range, and how much that matters.

Values are kept in range by :mod:`widegram.plan.scales`, but not every network can be: an erf of
variance 1e-40 is none of float32's numbers, and one pixel may be 1e-30 times another. What is lost
below the range is harmless where a bias or another branch is larger by far. So a part of each
image's result is counted as lost: 1 where its whole variance is below the range, and from there on
what that value contributes to the next ones, at d = 0.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from widegram.machine.dtypes import FLOOR
from widegram.plan.formulas import FactorLayout
from widegram.plan.operation_base import Operation
from widegram.plan.plan import Plan
from widegram.plan.seen import Array, Centre, Limits, Parts, Seen, where


class Outside:
    """Follows one run of images with themselves; ``dtype``: of the planes that it stands for.

    Of each node, where anything is lost: the parts (n,) of K and of T, inf for an overflow. T is as
    large as K where all layers add K to it; where some do not, it may leave the range alone.
    """

    def __init__(self, plan: Plan, layout: FactorLayout, dtype: str) -> None:
        self.nodes, self.layout = plan.nodes, layout
        known = np.finfo(dtype)
        self.limits = Limits(FLOOR[dtype] ** 2, float(known.max), float(known.tiny))
        self.lost: dict[int, Parts] = {}
        self.apart = plan.ntk and any(node.operation.t_apart for node in plan.nodes)

    def see(self, i: int, values: dict[int, Centre]) -> None:
        """Node i has just been computed."""
        node = self.nodes[i]
        count = len(values[i][0])
        none = np.zeros(count), np.zeros(count)
        lost = [self.lost.get(j, none) for j in node.inputs]
        sources = [values[j] for j in node.inputs]
        seen = Seen(self.limits, values[i], sources, lost, self.layout.formulas.get(i))
        k = self._here(node.operation, seen)
        t = self._here_of_t(node.operation, seen) if self.apart else k
        known = any(j in self.lost for j in node.inputs)
        if known or any(part.any() for part in (k if t is k else (*k, *t))):
            carried = node.operation.carries_lost(seen) if known else none
            self.lost[i] = _marked(carried[0], *k), _marked(carried[1], *t)

    def part(self, at: slice) -> Outside:
        """Some of the images, on their own from here on."""
        made = copy(self)
        made.lost = {i: (k[at], t[at]) for i, (k, t) in self.lost.items()}
        return made

    def worst(self, count: int) -> Array:
        """The largest part (count,) lost at any node so far."""
        found = np.zeros(count)
        for parts in self.lost.values():
            found = np.maximum(found, np.maximum(*parts)[:count])
        return found

    def at(self, i: int, count: int) -> Array:
        """What is lost of node i, the larger of K's and T's parts."""
        return np.maximum(*self.lost[i])[:count] if i in self.lost else np.zeros(count)

    def _here(self, operation: Operation, seen: Seen) -> tuple[Array, Any]:
        """Which part of each image's value is below the range here, and where it is above."""
        top = seen.top
        lost, made = operation.loses(seen)
        low = where((top > 0) & (top < self.limits.low))
        return np.maximum(low, lost), ~(made <= self.limits.high)

    def _here_of_t(self, operation: Operation, seen: Seen) -> tuple[Array, Any]:
        """As :meth:`_here` of T where it is not as large as K."""
        top = seen.top_t
        low = where((top > 0) & (top < self.limits.low))
        return np.maximum(low, operation.loses_t(seen)), ~(top <= self.limits.high)


def _marked(part: Array, low: Array, high: Any) -> Array:
    part = np.where(np.isnan(part), np.inf, part)  # 0 inf: an overflow below
    return np.where(high, np.inf, np.maximum(part, low))
