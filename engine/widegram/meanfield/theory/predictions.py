"""What the paper predicts for Theta's spectrum at depth l: its table of asymptotics.

Source: arXiv:1912.13053, table 1 and sections 3 to 5. A *constant* is a number the measured value
must approach; a *rate* is a function of l the measured value is proportional to. d = 1 for fully
connected networks and flattening ones, the number of pixels for global average pooling. Where
Theta keeps growing, :mod:`~widegram.meanfield.theory.growth` says how, beyond the paper's column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from widegram.meanfield.theory.fixedpoint import CHAOTIC, ORDERED
from widegram.meanfield.theory.growth import EXPONENTIAL, Growth
from widegram.meanfield.theory.one_layer import Array

NAMES = (
    "diagonal", "off_diagonal", "lambda_max", "bulk", "kappa", "kappa_minus_1", "predictor",
)  # fmt: skip
# Fewer measured depths than this say nothing about the limit of a slow approach.
ENOUGH = 4


@dataclass(frozen=True)
class Prediction:
    """``law`` gives the natural logarithm of the prediction over depths l.

    ``constant`` True: the value itself; False: up to a factor, with ``exponent`` the slope of the
    logarithm (against l, or against log l where ``power`` is True) after ``polynomial`` powers of
    l have been divided out. ``text`` is the formula. ``approach`` names how a constant is reached,
    as in :class:`~widegram.meanfield.theory.growth.Growth`.
    """

    text: str
    law: Callable[[Array], Array]
    constant: bool
    exponent: float = 0.0
    polynomial: int = 0
    power: bool = False
    approach: str = EXPONENTIAL

    def values(self, depths: ArrayLike) -> Array:
        """The prediction at ``depths``; underflows to 0 and overflows to infinity."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.law(np.asarray(depths, np.float64)))


def predictions(
    point: dict[str, Any], m: int, d: int = 1, kinked: bool = False, growth: Growth | None = None
) -> dict[str, Prediction]:
    """One Prediction for each of NAMES that the table has an entry for.

    ``point`` as :func:`~widegram.meanfield.theory.points.point` returns it, ``m`` inputs, ``d``
    pixels that are pooled, ``kinked`` where phi' jumps, ``growth`` of the diagonal where nothing
    bounds it.
    """
    if growth is not None:
        return growing(growth, m, d)
    if point["phase"] == ORDERED:
        return _ordered(point, m, d, kinked)
    if point["phase"] == CHAOTIC and point["p_star_ab"] is not None:
        return _chaotic(point, d)
    return {}


def _ordered(point: dict[str, Any], m: int, d: int, kinked: bool) -> dict[str, Prediction]:
    p, chi = point["p_star"], point["chi_1"]
    if not p or not chi:
        return {}
    pooled = f"/{d}" if d > 1 else ""
    pixels = " d" if d > 1 else ""
    if kinked:
        # With a kink Kdot falls as the angle, the square root of 1 - c, and so does Theta.
        bulk = rate(f"chi_1^(l/2){pooled}", math.log(chi) / 2, 0)
        kappa = rate(f"m{pixels} p*/chi_1^(l/2)", -math.log(chi) / 2, 0)
    else:
        bulk = rate(f"l chi_1^l{pooled}", math.log(chi), 1)
        kappa = rate(f"m{pixels} p*/(l chi_1^l)", -math.log(chi), -1)
    return {
        "diagonal": constant("p*", p),
        "off_diagonal": constant("p*", p),
        "lambda_max": constant("m p*", m * p),
        "bulk": bulk,
        "kappa": kappa,
        "predictor": open_rate("O(1)"),
    }


def growing(growth: Growth, m: int, d: int = 1) -> dict[str, Prediction]:
    """The critical column, for a diagonal that grows as ``growth`` and is n times the rest.

    Of an image's d^2 pixel pairs with itself d are diagonal ones: pooled, the diagonal is
    (d + n - 1)/(n d) of the unpooled one, lambda_max (m d + n - 1)/(n d), the bulk (n - 1)/(n d).
    """
    n = growth.n
    rest, pixels = n.numerator - n.denominator, " d" if d > 1 else ""
    over = f"({n.numerator} d)" if d > 1 else f"{n.numerator}"
    often = "" if n.denominator == 1 else f"{n.denominator} "

    def share(top: str, value: Fraction) -> Prediction:
        text = growth.text if value == 1 else f"{top} {growth.text}"
        factor = math.log(float(value))
        return Prediction(text, lambda l: factor + growth.law(l), True, approach=growth.approach)

    power = growth.predictor
    kappa = float((m * d + n - 1) / (n - 1))
    return {
        "diagonal": share(f"({often}d + {rest})/{over}", (d + n - 1) / (n * d)),
        "off_diagonal": share(f"{n.denominator}/{n.numerator}", 1 / n),
        "lambda_max": share(f"({often}m{pixels} + {rest})/{over}", (m * d + n - 1) / (n * d)),
        "bulk": share(f"{rest}/{over}", (n - 1) / (n * d)),
        "kappa": constant(f"({often}m{pixels} + {rest})/{rest}", kappa, growth.approach),
        "predictor": Prediction(
            "1/l" if power == -1 else f"l^({power:g})",
            lambda l: power * np.log(l), False, power, 0, True,
        ),
    }  # fmt: skip


def _chaotic(point: dict[str, Any], d: int) -> dict[str, Prediction]:
    up, ratio = math.log(point["chi_1"]), math.log(point["chi_c"] / point["chi_1"])
    pooled = f"/{d}" if d > 1 else ""
    # An odd function without bias makes inputs orthogonal: the limit is 0, without a logarithm.
    limit = point["p_star_ab"]
    off = {"off_diagonal": constant("p*_ab", limit)} if limit > 0 else {}
    return {
        "diagonal": rate(f"chi_1^l{pooled}", up, 0),
        **off,
        "lambda_max": rate(f"chi_1^l{pooled}", up, 0),
        "bulk": rate(f"chi_1^l{pooled}", up, 0),
        "kappa": constant("1", 1.0),
        # The table has O(d l (chi_c/chi_1)^l), which is the rate once the mean of Y is taken out;
        # kappa itself still holds m p*_ab over the diagonal.
        "kappa_minus_1": rate("d m p*_ab / chi_1^l" if d > 1 else "m p*_ab / chi_1^l", -up, 0),
        "predictor": rate("l (chi_c/chi_1)^l", ratio, 1),
    }


def constant(text: str, value: float, approach: str = EXPONENTIAL) -> Prediction:
    """A limit of one value."""
    return Prediction(
        text, lambda l: np.full(np.shape(l), math.log(value)), True, approach=approach
    )


def open_rate(text: str) -> Prediction:
    """A limit that depends on the data: no growth, no decay."""
    return Prediction(text, lambda l: np.zeros(np.shape(l)), False)


def rate(text: str, exponent: float, polynomial: int) -> Prediction:
    """Proportional to l^polynomial exp(exponent l)."""
    return Prediction(
        text, lambda l: exponent * l + polynomial * np.log(l), False, exponent, polynomial
    )


def fitted_exponent(prediction: Prediction, depths: Array, log_values: Array) -> float:
    """Least-squares slope of the measured logarithm, with the prediction's powers divided out.

    Where there are such powers and depths enough, a term 1/l takes up the next order, (l + a) in
    place of l: pooling makes a as large as the depths.
    """
    x = np.log(depths) if prediction.power else depths
    columns = [x, np.ones_like(depths)]
    if prediction.polynomial and len(depths) >= ENOUGH:
        columns.append(1 / depths)
    values = log_values - prediction.polynomial * np.log(depths)
    return float(np.linalg.lstsq(np.stack(columns, axis=1), values, rcond=None)[0][0])


def fitted_limit(prediction: Prediction, depths: Array, ratios: Array) -> float:
    """Where the ``ratios`` of measured to predicted go as l grows.

    Least squares on 1 and the corrections of the prediction's approach; the last ratio where that
    is exponential or the depths are too few.
    """
    if prediction.approach == EXPONENTIAL or len(depths) < ENOUGH:
        return float(ratios[-1])
    first = np.log(depths) / depths if prediction.approach == "log" else depths**-0.5
    basis = np.stack([np.ones_like(depths), first, 1 / depths], axis=1)
    return float(np.linalg.lstsq(basis, ratios, rcond=None)[0][0])
