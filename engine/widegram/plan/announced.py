"""Errors that are known before a run: said in its log, avoided in float64, or refused.

A covariance carries a few roundings. Where two inputs, or pixels of two images, coincide but for
them, c = 1 - error, and each operation makes of the relative error of K what
:meth:`~widegram.activations.Formula.near_one` says: a Sign its root, a second Sign the root of
that. What an activation without a closed form leaves out of K is such an error for those behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from widegram.activations import Formula
from widegram.activations.approximate import Approximate
from widegram.activations.rectified import Sign
from widegram.errors import WidegramError
from widegram.machine.log import logger
from widegram.network import weights
from widegram.plan.graph_building import Node
from widegram.plan.joined import Multiply
from widegram.plan.operations import Act
from widegram.plan.plan import Plan
from widegram.plan.precision import ANNOUNCED_ACCEPTED, DoubleNeeded, rounded_up

# What activations without a closed form may leave out unsaid: what each dtype promises.
_PROMISED = {"float32": 1e-5, "float64": 1e-10}
# float64 computes what comes near c = 1, nearly parallel inputs of a float32 run too. Within four
# roundings c counts as 1 (``SNAP``); sums carry some more.
ROUNDINGS = 16 * 2.0**-52
# Unsaid is what docs/accuracy.md says of each kink.
_KINK = {"float32": 5e-4, "float64": 1e-7}
# Bounds above this are looked at more closely, at so many variances, each a quarter of the last.
_ROUGH, _VARIANCES = 1e-3, 16


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
    acts = [node.operation for node in plan.nodes if isinstance(node.operation, Act)]
    signs = [act for act in acts if isinstance(act.phi, Sign)]
    if dtype == "float32" and signs:
        raise DoubleNeeded(
            f"{signs[0].where}: float32 does not hold its values where inputs, or their pixels, "
            "nearly coincide; use float64"
        )
    say(plan.nodes, plan.ntk, formulas, largest, dtype, accept)


def say(
    nodes: Sequence[Node], ntk: bool, formulas: dict[int, Formula], largest: float, dtype: str,
    accept: float, start: float = ROUNDINGS,
) -> None:  # fmt: skip
    """As :func:`announce` of nodes that are computed in float64 as far as they need it; ``dtype``:
    of the results; ``start``: the relative error of the values that they begin with."""
    bounds = _bounds(nodes, formulas, largest)
    left = left_out(nodes, ntk, formulas, bounds)
    if left > max(accept, ANNOUNCED_ACCEPTED):
        raise _too_large("activations without a closed form make relative errors of", left)
    if left > _PROMISED[dtype]:
        logger.warning(
            "activations without a closed form make relative errors of up to %.1e", left
        )
    error, where = largest_near_one(nodes, ntk, formulas, bounds, dtype, start)
    said = f"{where}: between inputs, or pixels of images, that nearly coincide values may be off"
    if where and error > max(accept, ANNOUNCED_ACCEPTED):
        raise _too_large(f"{said} by", error)
    apart = driven_apart(nodes, ntk, formulas, bounds, start)
    if apart > max(_PROMISED[dtype], 2 * error, 4 * left):
        logger.warning(
            "layers drive inputs, or pixels of images, that nearly coincide apart, and roundings "
            "with them: their values may be off by up to %.0e", apart,
        )  # fmt: skip
    elif where:
        logger.warning("%s by up to %.0e", said, error)


def _too_large(what: str, error: float) -> WidegramError:
    return WidegramError(
        f"{what} up to {error:.2g}, which is no result; use another network or smaller inputs, "
        f"or accept that: --accept-series-error {rounded_up(error)} (accept_series_error=)"
    )


def left_out(
    nodes: Sequence[Node], ntk: bool, formulas: dict[int, Formula], bounds: Sequence[float]
) -> float:
    """The largest relative error of K or T by what sums leave out, 0 without them; ``bounds``: of
    each node, what bounds the variances of its first input.

    Each adds its tail to the errors of K and of Kdot. An error of K is one of c, with which Kdot
    changes (:func:`_turned`).
    """
    k: list[float] = []
    t: list[float] = []
    for i, node in enumerate(nodes):
        before, slope = (_met(node, e, 0.0) for e in (k, t))
        formula = formulas.get(i) if isinstance(node.operation, Act) else None
        tail = formula.tail if isinstance(formula, Approximate) else 0.0
        turned = 0.0 if formula is None else _turned(formula, bounds[i], before)
        k.append(before + tail)
        t.append(slope + tail + turned)
    return min(1.0, max(*k, *t) if ntk else max(k))


def _turned(formula: Formula, top: float, error: float) -> float:
    """How far Kdot changes, relative to its size, with a relative ``error`` of k, at variances up
    to ``top``.

    b^2 q times that, b^2 the :attr:`~widegram.activations.Formula.sharpness`, bounds it; where that
    says much, so does Kdot itself: as a power series of c, no coefficient of which is negative, it
    changes most at c = 1.
    """
    rough = formula.sharpness * top * error
    if not _ROUGH < rough < np.inf:
        return rough
    q = np.float64(top) * 4.0 ** -np.arange(_VARIANCES, dtype=np.float64)
    with np.errstate(all="ignore"):
        at_one, near = formula.variance(q)[1], formula.moments(q, (1.0 - error) * q, q)[1]
        changes = np.abs(at_one - near) / np.abs(at_one)
    return min(rough, float(changes.max())) if np.isfinite(changes).all() else rough


def driven_apart(
    nodes: Sequence[Node], ntk: bool, formulas: dict[int, Formula], bounds: Sequence[float],
    start: float,
) -> float:  # fmt: skip
    """How far roundings of float64 may grow near c = 1, relative to K's and T's size, at most 1: an
    activation multiplies a relative error of K by q E[phi'^2] / E[phi^2] there, which is above 1
    where it drives nearly equal inputs apart. (Of T's roots at kinks :func:`largest_near_one`
    tells.)

    Few inputs are as near as that, which is why this is said and never refused.
    """
    k: list[float] = []
    t: list[float] = []
    for i, node in enumerate(nodes):
        error, slope = (_met(node, e, start) for e in (k, t))
        formula = formulas.get(i) if isinstance(node.operation, Act) else None
        if formula is not None:
            error, _ = formula.near_one(error)
        if formula is not None and formula.homogeneity is None:
            slope += _turned(formula, bounds[i], error)
            error = min(1.0, error * _gain(formula, bounds[i]) + ROUNDINGS)
        k.append(min(1.0, error))
        t.append(min(1.0, slope))
    return max(*k, *t) if ntk else max(k)


def _gain(formula: Formula, top: float) -> float:
    """The largest q E[phi'^2] / E[phi^2] at variances up to ``top``, at least 1."""
    q = np.float64(top) * 4.0 ** -np.arange(_VARIANCES, dtype=np.float64)
    with np.errstate(all="ignore"):
        value, slope = formula.variance(q)
        gains = np.where(value > 0, q * slope / value, 1.0)
    return float(np.nanmax(np.append(gains[np.isfinite(gains)], 1.0)))


def largest_near_one(
    nodes: Sequence[Node], ntk: bool, formulas: dict[int, Formula], bounds: Sequence[float],
    dtype: str, start: float,
) -> tuple[float, str]:  # fmt: skip
    """The largest relative error near c = 1 of any layer's K or Kdot that is to be said, and the
    layer; 0 and "" where there is none. It is that of float64, in either dtype."""
    found = 0.0, ""
    errors: list[float] = []
    for i, node in enumerate(nodes):
        error = _met(node, errors, start)
        operation, formula = node.operation, formulas.get(i)
        if formula is not None and isinstance(operation, Act):
            # Not times what is carried: a chaotic layer is far from multiplying it by b^2 q.
            error, worst = formula.near_one(error + formula.spoilt(ROUNDINGS, bounds[i]))
            kinked = formula.homogeneity == 1 or (isinstance(formula, Approximate) and formula.jump)
            unsaid = _KINK[dtype] if kinked else _PROMISED[dtype]
            if worst > max(unsaid, found[0]) and (ntk or not kinked):
                found = worst, operation.where
        errors.append(error)
    return found


def _met(node: Node, errors: list[float], default: float) -> float:
    """The relative error of a node's sources: of a sum at most the largest, of a product both."""
    found = [errors[j] for j in node.inputs]
    return sum(found) if isinstance(node.operation, Multiply) else max(found, default=default)


def _bounds(
    nodes: Sequence[Node], formulas: dict[int, Formula], largest: float
) -> list[float]:
    """Of each node, what bounds the variances of its first input."""
    found: list[float] = []
    bounds: list[float] = []
    for i, node in enumerate(nodes):
        below = [bounds[j] for j in node.inputs] or [largest]
        source = nodes[node.inputs[0]].shape if node.inputs else node.shape
        found.append(below[0])
        bounds.append(node.operation.bound(below, source, formulas.get(i)))
    return found
