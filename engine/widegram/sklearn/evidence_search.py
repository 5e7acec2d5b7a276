"""Hyperparameters of a Gaussian process by evidence, from training data alone.

Targets y of each column are N(0, C), C = s^2 K + diag(alpha) + noise I. With A = C^-1 y

    log N(y | 0, C) = -(y^T A + log det C + n log 2 pi) / 2,
    its derivative in a parameter t = tr((A A^T - C^-1) dC/dt) / 2

(Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, equations 5.8 and 5.9),
added up over columns. s^2 and the noise are climbed to with that derivative from several places,
because a likelihood of both has one top where all is signal and one where all is noise; options of
a network, whose derivatives are not known, by the simplex of Nelder and Mead, each with the best
s^2 and noise of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from widegram.linalg.evidence import log_evidence, moved, resolved_evidence, spread_of
from widegram.machine import interrupts

Array = NDArray[Any]
STARTS = (1e-3, 3e-2, 1.0)
"""Noise, in units of the prior's variance, from which the climb starts."""

RATIO = (1e-8, 1e3)
"""Bounds of that: below, a matrix in float64 is not definite."""

_REACH = 1e6  # of the prior's variance and the noise, around the mean square of the targets
_EVALUATIONS = 40  # of a simplex, for each option of a network
_CLOSE = 1e-4  # of the logarithms of options, and of the evidence, where a simplex ends
_NO_FACTOR = 1e25  # a loss that every line search backs away from


class Slope(NamedTuple):
    """A log evidence, and its derivatives in s^2 and in the noise."""

    value: float
    scale: float
    noise: float


Likelihood = Callable[[float, float], Slope | None]
"""Of s^2 and the noise; None where the covariance is not positive definite."""


class Levels(NamedTuple):
    """``scale`` s^2, the factor of the kernel, and the variance ``noise``; None is unknown."""

    scale: float | None
    noise: float | None


@dataclass(frozen=True, kw_only=True)
class BestEvidence:
    """The hyperparameters of highest evidence: ``scale`` s^2, ``noise``, and ``options`` of the
    network, with their ``log_evidence``."""

    scale: float
    noise: float
    log_evidence: float
    options: dict[str, float] = field(default_factory=dict)


def covariance(kernel: Array, scale: float, noise: Array | float) -> Array:
    """C (n, n), for ``noise`` that is a number or one for each row."""
    found = scale * kernel
    found[np.diag_indices(len(kernel))] += noise
    return found


def evidence_at(kernel: Array, y: Array, scale: float, noise: Array | float) -> float:
    """The log evidence of targets y (n, k); minus infinity where C is not positive definite, so
    near to singular that rounding decides it, or float64 cannot hold it."""
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = covariance(kernel, scale, noise)
    if not np.isfinite(matrix).all():
        return -np.inf
    diagonal = np.diagonal(matrix)
    try:
        factor, lower = cho_factor(matrix, lower=True, check_finite=False)
    except LinAlgError:
        return -np.inf
    a = cho_solve((factor, lower), y, check_finite=False)
    half = partial(solve_triangular, factor, lower=True, check_finite=False)
    rounding = moved(diagonal, spread_of(half, diagonal), a)
    logdet = 2.0 * float(np.log(np.diagonal(factor)).sum())
    found = resolved_evidence(np.einsum("ij,ij->j", y, a), logdet, len(y), rounding)
    return -np.inf if found is None else found


def best_levels(kernel: Array, y: Array, alpha: Array | float, given: Levels) -> BestEvidence:
    """The scale and the noise of highest evidence, those that are ``given`` as they are."""
    # Of a kernel that is zero any scale is the best one.
    own = float(np.mean(np.diagonal(kernel))) or 1.0
    square = float(np.mean(y**2))
    if square == 0.0 or (given.scale is not None and given.noise is not None):
        known = (default if v is None else v for v, default in zip(given, (1.0, 0.0), strict=True))
        return _found(kernel, y, alpha, *known)
    unit = square / own
    # Beside targets that are far larger than a given prior noise has their size.
    small = given.scale is not None and RATIO[1] * given.scale * own < square

    def levels(theta: Array) -> tuple[float, float]:
        parts = list(np.exp(theta))
        scale = parts.pop(0) if given.scale is None else given.scale
        if given.noise is not None:
            return scale, given.noise
        return scale, (square if small else scale * own) * parts[0]

    likelihood = _likelihood(kernel, y, alpha)

    def loss(theta: Array) -> tuple[float, Array]:
        """Minus the evidence, and its derivatives in the logarithms that are unknown: of the scale,
        with the noise that is relative to it, and of the noise."""
        interrupts.check()
        scale, noise = levels(theta)
        found = likelihood(scale, noise)
        if found is None:
            return _NO_FACTOR, np.zeros(theta.size)
        slopes = []
        if given.scale is None:
            slopes.append(scale * found.scale + (given.noise is None) * noise * found.noise)
        if given.noise is None:
            slopes.append(noise * found.noise)
        return -found.value, -np.array(slopes)

    bounds, starts = [], [np.empty(0)]
    if given.scale is None:
        bounds.append((np.log(unit / _REACH), np.log(unit * _REACH)))
        starts = [np.array([np.log(unit)])]
    if given.noise is None:
        bounds.append(tuple(np.log(RATIO)))
        starts = [np.append(start, np.log(ratio)) for ratio in STARTS for start in starts]
    ends = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts
    ]
    best = min(ends, key=lambda end: float(end.fun))
    return _found(kernel, y, alpha, *levels(best.x))


def best_options(
    at: Callable[[Mapping[str, float]], BestEvidence],
    bounds: Mapping[str, tuple[float, float]],
    restarts: int,
    generator: np.random.RandomState,
) -> BestEvidence:
    """The options of highest evidence within ``bounds``, of which ``at`` says the best levels.

    From the middles of the bounds, on logarithms, and from ``restarts`` places that are drawn.
    """
    names = list(bounds)
    low, high = np.log(np.array([bounds[name] for name in names], dtype=float)).T
    seen: list[BestEvidence] = []

    def loss(theta: Array) -> float:
        interrupts.check()
        seen.append(at(dict(zip(names, np.exp(np.clip(theta, low, high)).tolist(), strict=True))))
        return -seen[-1].log_evidence

    starts = [(low + high) / 2, *generator.uniform(low, high, size=(restarts, len(names)))]
    for start in starts:
        minimize(
            loss, start, method="Nelder-Mead", bounds=list(zip(low, high, strict=True)),
            options={"maxfev": _EVALUATIONS * len(names), "xatol": _CLOSE, "fatol": _CLOSE},
        )  # fmt: skip
    return max(seen, key=lambda found: found.log_evidence)


def _found(
    kernel: Array, y: Array, alpha: Array | float, scale: float, noise: float
) -> BestEvidence:
    told = evidence_at(kernel, y, scale, alpha + noise)
    return BestEvidence(scale=float(scale), noise=float(noise), log_evidence=told)


def _likelihood(kernel: Array, y: Array, alpha: Array | float) -> Likelihood:
    """The evidence as a function of scale and noise, with its slope; None where there is none.

    By the eigenvalues of the kernel, once, where all rows have one ``alpha``; else by a
    factorisation each time.
    """
    return _dense(kernel, y, alpha) if np.ndim(alpha) else _spectral(kernel, y, float(alpha))


def _spectral(kernel: Array, y: Array, alpha: float) -> Likelihood:
    n, k = y.shape
    values, vectors = np.linalg.eigh(kernel)
    squares = np.sum((vectors.T @ y) ** 2, axis=1)

    def at(scale: float, noise: float) -> Slope | None:
        own = scale * values + alpha + noise
        if own.min() <= 0:
            return None
        logdet = float(np.log(own).sum())
        value = log_evidence(np.array([np.sum(squares / own)]), k * logdet, k * n)
        weight = (squares / own - k) / own
        return Slope(value, 0.5 * float(weight @ values), 0.5 * float(weight.sum()))

    return at


def _dense(kernel: Array, y: Array, alpha: Array | float) -> Likelihood:
    n, k = y.shape

    def at(scale: float, noise: float) -> Slope | None:
        matrix = covariance(kernel, scale, alpha + noise)
        try:
            factor = cho_factor(matrix, lower=True, check_finite=False)
        except LinAlgError:
            return None
        a = cho_solve(factor, y, check_finite=False)
        logdet = 2.0 * float(np.log(np.diagonal(factor[0])).sum())
        value = log_evidence(np.einsum("ij,ij->j", y, a), logdet, n)
        weight = a @ a.T - k * cho_solve(factor, np.eye(n), check_finite=False)
        return Slope(value, 0.5 * float(np.sum(weight * kernel)), 0.5 * float(np.trace(weight)))

    return at
