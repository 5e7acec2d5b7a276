"""Errors that are known before a run: said in its log, avoided in float64, or refused.

A covariance carries a few roundings. Where two inputs, or pixels of two images, coincide but for
them, c = 1 - error, and each operation makes of the relative error of K what
:meth:`~widegram.activations.Formula.near_one` says: a Sign its root, a second Sign the root of
that. What an activation without a closed form leaves out of K is such an error for those behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from widegram.activations import Formula
from widegram.activations.rectified import Sign
from widegram.errors import WidegramError
from widegram.machine.log import logger
from widegram.network import weights
from widegram.plan.carried import ROUNDINGS, Carried, Errors
from widegram.plan.graph_building import Node
from widegram.plan.plan import Plan
from widegram.plan.precision import ANNOUNCED_ACCEPTED, DoubleNeeded, rounded_up

# What activations without a closed form may leave out unsaid: what each dtype promises.
_PROMISED = {"float32": 1e-5, "float64": 1e-10}
# Unsaid is what docs/accuracy.md says of each kink.
_KINK = {"float32": 5e-4, "float64": 1e-7}
# What is as large as values, to the digit that is said.
_NOTHING = 0.95
_APART = (
    "layers drive inputs, or pixels of images, that nearly coincide apart, and roundings with them"
)


def announce(
    plan: Plan, formulas: dict[int, Formula], largest: float, dtype: str, accept: float
) -> None:
    """Log a warning where values may miss what is promised. ``largest``: the largest variance of an
    input pixel; ``accept``: the relative error that is accepted.

    Raises :class:`DoubleNeeded` for float32 with a Sign, which makes 4e-4 of a rounding wherever
    pixels coincide, or small inputs behind a bias, and 1e-2 behind another;
    :class:`WidegramError` where values may miss a tenth of their size, which no warning mends.
    """
    weights.announce(plan.network.layers)
    operations = (node.operation for node in plan.nodes)
    sign = next((each for each in operations if isinstance(each.formula, Sign)), None)
    if dtype == "float32" and sign is not None:
        raise DoubleNeeded(
            f"{sign.where}: float32 does not hold its values where inputs, or their pixels, "
            "nearly coincide; use float64"
        )
    say(plan.nodes, plan.ntk, formulas, largest, dtype, accept)


def say(
    nodes: Sequence[Node], ntk: bool, formulas: dict[int, Formula], largest: float, dtype: str,
    accept: float, start: float = ROUNDINGS,
) -> None:  # fmt: skip
    """As :func:`announce` of nodes that are computed in float64 as far as they need it; ``dtype``:
    of the results; ``start``: the relative error of the values that they begin with."""
    carried = walked(nodes, formulas, largest, start)
    left = left_out(carried, ntk)
    if left > max(accept, ANNOUNCED_ACCEPTED):
        raise _too_large("activations without a closed form make relative errors of", left)
    if left > _PROMISED[dtype]:
        logger.warning(
            "activations without a closed form make relative errors of up to %.1e", left
        )
    error, where = largest_near_one(nodes, carried, formulas, ntk, dtype)
    said = f"{where}: between inputs, or pixels of images, that nearly coincide values may be off"
    if where and error > max(accept, ANNOUNCED_ACCEPTED):
        raise _too_large(f"{said} by", error)
    apart = max(_of(ntk, each.apart) for each in carried)
    # Nothing is refused: it concerns such pairs alone, and whether there are any is not known here.
    if apart > _NOTHING:
        logger.warning("%s, until nothing is promised of their values", _APART)
    elif apart > max(_PROMISED[dtype], 2 * error, 4 * left):
        logger.warning("%s: their values may be off by up to %.0e", _APART, apart)
    elif where:
        logger.warning("%s by up to %.0e", said, error)


def _too_large(what: str, error: float) -> WidegramError:
    return WidegramError(
        f"{what} up to {error:.2g}, which is no result; use another network or smaller inputs, "
        f"or accept that: --accept-series-error {rounded_up(error)} (accept_series_error=)"
    )


def walked(
    nodes: Sequence[Node], formulas: dict[int, Formula], largest: float, start: float
) -> list[Carried]:
    """What each node carries, in one walk; ``largest``: the largest variance of an input pixel,
    ``start``: the relative error of the inputs' K."""
    found: list[Carried] = []
    for i, node in enumerate(nodes):
        below = [found[j] for j in node.inputs] or [Carried.of_inputs(largest, start)]
        source = nodes[node.inputs[0]].shape if node.inputs else node.shape
        formula = formulas.get(i)
        top = node.operation.bound([each.top for each in below], source, formula)
        found.append(node.operation.carries(below, formula).bounded(top))
    return found


def left_out(carried: Sequence[Carried], ntk: bool) -> float:
    """The largest relative error of K or T by what sums leave out, at most 1; 0 without them."""
    return min(1.0, max(_of(ntk, each.left) for each in carried))


def _of(ntk: bool, errors: Errors) -> float:
    """The largest error of what is computed."""
    return max(errors) if ntk else errors.k


def largest_near_one(
    nodes: Sequence[Node], carried: Sequence[Carried], formulas: dict[int, Formula], ntk: bool,
    dtype: str,
) -> tuple[float, str]:  # fmt: skip
    """The largest relative error near c = 1 of any layer's K or Kdot that is to be said, and the
    layer; 0 and "" where there is none. It is that of float64, in either dtype."""
    found = 0.0, ""
    for i, formula in formulas.items():
        unsaid = (_KINK if formula.kinked else _PROMISED)[dtype]
        if carried[i].made > max(unsaid, found[0]) and (ntk or not formula.kinked):
            found = carried[i].made, nodes[i].operation.where
    return found
