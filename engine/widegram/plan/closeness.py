"""How far apart the directions of two inputs must be for float32 to hold their kernel.

A rounding of c = cos theta turns theta by eps / theta. A deep network adds up the turns of its
layers, a chaotic one multiplies them. One walk through the plan's operations carries (q, K, T) of
two single pixels at a range of angles, once exactly and once with K rounded in every layer: images
and their paddings, which mix angles, are left out.
"""

from __future__ import annotations

import numpy as np

from widegram.activations import Formula
from widegram.plan.angles import ANGLES, NEAREST, Angles, Array
from widegram.plan.plan import Plan

# What is promised between nearly equal inputs.
_TARGET = 1e-4


def nearest_held(plan: Plan, formulas: dict[int, Formula], largest: float) -> float:
    """The smallest angle, at least 1e-3, from which on float32 holds half the promise; infinite
    where it does not at 0.5. ``largest``: the largest variance of an input pixel."""
    needed = NEAREST
    errors = error_at_angles(plan, formulas, largest)
    beyond = np.flatnonzero(~(errors <= _TARGET))
    if len(beyond):
        needed = float(ANGLES[beyond[-1] + 1]) if beyond[-1] + 1 < len(errors) else np.inf
    return needed


def error_at_angles(plan: Plan, formulas: dict[int, Formula], largest: float) -> Array:
    """The error of float32 at each angle, relative to an input's kernel with itself."""
    worst = np.zeros(len(ANGLES))
    values: list[Angles] = []
    with np.errstate(all="ignore"):
        for i, node in enumerate(plan.nodes):
            below = [values[j] for j in node.inputs] or [Angles.of_inputs(largest)]
            source = plan.nodes[node.inputs[0]].shape if node.inputs else node.shape
            value = node.operation.at_angles(below, source, formulas.get(i))
            values.append(value)
            if node.operation.read_out:
                worst = np.maximum(worst, abs(value.k[1] - value.k[0]) / abs(value.q))
                if plan.ntk:
                    worst = np.maximum(worst, abs(value.t[1] - value.t[0]) / abs(value.own))
    return worst
