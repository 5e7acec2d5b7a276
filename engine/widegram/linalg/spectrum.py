"""The spectrum of a matrix: in full, or its ends, its median and its density."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.errors import WidegramError
from widegram.linalg.density import Density, lanczos_density
from widegram.linalg.eigen import Eigenpairs, choose_driver, full_eigen, partial_eigen
from widegram.linalg.lowest import MARGIN, lowest_eigen
from widegram.linalg.operator import GramOperator
from widegram.linalg.settings import Resources
from widegram.linalg.summary import Range, Spectrum, resolution
from widegram.validation.arrays import choice, integer, number
from widegram.validation.choices import WHICH

Array = NDArray[Any]
_FULL_MOST = 12_000
# Inverse iteration, of the largest eigenvalue of the inverse: for vectors, for lambda_min alone.
_PAIRS_TOL = 1e-7
_SUMMARY_TOL = 1e-4
_HALVINGS = 14
_SUMMARY_PASSES = 60


@dataclass(frozen=True)
class SpectrumOptions:
    """What to compute.

    * ``full``: every eigenvalue, by LAPACK; ``vectors``: eigenvectors too
    * ``k``: that many eigenpairs, those at the end ``which``
    * ``density``: numbers of eigenvalues, from ``probes`` random vectors and ``steps`` passes
    * none of these three: all eigenvalues where that fits and is quick, else density and ends
    * ``tol``, ``max_passes``: when an eigenpair has converged, and when no more is tried
    * ``seed``: of random vectors

    Raises WidegramError for an unknown end, and for numbers that are none or too small.
    """

    full: bool = False
    vectors: bool = False
    k: int | None = None
    which: str = "LA"
    density: bool = False
    probes: int = 16
    steps: int = 80
    tol: float = 1e-8
    max_passes: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        choice(self.which, "which", WHICH)
        for name, least in (("probes", 2), ("steps", 4), ("max_passes", 1)):
            integer(getattr(self, name), name, least)
        if not 0 < number(self.tol, "tol") <= 1:
            raise WidegramError(f"tol is {self.tol:g}; it must be above 0 and at most 1")


def spectrum(
    operator: GramOperator, options: SpectrumOptions, resources: Resources
) -> Spectrum:
    """Eigenvalues of the operator as asked, with the summary.

    Raises WidegramError for options that exclude each other, entries that are not finite, and what
    does not fit in memory.
    """
    started = time.perf_counter()
    if options.full and (options.k or options.density):
        raise WidegramError("--full gives every eigenvalue; leave out --k and --density")
    if options.k is not None and not 1 <= options.k <= operator.shape[0]:
        raise WidegramError(f"--k {options.k}: give 1 <= k <= {operator.shape[0]}, the rows")
    operator, unit = replace(operator, memory=resources.memory // 8).in_units()
    full, why = _wants_full(operator.shape[0], options, resources.memory)
    compute = _from_full if full else _from_parts
    summary = compute(operator, options, resources, why)
    return replace(summary.times(unit), seconds=time.perf_counter() - started)


def _wants_full(n: int, options: SpectrumOptions, memory: int) -> tuple[bool, str]:
    if options.full:
        return True, "as asked"
    if options.k or options.density:
        return False, "as asked"
    try:
        choose_driver(n, options.vectors, memory - memory // 8)
    except WidegramError:
        return False, f"a full decomposition of {n} rows does not fit in memory"
    if n > _FULL_MOST:
        return False, f"a full decomposition of {n} rows would take long; --full asks for it"
    return True, f"{n} rows fit in memory"


def _from_full(
    operator: GramOperator, options: SpectrumOptions, resources: Resources, why: str
) -> Spectrum:
    diagonal = operator.diagonal()
    pairs = full_eigen(
        operator,
        vectors=options.vectors,
        memory=resources.memory - operator.memory,
        progress=resources.progress,
    )
    values = pairs.values
    if not np.isfinite(values).all():
        operator.require_finite()
    floor = resolution(values.size, values[-1], diagonal.max(), operator.dtype)
    total = _total(diagonal, floor, operator.dtype)
    squares = float(np.sum(values**2))
    return Spectrum(
        n=values.size,
        top=_around(values[-1], _rounding_of_top(values[-1], floor, values.size, operator.dtype)),
        bottom=_around(values[0], floor),
        median=_around(np.median(values), floor),
        total=total,
        effective_rank=total.value**2 / squares if squares else 0.0,
        resolution=floor,
        unresolved=int(np.sum(np.abs(values) <= floor)),
        lambda_min_residual=None,
        pairs=pairs,
        density=None,
        method=pairs.method,
        why=why,
        seconds=0.0,
        dtype=operator.dtype.name,
        requested=True,
        known=values,
    )


def _from_parts(
    operator: GramOperator, options: SpectrumOptions, resources: Resources, why: str
) -> Spectrum:
    n, diagonal, frobenius = operator.shape[0], operator.diagonal(), operator.frobenius()
    if not np.isfinite(frobenius):
        operator.require_finite()
    whole = operator.dtype.itemsize * n * n
    if whole <= resources.memory // 4:
        operator = operator.cached()
        resources = replace(resources, memory=resources.memory - whole)
    high, low = _counts(options)
    upper = _highest(operator, high, options, resources)
    theta = float(upper.values[-1])
    floor = resolution(n, theta, diagonal.max(), operator.dtype)
    lower = _lowest(operator, low, theta, floor, options, resources)
    pairs = _asked(upper, lower, options)
    density = lanczos_density(
        operator,
        probes=options.probes,
        steps=options.steps,
        seed=options.seed,
        progress=resources.progress,
    )
    rounding = _rounding_of_top(theta, floor, n, operator.dtype)
    beyond = min(MARGIN * float(upper.errors[-1]), max(frobenius - theta, 0.0))
    top = Range(theta, theta - rounding, theta + beyond + rounding)
    value = float(lower.values[0])
    below = float(lower.errors[0]) if frobenius else 0.0
    bottom = Range(value, value - below - floor, value + floor)
    total = _total(diagonal, floor, operator.dtype)
    known = pairs.values if options.k else np.array([value, theta])
    return Spectrum(
        n=n,
        top=top,
        bottom=bottom,
        median=_median(density, top, bottom, frobenius, floor),
        total=total,
        effective_rank=(total.value / frobenius) ** 2 if frobenius else 0.0,
        resolution=floor,
        unresolved=int(np.sum(np.abs(known) <= floor)),
        lambda_min_residual=None if lower.residuals is None else float(lower.residuals[0]),
        pairs=pairs,
        density=density if options.density or not options.k else None,
        method=f"{upper.method} (top), {lower.method} (bottom), lanczos-quadrature (median)",
        why=why,
        seconds=0.0,
        dtype=operator.dtype.name,
        requested=options.k is not None,
        known=known,
    )


def _around(value: float, error: float) -> Range:
    return Range(float(value), float(value) - error, float(value) + error)


def _rounding_of_top(value: float, floor: float, n: int, dtype: DTypeLike) -> float:
    """Entries of one size round the same way, which moves the largest eigenvalue by its eps.

    Its own Rayleigh quotient, a sum over n, is rounded like sqrt(n) eps64.
    """
    sums = 2.0 * math.sqrt(n) * float(np.finfo(np.float64).eps)
    return max(floor, max(float(np.finfo(dtype).eps), sums) * abs(value))


def _total(diagonal: Array, floor: float, dtype: DTypeLike) -> Range:
    """The trace, with what rounding in ``dtype`` and that of an eigenvalue did to it."""
    eps = float(np.finfo(dtype).eps)
    return _around(math.fsum(diagonal), floor + 4.0 * eps * math.fsum(np.abs(diagonal)))


def _median(density: Density, top: Range, bottom: Range, frobenius: float, floor: float) -> Range:
    """The median eigenvalue (numpy's), by bisection of the numbers of eigenvalues below x."""
    n = density.n
    first, last = (n + 1) // 2, n // 2 + 1  # of the ascending eigenvalues, from 1
    least = bottom.low if np.isfinite(bottom.low) else -frobenius - floor
    low = _crossing(lambda x: density.count_below(x)[1] >= first, least, top.high, floor)[0]
    high = _crossing(lambda x: density.count_below(x)[0] >= last, least, top.high, floor)[1]
    low, high = max(low - floor, least), min(high + floor, top.high)
    return Range(float(np.clip(density.quantile(0.5), low, high)), low, high)


def _crossing(
    reached: Callable[[float], bool], low: float, high: float, floor: float
) -> tuple[float, float]:
    """An interval in [low, high] in which ``reached``, increasing in x, becomes true.

    Halved in steps of equal ratio above ``floor``; below it, to floor's sign.
    """
    floor = max(floor, float(np.finfo(float).tiny))
    for edge in (-floor, floor):
        if low < edge < high:
            low, high = (low, edge) if reached(edge) else (edge, high)
    if low < floor:
        return low, high
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if reached(middle) else (middle, high)
    return low, high


def _counts(options: SpectrumOptions) -> tuple[int, int]:
    """Pairs at the top and at the bottom, of each at least the one that the summary needs."""
    k = options.k or 1
    high = {"LA": k, "SA": 1, "BE": k - k // 2}[options.which]
    low = {"LA": 1, "SA": k, "BE": max(1, k // 2)}[options.which]
    return high, low


def _highest(
    operator: GramOperator, k: int, options: SpectrumOptions, resources: Resources
) -> Eigenpairs:
    return partial_eigen(
        operator,
        k,
        "LA",
        tol=options.tol,
        max_passes=options.max_passes,
        memory=resources.memory // 2,
        seed=options.seed,
        progress=resources.progress,
    )


def _lowest(
    operator: GramOperator,
    k: int,
    top: float,
    floor: float,
    options: SpectrumOptions,
    resources: Resources,
) -> Eigenpairs:
    """The bottom; on the disk only where it was asked for, not for a summary beside the top."""
    beside_top = options.k is not None and options.which == "LA"
    return lowest_eigen(
        operator,
        k,
        top,
        replace(
            resources,
            memory=resources.memory - resources.memory // 8,
            work=None if beside_top else resources.work,
        ),
        tol=options.tol,
        inverse_tol=_PAIRS_TOL if options.k else _SUMMARY_TOL,
        max_passes=min(options.max_passes, _SUMMARY_PASSES)
        if beside_top or not options.k
        else options.max_passes,
        floor=floor,
        seed=options.seed,
    )


def _asked(high: Eigenpairs, low: Eigenpairs, options: SpectrumOptions) -> Eigenpairs:
    """The pairs that --which asks for, of both ends, ascending."""
    if options.which == "LA" or options.k is None or (options.which == "BE" and options.k < 2):
        return high
    if options.which == "SA":
        return low
    assert low.vectors is not None
    assert high.vectors is not None
    assert low.residuals is not None
    assert high.residuals is not None
    return Eigenpairs(
        values=np.concatenate([low.values, high.values]),
        vectors=np.hstack([low.vectors, high.vectors]),
        residuals=np.concatenate([low.residuals, high.residuals]),
        errors=np.concatenate([low.errors, high.errors]),
        method=f"{low.method} and {high.method}",
        iterations=low.iterations + high.iterations,
        converged=low.converged + high.converged,
    )
