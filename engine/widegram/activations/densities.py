"""Activations as mixtures of error functions of many widths.

With S_t(x) = erf(sqrt(t) x) and A_t its integral, the mean of |x + noise| of variance 1 / (2 t),

    phi(x) = c0 + c1 x + sum_i w_i S_(t_i)(x) + v_i A_(t_i)(x)

whose duals have closed forms at any variance (:mod:`~widegram.activations.mixture`). The weights
come from exact densities: where the even part of phi' and the derivative of its odd part are

    int P(y) exp(-t x^2) dy      and      int R(y) exp(-t x^2) dy,      t = exp(y),

the trapezoidal rule in y converges geometrically in 1 / step. sech^2 has such a density by the
partial fractions of tanh, exp(-|x|) by Levy's distribution, 1 / (1 + |x|)^2 by a mixture of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from widegram.activations.base import Array

Density = Callable[[Array], Array]
_LOW, _HIGH = 1e-40, 1e40
# As good as infinity: A_t is |x|.
_KINK = 1e300


@dataclass(frozen=True)
class Terms:
    """The mixture phi: c0 and c1 (``constant``, ``linear``), and t_i, w_i, v_i (each (J,))."""

    constant: float
    linear: float
    t: Array
    odd: Array
    even: Array

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """phi(x) and phi'(x), shape of x (n,)."""
        from scipy.special import erf  # SciPy takes long to import, and most networks need none

        root = np.sqrt(self.t)[:, None]
        step = erf(root * x)
        with np.errstate(over="ignore", under="ignore"):
            bell = np.exp(-((root * x) ** 2))
        # A_t(x) = x erf + exp / sqrt(pi t)
        width = 1 / (np.sqrt(np.pi) * root)
        value = self.constant + self.linear * x + self.odd @ step
        value += self.even @ (x * step + width * bell)
        slope = self.linear + (self.odd * 2 * np.sqrt(self.t / np.pi)) @ bell + self.even @ step
        return value, slope


NOTHING = Terms(0.0, 0.0, np.ones(1), np.zeros(1), np.zeros(1))


@dataclass(frozen=True)
class Densities:
    """What the mixture of one activation is made of.

    * ``at_zero``: phi(0)
    * ``linear``: the constant part of phi'
    * ``kink``: the multiple of |x|
    * ``odd``, ``even``: the densities P and R at t (None: zero)
    * ``light``: whether both vanish faster than any power towards t = 0
    * ``smooth``: whether they do so towards infinity, too
    """

    at_zero: float
    linear: float = 0.0
    kink: float = 0.0
    odd: Density | None = None
    even: Density | None = None
    light: bool = True
    smooth: bool = True

    def terms(self, step: float, low: float, high: float, small: float) -> Terms:
        """Nodes ``step`` apart in log t, from ``low`` to ``high``; those whose weights are below
        ``small`` are left out.

        What lies below ``low`` becomes a multiple of x; what lies above ``high`` joins the last
        node: both keep phi'(0).
        """
        n = np.arange(np.floor(np.log(_LOW) / step), np.log(_HIGH) / step)
        t = np.exp(n * step)
        inside = (t >= low) & (t <= high)
        zero = np.zeros(t.size)
        masses = [zero if f is None else step * f(t) for f in (self.odd, self.even)]
        linear = self.linear + float(masses[0][t < low].sum())
        kept = []
        for mass in masses:
            part = mass[inside]
            part[-1] += mass[t > high].sum()
            kept.append(part * np.sqrt(np.pi / t[inside]) / 2)
        odd, even = kept
        size = (np.abs(odd) + np.abs(even)) * np.sqrt(np.maximum(t[inside], 1.0))
        heavy = size > small * size.max()
        t, odd, even = t[inside][heavy], odd[heavy], even[heavy]
        if self.kink:
            t, odd, even = np.append(t, _KINK), np.append(odd, 0.0), np.append(even, self.kink)
        constant = self.at_zero - float((even / np.sqrt(np.pi * t)).sum())
        return Terms(constant, linear, t, odd, even)


def _hyperbolic(t: Array) -> Array:
    """t nu(t), sech(x)^2 = int nu(t) exp(-t x^2) dt.

    tanh(x) / x = int 2 theta(t) exp(-t x^2) dt, theta(t) = sum_n exp(-t (n - 1/2)^2 pi^2), and
    nu = -2 theta - 4 t theta'; for small t by Poisson's sum, where the leading terms cancel.
    """
    t = np.asarray(t)
    near, far = np.minimum(t, 0.5)[:, None], np.maximum(t, 0.5)[:, None]
    m = np.arange(1, 9)
    with np.errstate(under="ignore"):
        waves = (-1.0) ** m * m**2 / near**2 * np.exp(-(m**2) / near)
        p2 = ((m - 0.5) * np.pi) ** 2
        direct = ((4 * far * p2 - 2) * np.exp(-far * p2)).sum(axis=1)
    small = -4 * np.sqrt(near[:, 0] / np.pi) * np.nan_to_num(waves).sum(axis=1)
    return t * np.where(t < 0.5, small, direct)


def _exponential(t: Array) -> Array:
    """t nu(t), exp(-|x|) = int nu(t) exp(-t x^2) dt."""
    with np.errstate(under="ignore", over="ignore"):
        return np.exp(-1 / (4 * t)) / (2 * np.sqrt(np.pi * t))


def _rational(t: Array) -> Array:
    """t nu(t), 1 / (1 + |x|)^2 = int nu(t) exp(-t x^2) dt: nu = erfcx''(sqrt(t)) / 2."""
    from scipy.special import erfcx

    z = np.sqrt(t)
    near = np.minimum(z, 30.0)
    direct = (1 + 2 * near**2) * erfcx(near) - 2 * near / np.sqrt(np.pi)
    # erfcx(z) = (1 - 1/(2 z^2) + 3/(4 z^4) - 15/(8 z^6) + ...) / (z sqrt(pi))
    far = np.maximum(z, 30.0) ** -2.0
    tail = far**1.5 * (1 - far * (3 - far * (11.25 - far * 52.5))) / np.sqrt(np.pi)
    return t * np.where(z < 30.0, direct, tail)


def tanh(sharpness: float = 1.0, factor: float = 1.0, at_zero: float = 0.0) -> Densities:
    """at_zero + factor tanh(sharpness x)."""
    square, height = sharpness**2, factor * sharpness
    return Densities(at_zero, odd=lambda t: height * _hyperbolic(t / square))


def arctan() -> Densities:
    """arctan(x)."""
    with np.errstate(under="ignore"):
        return Densities(0.0, odd=lambda t: t * np.exp(-t), light=False)


def softsign() -> Densities:
    """x / (1 + |x|)."""
    return Densities(0.0, odd=_rational, light=False, smooth=False)


def softplus() -> Densities:
    """log(1 + exp(x)) = x / 2 + log(2 cosh(x / 2))."""
    return Densities(np.log(2.0), 0.5, even=lambda t: 0.25 * _hyperbolic(4 * t))


def swish() -> Densities:
    """x / (1 + exp(-x)) = x / 2 + x tanh(x / 2) / 2; with G = sech(x / 2)^2 the second derivative
    is G / 2 + x G' / 4, and x G' has the density -2 dg/dy of G's g."""
    h = 1e-4

    def even(t: Array) -> Array:
        g = [_hyperbolic(4 * t * np.exp(s)) for s in (-2 * h, -h, 0.0, h, 2 * h)]
        slope = (g[0] - 8 * g[1] + 8 * g[3] - g[4]) / (12 * h)
        return 0.5 * (g[2] - slope)

    return Densities(0.0, 0.5, even=even)


def elu(alpha: float) -> Densities:
    """x for x > 0, alpha (exp(x) - 1) below.

    The parts of phi' are (1 + alpha exp(-|x|)) / 2 and sign(x) (1 - alpha exp(-|x|)) / 2.
    """

    def density(t: Array) -> Array:
        return 0.5 * alpha * _exponential(t)

    kink = 0.5 * (1 - alpha)
    return Densities(0.0, 0.5, kink, odd=density, even=density, smooth=False)
