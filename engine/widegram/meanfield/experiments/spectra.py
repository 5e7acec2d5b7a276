"""Spectra and mean predictors of Theta = p 1 1^T - exp(s) M, M small and known to full precision.

In an orthonormal basis (1/sqrt(m), Q), Q an orthonormal complement of 1, Theta is

    [ m p + e^s g    e^s b^T ]        g = -u^T M u,  b = -Q^T M u,  A = -Q^T M Q
    [   e^s b        e^s A   ]

and eliminating the first row leaves exp(s) (A - e^s b b^T / (m p + e^s g - lambda)) for the bulk,
whose correction is of second order: e^s factors out of the bulk however small it is.
Source: derived here; the sizes of the parts are those of arXiv:1912.13053, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.theory.one_layer import Array

# Above this ratio of deviation to level a dense matrix keeps ten digits of the bulk itself.
DENSE = 1e-6
# A mean off the diagonal below this share of the level is the level's rounding.
_LOST = 1e-13
_LN10 = float(np.log(10.0))


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What a symmetric (m, m) kernel matrix has: all as plain numbers.

    ``log10_min``, ``log10_bulk`` and ``log10_kappa`` hold where the plain numbers leave the range
    of float64. ``bulk`` is the mean of all eigenvalues but the largest, ``kappa_minus_1`` keeps
    its relative precision where kappa -> 1.
    """

    diagonal: float
    off_diagonal: float
    lambda_max: float
    lambda_min: float
    bulk: float
    kappa: float
    kappa_minus_1: float
    log10_min: float
    log10_bulk: float
    log10_kappa: float


def dense_spectrum(theta: Array) -> Measures:
    """The measures of a symmetric matrix (m, m), m >= 2, by LAPACK in float64."""
    values = np.linalg.eigvalsh(theta)
    m = len(theta)
    diagonal = np.diag(theta)
    # Not a difference of sums: the diagonal may be 1e16 times the rest.
    off = (theta - np.diag(diagonal)).sum() / (m * (m - 1))
    # kappa - 1 from the matrix without its mean diagonal: the chaotic phase needs it.
    level = float(diagonal.mean())
    rest = np.linalg.eigvalsh((theta - level * np.eye(m)) / level)
    excess = (rest[-1] - rest[0]) / (1 + rest[0]) if rest[0] > -1 else np.inf
    bulk = float(values[:-1].mean())
    kappa = float(values[-1] / values[0]) if values[0] > 0 else float("inf")
    return Measures(
        diagonal=level,
        off_diagonal=float(off),
        lambda_max=float(values[-1]),
        lambda_min=float(values[0]),
        bulk=bulk,
        kappa=kappa,
        kappa_minus_1=float(excess),
        log10_min=_log10(values[0]),
        log10_bulk=_log10(bulk),
        log10_kappa=_log10(kappa),
    )


def deviation_spectrum(level: float, drop: LogScaled) -> Measures:
    """The measures of level 1 1^T - drop, ``drop`` symmetric of shape (m, m).

    Six digits and more of every eigenvalue at any scale of ``drop``.
    """
    plain = drop.plain()
    if np.abs(plain).max() > DENSE * abs(level):
        found = dense_spectrum(level - plain)
        lost = abs(found.off_diagonal) < _LOST * abs(level)
        return replace(found, off_diagonal=np.nan) if lost else found
    m = len(plain)
    parts = Blocks.of(level, drop)
    bulk = np.linalg.eigvalsh(parts.schur())
    top = m * level + parts.scale * parts.g
    smallest = float(bulk[0])
    mean = float(bulk.mean())
    log10_s = drop.log_scale / _LN10
    log10_min = _log10(smallest) + log10_s
    log10_kappa = _log10(top) - log10_min
    off = (drop.value.sum() - np.trace(drop.value)) / (m * (m - 1)) * parts.scale
    kappa = _power10(log10_kappa)
    return Measures(
        diagonal=level - float(np.trace(drop.value)) / m * parts.scale,
        off_diagonal=level - float(off),
        lambda_max=float(top),
        lambda_min=smallest * parts.scale,
        bulk=mean * parts.scale,
        kappa=kappa,
        kappa_minus_1=kappa - 1,
        log10_min=log10_min,
        log10_bulk=_log10(mean) + log10_s,
        log10_kappa=log10_kappa,
    )


def predict(
    level: float, drop: LogScaled, level_test: float, drop_test: LogScaled, y: Array
) -> Array:
    """Theta_test Theta_train^-1 y at any scale: drop (m, m), drop_test (n, m), y (m, k) -> (n, k).

    Both kernels are level 1 1^T minus their drop; the two drops may have different scales.
    """
    plain = drop.plain()
    if np.abs(plain).max() > DENSE * abs(level):
        train = level - plain
        return np.asarray((level_test - drop_test.plain()) @ np.linalg.solve(train, y))
    parts = Blocks.of(level, drop)
    m = len(plain)
    top = m * level + parts.scale * parts.g
    u = parts.u
    y_u, y_q = u @ y, parts.basis.T @ y
    # z is e^s times the bulk part of the solution.
    coupling = parts.scale / top * np.outer(parts.b, y_u)
    z = np.linalg.solve(parts.schur(), y_q - coupling)
    x_u = (y_u - parts.b @ z) / top
    ratio = np.exp(drop_test.log_scale - drop.log_scale)
    small = drop_test.value @ (parts.scale * ratio * np.outer(u, x_u) + ratio * (parts.basis @ z))
    return np.asarray(level_test * np.sqrt(m) * x_u - small)


@dataclass(frozen=True)
class Blocks:
    """The four blocks; ``schur`` is the bulk over e^s."""

    scale: float
    top: float
    g: float
    b: Array
    a: Array
    u: Array
    basis: Array

    @classmethod
    def of(cls, level: float, drop: LogScaled) -> Blocks:
        m = len(drop.value)
        u = np.full(m, 1 / np.sqrt(m))
        basis = np.linalg.qr(np.column_stack([u, np.eye(m)[:, : m - 1]]))[0][:, 1:]
        with np.errstate(under="ignore"):
            scale = float(np.exp(drop.log_scale))
        matrix = -drop.value
        return cls(
            scale,
            m * level,
            float(u @ matrix @ u),
            basis.T @ matrix @ u,
            basis.T @ matrix @ basis,
            u,
            basis,
        )

    def schur(self) -> Array:
        center = float(np.trace(self.a)) / max(len(self.a), 1)
        pivot = self.top + self.scale * (self.g - center)
        return self.a - self.scale * np.outer(self.b, self.b) / pivot


def _log10(value: float) -> float:
    return float(np.log10(value)) if value > 0 else float("nan")


def _power10(exponent: float) -> float:
    return float(10.0**exponent) if exponent < 308 else float("inf")
