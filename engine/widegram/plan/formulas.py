"""Which formula each activation of a plan gets for a data set, and where its factors stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from widegram.activations import Formula
from widegram.activations.approximate import Approximate
from widegram.activations.hermite import Series
from widegram.plan.graph_building import Node
from widegram.plan.maps import EachMap
from widegram.plan.plan import Plan
from widegram.plan.precision import SERIES_ACCEPTED, check

# Relative tails of a series' E[phi^2] and E[phi'^2] that may be left out.
SERIES_TOLERANCE = {"float32": 1e-8, "float64": 1e-13}


@dataclass(frozen=True)
class FactorLayout:
    """Where each activation's per-image factors stand, and coefficients of maps: ``offsets`` by
    node, in numbers. Maps by an input's pattern share those."""

    formulas: dict[int, Formula]
    offsets: dict[int, int]
    total: int


def choose_formulas(
    plan: Plan, largest: float, dtype: str, accept: float = SERIES_ACCEPTED, zeros: bool = False
) -> dict[int, Formula]:
    """The formulas of a plan's nodes, as :func:`formulas_of` has them.

    ``accept``: the relative error of a series that is accepted. Raises as
    :func:`~widegram.plan.precision.check` where ``dtype`` cannot hold an activation's values.
    """

    def refuse(node: Node, formula: Formula, top: float) -> None:
        check(node.operation.where, formula, top, dtype, accept)

    return formulas_of(plan.nodes, largest, dtype, zeros, refuse)


def formulas_of(
    nodes: Sequence[Node],
    largest: float,
    dtype: str,
    zeros: bool = False,
    refuse: Callable[[Node, Formula, float], None] = lambda node, formula, top: None,
) -> dict[int, Formula]:
    """The formulas of nodes that apply one; a series gets as many terms as its variances need.

    ``largest``: the largest variance of any input pixel. Each layer's variances are bounded from
    it, so that the choice depends on the data set as a whole and not on tiles. ``zeros``: whether
    an input pixel may have variance 0 (see :meth:`Formula.or_zero`); ``refuse`` is told of each
    formula and of its largest variance.
    """
    chosen: dict[int, Formula] = {}
    bounds: list[float] = []
    vanishing: list[bool] = []
    for i, node in enumerate(nodes):
        operation = node.operation
        below = [bounds[j] for j in node.inputs] or [largest]
        vanish = [vanishing[j] for j in node.inputs] or [zeros]
        source = nodes[node.inputs[0]].shape if node.inputs else node.shape
        formula = operation.formula
        if formula is not None:
            if isinstance(formula, Series):
                formula = formula.for_range(below[0], SERIES_TOLERANCE[dtype])
            refuse(node, formula, below[0])
            if vanish[0]:
                formula = formula.or_zero()
            chosen[i] = formula
        bounds.append(operation.bound(below, source, formula))
        vanishing.append(operation.may_vanish(vanish))
    return chosen


def series_error(formulas: dict[int, Formula]) -> float | None:
    """The largest relative tail, of E[phi^2] or E[phi'^2], that a series leaves out; None without.

    Each series was chosen for the largest variance it meets, where its tail is largest.
    """
    tails = [f.tail for f in formulas.values() if isinstance(f, Approximate)]
    return max(tails) if tails else None


def factor_layout(plan: Plan, formulas: dict[int, Formula]) -> FactorLayout:
    """Consecutive blocks (n_factors, h, w) of every node that applies a formula."""
    offsets, total = {}, 0
    shared: int | None = None
    for i, node in enumerate(plan.nodes):
        if i in formulas:
            offsets[i] = total
            total += formulas[i].n_factors * node.shape[0] * node.shape[1]
        elif node.operation.numbers:
            own = isinstance(node.operation, EachMap) and not node.operation.patterned
            if own or shared is None:
                offsets[i], total = total, total + node.operation.numbers
                shared = shared if own else offsets[i]
            else:
                offsets[i] = shared
    return FactorLayout(formulas, offsets, total)
