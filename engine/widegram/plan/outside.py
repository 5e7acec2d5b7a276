"""Which images meet variances outside the floating point range, and how much that matters.

Values are kept in range by :mod:`widegram.plan.scales`, but not every network can be: an erf of
variance 1e-40 is none of float32's numbers, and one pixel may be 1e-30 times another. What is lost
below the range is harmless where a bias or another branch is larger by far. So a part of each
image's result is counted as lost: 1 where its whole variance is below the range, and from there on
what that value contributes to the next ones, at d = 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.activations.scale import Rescale
from widegram.machine.dtypes import FLOOR
from widegram.plan.formulas import FactorLayout
from widegram.plan.graph import Node
from widegram.plan.operations import Act, Add, Affine, Gather, Norm
from widegram.plan.plan import Plan

Array = NDArray[np.float64]
Values = dict[int, tuple[Array, Array]]


class Outside:
    """Follows one run of images with themselves; ``dtype``: of the planes that it stands for.

    Of each node, where anything is lost: the parts (n,) of K and of T, inf for an overflow. T is as
    large as K where all layers add K to it; where some do not, it may leave the range alone.
    """

    def __init__(self, plan: Plan, layout: FactorLayout, dtype: str) -> None:
        self.nodes, self.layout = plan.nodes, layout
        self.low, self.high = FLOOR[dtype] ** 2, float(np.finfo(dtype).max)
        self.tiny = float(np.finfo(dtype).tiny)
        self.lost: dict[int, tuple[Array, Array]] = {}
        operations = (node.operation for node in plan.nodes)
        self.apart = plan.ntk and any(isinstance(o, Affine) and o.contribution for o in operations)

    def see(self, i: int, values: Values) -> None:
        """Node i has just been computed."""
        node = self.nodes[i]
        top = _top(values[i][0])
        low, high = self._outside(node, top, values)
        t_low, t_high = self._outside_of_t(node, values[i][1]) if self.apart else (low, high)
        known = [j for j in node.inputs if j in self.lost]
        if not known and not any(part.any() for part in (low, high, t_low, t_high)):
            return
        none = np.zeros(len(top)), np.zeros(len(top))
        k, t = self._carried(i, node, values, none) if known else none
        self.lost[i] = _marked(k, low, high), _marked(t, t_low, t_high)

    def worst(self, count: int) -> Array:
        """The largest part (count,) lost at any node so far."""
        found = np.zeros(count)
        for parts in self.lost.values():
            found = np.maximum(found, np.maximum(*parts)[:count])
        return found

    def at(self, i: int, count: int) -> Array:
        """What is lost of node i, the larger of K's and T's parts."""
        return np.maximum(*self.lost[i])[:count] if i in self.lost else np.zeros(count)

    def _outside(self, node: Node, top: Array, values: Values) -> tuple[Array, Any]:
        """Which part of each image's value is below the range here, and where it is above."""
        low, sums = np.where((top > 0) & (top < self.low), 1.0, 0.0), top
        match node.operation:
            case Affine(gain=gain, bias=bias) if gain > 0:
                below = _top(values[node.inputs[0]][0])
                if gain < self.tiny:
                    low = np.maximum(low, np.where(below > 0, _share(top - bias, top), 0.0))
                elif gain > self.high:
                    # Constants bring back what was lost before: that is the reason to be told.
                    lost = self.lost.get(node.inputs[0], (np.zeros(len(top)),))[0] > 0
                    sums = np.where((below > 0) & ~lost, np.inf, np.where(lost, 0.0, sums))
                else:
                    # The windows' sums, which the constants follow.
                    sums = np.maximum(top, (top - bias) / gain)
                if node.operation.strides == (1, 1):  # Others may pass by all pixels that are not 0
                    low = np.where((top == 0) & (below > 0), 1.0, low)
            case Act(formula) if isinstance(formula, Rescale):
                below = _top(values[node.inputs[0]][0])
                exact = self.low <= np.ldexp(1.0, 2 * formula.exponent) <= 1 / self.low
                low = np.where((below > 0) & ((top == 0) | (not exact)), 1.0, low)
            case Act() if node.operation.power > 1:
                below = _top(values[node.inputs[0]][0])
                low = np.where((below > 0) & (top == 0), 1.0, low)
            case Gather(scale=scale):
                sums = np.maximum(top, top / scale)
        return low, ~(sums <= self.high)

    def _outside_of_t(self, node: Node, ntk: Array) -> tuple[Array, Any]:
        """As :meth:`_outside` of T where it is not as large as K."""
        top = _top(ntk)
        low = np.where((top > 0) & (top < self.low), 1.0, 0.0)
        match node.operation:
            case Affine(contribution=own) if own is not None and 0 < own.weights < self.tiny:
                low = np.ones(len(top))
        return low, ~(top <= self.high)

    def _carried(
        self, i: int, node: Node, values: Values, none: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """Parts of K and T that come from the inputs."""
        parts = [self.lost.get(j, none) for j in node.inputs]
        k, t = parts[0]
        top, ntk = (_top(v) for v in values[i])
        match node.operation:
            case Affine(bias=bias, contribution=own):
                behind = k * _share(top - bias, top)
                if own is None:
                    below = t * _share(ntk - top, ntk)
                    return behind, np.maximum(behind * _share(top, ntk), below)
                sums = node.operation.sums(values[node.inputs[0]][0], node.shape)
                weights = own.weights * _top(sums)
                part = np.where(weights > 0, k * _share(weights, ntk), 0.0)
                rest = ntk - weights - own.biases
                return behind, np.maximum(part, t * _share(rest, ntk))
            case Act(formula) if formula.homogeneity is None:
                q = _top(values[node.inputs[0]][0])
                value, slope = self.layout.formulas[i].variance(q)
                return k * _share(slope * q, value), np.minimum(t + k, 1.0)
            case Act() | Norm():
                k = np.minimum(k * node.operation.power, np.maximum(k, 1.0))
                return k, np.minimum(t + k, 1.0)
            case Add():
                other = parts[1]
                tops = [[_top(v) for v in values[j]] for j in node.inputs]
                k = k * _share(tops[0][0], top) + other[0] * _share(tops[1][0], top)
                return k, t * _share(tops[0][1], ntk) + other[1] * _share(tops[1][1], ntk)
        return k, t


def _top(values: Array) -> Array:
    return np.asarray(values.max(axis=(1, 2)))


def _share(part: Array, whole: Array) -> Array:
    """part / whole within 0 .. 1; 1 where that is unknown."""
    share = np.clip(part / np.where(whole > 0, whole, 1.0), 0.0, 1.0)
    return np.where(np.isnan(share) | (whole == 0), 1.0, share)


def _marked(part: Array, low: Array, high: Any) -> Array:
    part = np.where(np.isnan(part), np.inf, part)  # 0 inf: an overflow below
    return np.where(high, np.inf, np.maximum(part, low))
