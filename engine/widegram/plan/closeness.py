"""How far apart the directions of two inputs must be for float32 to hold their kernel.

A rounding of c = cos theta turns theta by eps / theta. A deep network adds up the turns of its
layers, a chaotic one multiplies them. One walk through the plan's operations carries (q, K, T) of
two single pixels at a range of angles, once exactly and once with K rounded in every layer: images
and their paddings, which mix angles, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula, numpy_ops
from widegram.plan.graph import Node
from widegram.plan.maps import Map
from widegram.plan.operations import (
    Act,
    Add,
    Affine,
    Copy,
    Gather,
    Input,
    Keep,
    Norm,
    Output,
    Reduce,
    Weigh,
)
from widegram.plan.plan import Plan

Array = NDArray[np.float64]

# Angles that are tried: from where a rounding of c is an error of a part in a thousand.
NEAREST, FARTHEST = 1e-3, 0.5
_ANGLES = np.geomspace(NEAREST, FARTHEST, 28)
# What is promised between nearly equal inputs.
_TARGET = 1e-4
# Roundings have either sign: what a third of one does, always of one sign, is a little more than
# what was measured (docs/accuracy.md) through 10 to 100 layers.
_ROUNDING = 2.0**-24 / 3


@dataclass(frozen=True)
class _Value:
    """Of a node, arrays over angles: ``q`` and ``own``, K and T of an input with itself; ``k`` and
    ``t``, exact and rounded, shape (2, angles)."""

    q: float
    own: float
    k: Array
    t: Array

    def times(self, factor: float) -> _Value:
        return _Value(factor * self.q, factor * self.own, factor * self.k, factor * self.t)

    def plus(self, other: _Value) -> _Value:
        return _Value(self.q + other.q, self.own + other.own, self.k + other.k, self.t + other.t)


def nearest_held(plan: Plan, formulas: dict[int, Formula], largest: float) -> float:
    """The smallest angle, at least 1e-3, from which on float32 holds half the promise; infinite
    where it does not at 0.5. ``largest``: the largest variance of an input pixel."""
    needed = NEAREST
    errors = error_at_angles(plan, formulas, largest)
    beyond = np.flatnonzero(~(errors <= _TARGET))
    if len(beyond):
        needed = float(_ANGLES[beyond[-1] + 1]) if beyond[-1] + 1 < len(errors) else np.inf
    return needed


def error_at_angles(plan: Plan, formulas: dict[int, Formula], largest: float) -> Array:
    """The error of float32 at each angle, relative to an input's kernel with itself."""
    worst = np.zeros(len(_ANGLES))
    values: list[_Value] = []
    with np.errstate(all="ignore"):
        for i, node in enumerate(plan.nodes):
            value = _value(node, [values[j] for j in node.inputs], formulas.get(i), largest, plan)
            values.append(value)
            if isinstance(node.operation, Output):
                worst = np.maximum(worst, abs(value.k[1] - value.k[0]) / abs(value.q))
                if plan.ntk:
                    worst = np.maximum(worst, abs(value.t[1] - value.t[0]) / abs(value.own))
    return worst


def _value(
    node: Node, inputs: list[_Value], formula: Formula | None, largest: float, plan: Plan
) -> _Value:
    operation = node.operation
    if isinstance(operation, Input):
        q = float(np.ldexp(largest, 2 * operation.exponent))
        k = np.broadcast_to(q * np.cos(_ANGLES), (2, len(_ANGLES)))
        return _Value(q, 0.0, _rounded(k), np.zeros_like(k))
    value = inputs[0]
    match operation:
        case Affine():
            return _mapped(value, operation)
        case Act() if formula is not None:
            return _activated(value, formula)
        case Norm() if formula is not None:
            return value.times(float(formula.factors(np.array(value.q))[0]) ** 2)
        case Keep(rate):
            return _Value(value.q / rate, value.own / rate, value.k, value.t)
        case Add():
            return value.plus(inputs[1])
        case Gather(window=(a, b), scale=scale):
            return value.times(scale * (a * b) ** 2)
        case Map():
            return value.times(operation.bound([1.0], (1, 1), None))
        case Reduce():
            return value.times(operation.total(plan.nodes[node.inputs[0]].shape))
        case Copy() | Weigh() | Output():  # far from edges nothing is weighed
            return value
    raise TypeError(f"{operation!r}: what it does to angles is not known")


def _mapped(value: _Value, affine: Affine) -> _Value:
    """Behind an affine map; windows of equal values."""
    a, b = affine.window
    gain = affine.gain * a * b
    q, k = gain * value.q + affine.bias, _rounded(gain * value.k + affine.bias)
    own = float(affine.own(np.array(a * b * value.q), np.array(q)))
    t = affine.own(a * b * value.k, k) + gain * value.t
    return _Value(q, own + gain * value.own, k, t)


def _activated(value: _Value, formula: Formula) -> _Value:
    """Behind an activation; c = 1, an input with itself, is the last of the angles."""
    q = np.array(value.q)
    k = np.append(value.k, [[value.q], [value.q]], axis=1) * formula.prescale
    factors, constants = formula.factors(q), formula.constants
    made, slope = formula.dual(numpy_ops, k, factors, factors, constants)
    slope = formula.prescale * np.broadcast_to(0.0 if slope is None else slope, k.shape)
    own = float(slope[0, -1]) * value.own
    return _Value(float(made[0, -1]), own, _rounded(made[:, :-1]), slope[:, :-1] * value.t)


def _rounded(k: Array) -> Array:
    """The second row one rounding smaller."""
    return k * np.array([[1.0], [1.0 - _ROUNDING]])
