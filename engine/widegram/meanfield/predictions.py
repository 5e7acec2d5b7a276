"""What the paper predicts for Theta's spectrum at depth l: its table of asymptotics.

Source: arXiv:1912.13053, table 1 and sections 3 to 5. A *constant* is a number the measured value
must approach; a *rate* is a function of l the measured value is proportional to. d = 1 for fully
connected networks and flattening ones, the number of pixels for global average pooling. At
criticality Theta off its diagonal is 1/n of the diagonal, n = 3 for smooth activations and 4 for
those with a kink (there 1 - c falls as 1/l^2; derived in the same way).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from widegram.meanfield.fixedpoint import CHAOTIC, CRITICAL, ORDERED
from widegram.meanfield.maps import Array

NAMES = (
    "diagonal", "off_diagonal", "lambda_max", "bulk", "kappa", "kappa_minus_1", "predictor",
)  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """``law`` gives the natural logarithm of the prediction over depths l.

    ``constant`` True: the value itself; False: up to a factor, with ``exponent`` the slope of the
    logarithm (against l, or against log l where ``power`` is True) after ``polynomial`` powers of
    l have been divided out. ``text`` is the formula.
    """

    text: str
    law: Callable[[Array], Array]
    constant: bool
    exponent: float = 0.0
    polynomial: int = 0
    power: bool = False

    def values(self, depths: ArrayLike) -> Array:
        """The prediction at ``depths``; underflows to 0 and overflows to infinity."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.law(np.asarray(depths, np.float64)))


def predictions(
    point: dict[str, Any], m: int, d: int = 1, n: int = 3, q: float | None = None
) -> dict[str, Prediction]:
    """One Prediction for each of NAMES that the table has an entry for.

    ``point`` as :func:`widegram.meanfield.points.point` returns it, ``m`` inputs, ``d`` pixels that
    are pooled, ``n`` the critical ratio of diagonal to off-diagonal, ``q`` the conserved q where
    there is no isolated one.
    """
    phase = point["phase"]
    if phase == CRITICAL:
        return _critical(q if point["q_star"] is None else point["q_star"], m, d, n)
    if phase == ORDERED:
        return _ordered(point, m, d, n)
    if phase == CHAOTIC and point["p_star_ab"] is not None:
        return _chaotic(point, d)
    return {}


def _ordered(point: dict[str, Any], m: int, d: int, n: int) -> dict[str, Prediction]:
    p, chi = point["p_star"], point["chi_1"]
    if not p or not chi:
        return {}
    pooled = f"/{d}" if d > 1 else ""
    pixels = " d" if d > 1 else ""
    if n == 3:
        bulk = rate(f"l chi_1^l{pooled}", math.log(chi), 1)
        kappa = rate(f"m{pixels} p*/(l chi_1^l)", -math.log(chi), -1)
    else:
        # With a kink Kdot falls as the angle, the square root of 1 - c, and so does Theta.
        bulk = rate(f"chi_1^(l/2){pooled}", math.log(chi) / 2, 0)
        kappa = rate(f"m{pixels} p*/chi_1^(l/2)", -math.log(chi) / 2, 0)
    return {
        "diagonal": constant("p*", p),
        "off_diagonal": constant("p*", p),
        "lambda_max": constant("m p*", m * p),
        "bulk": bulk,
        "kappa": kappa,
        "predictor": open_rate("O(1)"),
    }


def _critical(q: float | None, m: int, d: int, n: int) -> dict[str, Prediction]:
    if not q:
        return {}
    p, over = (" d", f"({n} d)") if d > 1 else ("", str(n))
    return {
        "diagonal": _linear(
            f"(d + {n - 1})/{over} l q*" if p else "l q*", (d + n - 1) / (n * d) * q
        ),
        "off_diagonal": _linear(f"1/{n} l q*", q / n),
        "lambda_max": _linear(f"(m{p} + {n - 1})/{over} l q*", (m * d + n - 1) / (n * d) * q),
        "bulk": _linear(f"{n - 1}/{over} l q*", (n - 1) / (n * d) * q),
        "kappa": constant(f"(m{p} + {n - 1})/{n - 1}", (m * d + n - 1) / (n - 1)),
        "predictor": Prediction("1/l", lambda l: -np.log(l), False, -1.0, 0, True),
    }


def _chaotic(point: dict[str, Any], d: int) -> dict[str, Prediction]:
    up, ratio = math.log(point["chi_1"]), math.log(point["chi_c"] / point["chi_1"])
    pooled = f"/{d}" if d > 1 else ""
    return {
        "diagonal": rate(f"chi_1^l{pooled}", up, 0),
        "off_diagonal": constant("p*_ab", point["p_star_ab"]),
        "lambda_max": rate(f"chi_1^l{pooled}", up, 0),
        "bulk": rate(f"chi_1^l{pooled}", up, 0),
        "kappa": constant("1", 1.0),
        # The table has O(d l (chi_c/chi_1)^l), which is the rate once the mean of Y is taken out;
        # kappa itself still holds m p*_ab over the diagonal.
        "kappa_minus_1": rate("d m p*_ab / chi_1^l", -up, 0),
        "predictor": rate("l (chi_c/chi_1)^l", ratio, 1),
    }


def constant(text: str, value: float) -> Prediction:
    """A limit of one value."""
    return Prediction(text, lambda l: np.full(np.shape(l), math.log(value)), True)


def open_rate(text: str) -> Prediction:
    """A limit that depends on the data: no growth, no decay."""
    return Prediction(text, lambda l: np.zeros(np.shape(l)), False)


def _linear(text: str, factor: float) -> Prediction:
    return Prediction(text, lambda l: np.log(factor * l), True)


def rate(text: str, exponent: float, polynomial: int) -> Prediction:
    """Proportional to l^polynomial exp(exponent l)."""
    return Prediction(
        text, lambda l: exponent * l + polynomial * np.log(l), False, exponent, polynomial
    )


def fitted_exponent(prediction: Prediction, depths: Array, log_values: Array) -> float:
    """Least-squares slope of the measured logarithm, with the prediction's powers divided out."""
    x = np.log(depths) if prediction.power else depths
    return float(np.polyfit(x, log_values - prediction.polynomial * np.log(depths), 1)[0])
