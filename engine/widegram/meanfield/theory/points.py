"""One point of the phase diagram, with the statements that numbers alone do not make."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from widegram.activations.error_function import Erf
from widegram.meanfield.theory.fixedpoint import (
    CHAOTIC,
    CRITICAL,
    ORDERED,
    FixedPoints,
    critical_w_var,
    fixed_points,
)
from widegram.meanfield.theory.growth import LARGE
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.meanfield.theory.precise import refine

QUANTITIES = (
    "q_star",
    "c_star",
    "chi_1",
    "chi_c",
    "p_star",
    "p_star_ab",
    "xi_1",
    "xi_c",
    "xi_star",
)

# Below this a correlation has lost digits that are missed.
_SMALL = 1e-4


def point(act: str | LayerMaps, w_var: float, b_var: float) -> dict[str, Any]:
    """Everything known about one (activation, w_var, b_var); None where a quantity is undefined.

    Keys: phase, the names of QUANTITIES, w_var_critical, and besides them ``one_minus_c_star``
    (with its own relative precision), ``error`` (relative, of the moments and the solver),
    ``converged``, ``iterations`` and ``statements``, a list of sentences.

    Raises WidegramError for negative variances, unknown activations, activations without slope.
    """
    maps = LayerMaps.of(act)
    solved = fixed_points(maps, w_var, b_var)
    phase = str(solved.phase())
    values = solved.item()
    solvable = phase == ORDERED or (phase == CHAOTIC and values["gap"] > 0)
    if isinstance(maps.dual, Erf) and solvable and values["q_star"] > 0:
        values |= refine(maps.dual, w_var, b_var, values["q_star"], values["gap"])
    result: dict[str, Any] = {"phase": phase or None}
    result |= {name: _known(values[name]) for name in QUANTITIES}
    result["w_var_critical"] = critical_w_var(maps, b_var)
    result["one_minus_c_star"] = _known(values["gap"])
    result["error"] = max(values["error"], series_error(maps, values["q_star"]))
    result["converged"] = bool(values["converged"])
    result["iterations"] = int(values["iterations"])
    result["statements"] = _statements(maps, w_var, b_var, solved, phase)
    return result


def series_error(maps: LayerMaps, q: float) -> float:
    """Relative error of the moments at variance q: a series' tail, else rounding."""
    if not math.isfinite(q) or q <= 0:
        return 0.0
    at = np.array([q])
    value, slope = maps.dual.moments(at, at, at)
    exact, exact_slope = maps.dual.variance(at)
    tails = [
        float(abs(v - e)[0] / abs(e)[0]) if e[0] else 0.0
        for v, e in ((value, exact), (slope, exact_slope))
    ]
    return max([*tails, float(np.finfo(float).eps)])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _statements(maps: LayerMaps, w: float, b: float, solved: FixedPoints, phase: str) -> list[str]:
    a = maps.homogeneity()
    if a is not None:
        return _homogeneous_statements(maps, w, b, a)
    values = solved.item()
    if math.isnan(values["q_star"]):
        said = ["q grows without bound from small inputs: there is no stable fixed point"]
        if maps.is_kinked(LARGE):
            said.append(
                "large signals see a scale-free activation: 1 - c falls as 1 / l^2; Theta grows as "
                "l q_l on the diagonal and (1/4) l q_l off it, kappa -> (m + 3)/3"
            )
        return said
    said = []
    if values["q_star"] == 0:
        said.append("q -> 0: signals vanish, and the correlation of vanishing signals is undefined")
    elif phase == CRITICAL:
        said.append(
            "critical: 1 - c falls as a power law, about 1/l; Theta grows as l q* on the "
            "diagonal and (1/3) l q* off it; xi_1 is infinite"
        )
    elif abs(values["chi_1"] - 1) < 0.01:
        depth = -1 / math.log(values["chi_c"])
        said.append(
            f"near-critical: a power law up to about {depth:.4g} layers, then the "
            f"{'fixed point at c = 1' if phase == ORDERED else 'fixed point c*'}"
        )
        if not isinstance(maps.dual, Erf):
            digits = math.log10(abs(values["chi_1"] - 1) / series_error(maps, values["q_star"]))
            said.append(
                f"p* and xi divide by 1 - chi, which has lost digits: about {digits:.0f} are left"
            )
    if phase == CHAOTIC and 0 < values["c_star"] < _SMALL and not isinstance(maps.dual, Erf):
        digits = max(0, math.floor(math.log10(values["c_star"] / np.finfo(float).eps)))
        said.append(f"c* is what is left of 1 - (1 - c*): about {digits} digits of it and of p*_ab")
    if not values["converged"]:
        said.append("a solver did not converge: take the digits shown by error, no more")
    return said


def _homogeneous_statements(maps: LayerMaps, w: float, b: float, a: float) -> list[str]:
    """phi(s x) = s phi(x): q_l = w a q_(l-1) + b, and the map of c = k / q has slope 1 at c = 1."""
    growth = w * a
    said = [
        f"scale-free activation: q is multiplied by w_var * {a:.12g} = {growth:.12g} "
        "in every layer, and chi_1 is that number at every q"
    ]
    bend = kink(maps, a)
    law = (
        f"1 - c falls as {(3 * math.pi / bend) ** 2 / 2:.6g} / l^2"
        if bend > 0
        else "c does not move, the function being linear"
    )
    if abs(growth - 1) <= 1e-10:
        said.append(
            "critical: every q is a fixed point, so q* is the input's own"
            if b == 0
            else "critical: q grows by b_var in every layer, without a fixed point"
        )
        if b == 0:
            said.append(
                f"{law}; Theta grows as l q on the diagonal"
                + (" and (1/4) l q off it, kappa -> (m + 3)/3" if bend > 0 else "")
            )
        elif bend > 0:
            said.append(
                f"1 - c falls as {(3 * math.pi / bend) ** 2 / 8:.6g} / l^2; Theta grows as "
                "b_var l^2 / 2 on the diagonal and 4/7 of that off it, kappa -> (4 m + 3)/3"
            )
    elif growth > 1:
        said.append(
            f"q and Theta grow without bound; the bias becomes negligible and {law}"
            + ("; Theta is l q_l on the diagonal, (1/4) l q_l off it" if bend > 0 else "")
        )
    elif b == 0:
        said.append(f"q -> 0 at rate {growth:.6g}; of the vanishing signals {law}")
    else:
        said.append("ordered: q* = b_var / (1 - chi_1) is isolated only because b_var > 0")
    return said


def kink(maps: LayerMaps, a: float) -> float:
    """The s with Kdot = a (1 - s theta / pi): (a_- - a_+)^2 / (a_-^2 + a_+^2), 1 for ReLU."""
    theta = 0.5
    one = np.ones(1)
    kdot = float(maps.dual.moments(one, one * math.cos(theta), one)[1][0])
    return (1 - kdot / a) * math.pi / theta


__all__ = ["QUANTITIES", "kink", "point", "series_error"]
