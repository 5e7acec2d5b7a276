"""Which formula each activation of a plan gets for a data set, and where its factors stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from widegram.activations import Formula
from widegram.activations.hermite import Approximate, Series
from widegram.activations.rectified import Relu, ReluNonnegative
from widegram.activations.scale import Scale
from widegram.plan.graph import Act, Add, Affine, Gather, Input, Keep, Node, Norm, Reduce
from widegram.plan.plan import Plan
from widegram.plan.precision import SERIES_ACCEPTED, check

# Relative tails of a series' E[phi^2] and E[phi'^2] that may be left out.
SERIES_TOLERANCE = {"float32": 1e-8, "float64": 1e-13}


@dataclass(frozen=True)
class FactorLayout:
    """Where each activation's per-image factors stand: ``offsets`` by node, in numbers."""

    formulas: dict[int, Formula]
    offsets: dict[int, int]
    total: int


def choose_formulas(
    plan: Plan, largest: float, dtype: str, accept: float = SERIES_ACCEPTED, zeros: bool = False
) -> dict[int, Formula]:
    """The formula of every Act and Norm node; a series gets as many terms as its variances need.

    ``largest``: the largest variance of any input pixel. Each layer's variances are bounded from
    it, so that the choice depends on the data set as a whole and not on tiles. ``accept``: the
    relative error of a series that is accepted; ``zeros``: whether an input pixel may have
    variance 0 (see :meth:`Formula.or_zero`). Raises as :func:`~widegram.plan.precision.check`
    where ``dtype`` cannot hold an activation's values.
    """
    chosen: dict[int, Formula] = {}
    bound: list[float] = []
    vanishing: list[bool] = []
    for i, node in enumerate(plan.nodes):
        below = [bound[j] for j in node.inputs]
        top = below[0] if below else largest
        match node.operation:
            case Input(exponent=exponent):
                top = float(np.ldexp(top, 2 * exponent))
            case Affine(window=(a, b), gain=gain, bias=bias):
                top = gain * a * b * top + bias
            case Act() | Norm():
                formula = formula_of(node)
                if isinstance(formula, Series):
                    formula = formula.for_range(top, SERIES_TOLERANCE[dtype])
                check(node, formula, top, dtype, accept)
                if vanishing[node.inputs[0]]:
                    formula = formula.or_zero()
                chosen[i] = formula
                top = _largest_after(node, formula, top)
            case Keep(rate):
                top /= rate
            case Gather(window=(a, b), scale=scale):
                top *= scale * (a * b) ** 2
            case Reduce(scale=scale):
                h, w = plan.nodes[node.inputs[0]].shape
                diagonal = node.operation.diagonal
                top *= scale * (h * w if diagonal else (h * w) ** 2)
            case Add():
                top = sum(below)
        bound.append(top)
        vanishing.append(_may_vanish(node, [vanishing[j] for j in node.inputs], zeros))
    return chosen


def _may_vanish(node: Node, below: list[bool], zeros: bool) -> bool:
    """Whether a node's variance may be 0 at some pixel, given whether its inputs' may."""
    match node.operation:
        case Input():
            return zeros
        case Affine(gain=gain, bias=bias):
            return not bias and (below[0] or not gain)
        case Act(formula):
            at_zero, at_one = formula.variance(np.array([0.0, 1.0]))[0]
            return bool(at_one == 0 or (below[0] and at_zero == 0))
        case Add():
            return all(below)
    return below[0]


def _largest_after(node: Node, formula: Formula, top: float) -> float:
    """A bound on the variance behind an activation or LayerNorm, given one before it."""
    if isinstance(node.operation, Norm):
        # One pixel may hold all the variance that a normalisation over space averages.
        return float(node.shape[0] * node.shape[1]) if node.operation.axes else 1.0
    return float(np.max(formula.variance(np.linspace(0.0, top, 65))[0]))


def series_error(formulas: dict[int, Formula]) -> float | None:
    """The largest relative tail, of E[phi^2] or E[phi'^2], that a series leaves out; None without.

    Each series was chosen for the largest variance it meets, where its tail is largest.
    """
    tails = [f.tail for f in formulas.values() if isinstance(f, Approximate)]
    return max(tails) if tails else None


def factor_layout(plan: Plan, formulas: dict[int, Formula]) -> FactorLayout:
    """Consecutive blocks (n_factors, h, w) of every Act and Norm node."""
    offsets, total = {}, 0
    for i, node in enumerate(plan.nodes):
        if isinstance(node.operation, Act | Norm):
            offsets[i] = total
            total += formulas[i].n_factors * node.shape[0] * node.shape[1]
    return FactorLayout(formulas, offsets, total)


def formula_of(node: Node) -> Formula:
    """The formula that a point-like node applies."""
    match node.operation:
        case Act(formula, nonnegative):
            if nonnegative and type(formula) is Relu:
                return ReluNonnegative()
            return formula
        case Norm(exponent=exponent):
            return Scale(exponent)
    raise TypeError(f"{node.operation!r} applies no formula")
