"""What there is to know about a spectrum, and which of it the stored numbers can tell."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from widegram.errors import WidegramError
from widegram.linalg.density import Density, lanczos_density
from widegram.linalg.eigen import Eigenpairs, choose_driver, full_eigen, partial_eigen
from widegram.linalg.lowest import lowest_eigen
from widegram.linalg.operator import GramOperator, Progress

Array = NDArray[Any]
_FULL_MOST = 12_000
# Inverse iteration, of the largest eigenvalue of the inverse: for vectors, for lambda_min alone.
_PAIRS_TOL = 1e-7
_SUMMARY_TOL = 1e-4
_CONVERGED = 0.1  # a larger relative error of lambda_min leaves only a bound from above
_SUMMARY_PASSES = 60


@dataclass(frozen=True)
class Spectrum:
    """Summary of a symmetric matrix.

    ``bulk`` is the median eigenvalue with its standard error (0 from a full decomposition);
    ``lambda_min_residual`` = |K v - lambda_min v|, None after LAPACK;
    ``effective_rank`` = trace^2 / |K|_F^2. ``resolution`` is what rounding alone, in the file's
    dtype, does to an eigenvalue (:func:`resolution`). Below it an eigenvalue means
    nothing; ``unresolved`` counts such among the computed ones, ``known``. ``pairs`` holds what was
    asked for (``requested``), or what the summary needed.
    """

    n: int
    lambda_max: float
    lambda_min: float
    bulk: float
    bulk_error: float
    trace: float
    effective_rank: float
    resolution: float
    unresolved: int
    lambda_min_error: float
    lambda_min_residual: float | None
    pairs: Eigenpairs
    density: Density | None
    method: str
    why: str
    seconds: float
    dtype: str
    requested: bool
    known: Array

    @property
    def lambda_min_resolved(self) -> bool:
        """Whether lambda_min lies above the resolution and its error well below it."""
        converged = self.lambda_min_error <= _CONVERGED * self.lambda_min
        return bool(converged and self.lambda_min > self.resolution)

    @property
    def indefinite(self) -> bool:
        """Whether lambda_min is negative by more than rounding, which no kernel's is."""
        return self.lambda_min < -self.resolution

    @property
    def bulk_resolved(self) -> bool:
        """Whether the median lies above the resolution and its own error."""
        return self.bulk > max(self.resolution, self.bulk_error)

    @property
    def floor(self) -> float:
        """The resolution, positive also for the zero matrix."""
        return max(self.resolution, float(np.finfo(float).tiny))

    def decades(self) -> list[tuple[float, float, float, float]]:
        """(from, to, count, its error) by powers of ten, ascending, those that hold something.

        What lies below the resolution counts from minus infinity. Empty without a density.
        """
        if self.density is None:
            return []
        low, high = np.log10(self.floor), np.log10(self.lambda_max)
        inner = 10.0 ** np.arange(np.ceil(low + 1e-9), np.floor(high) + 1)
        edges = np.concatenate([[-np.inf, self.floor], inner, [self.lambda_max * (1 + 1e-9)]])
        count, error = self.density.counts(edges)
        rows = zip(edges[:-1], edges[1:], count, error, strict=True)
        return [(float(a), float(b), float(c), float(e)) for a, b, c, e in rows if c > 0 or e > 0]

    @property
    def computed(self) -> int:
        """Number of eigenvalues computed."""
        return int(self.known.size)

    def as_dict(self) -> dict[str, Any]:
        """For --json: the summary, and the eigenvalues that were asked for with residuals."""
        names = ("n", "lambda_max", "lambda_min", "lambda_min_resolved", "lambda_min_error")
        more = (
            "lambda_min_residual",
            "bulk",
            "bulk_error",
            "bulk_resolved",
            "kappa",
            "trace",
            "effective_rank",
        )
        rest = ("resolution", "unresolved", "computed", "dtype", "method", "why", "seconds")
        found = {name: getattr(self, name) for name in (*names, *more, *rest)}
        found["indefinite"] = self.indefinite
        found["kappa_is_lower_bound"] = not self.lambda_min_resolved
        if self.requested and self.pairs.residuals is not None:
            found["eigenvalues"] = self.pairs.values.tolist()
            found["residuals"] = self.pairs.residuals.tolist()
            found["converged"] = self.pairs.converged
        if self.density is not None:
            edges = self.density.edges(self.floor, self.lambda_max)
            count, error = self.density.counts(edges)
            found["density"] = {
                "edges": edges.tolist(),
                "count": count.tolist(),
                "error": error.tolist(),
            }
        return found

    @property
    def kappa(self) -> float:
        """Condition number; a lower bound where lambda_min is not resolved.

        As a Rayleigh quotient, what was found for lambda_min is never below it.
        """
        return self.lambda_max / max(self.floor, self.lambda_min)


@dataclass(frozen=True)
class SpectrumOptions:
    """What to compute. ``memory`` counts bytes of arrays. ``full``, ``k`` and ``density`` choose;
    with none of them a full decomposition where it fits and is quick, else density and ends.
    ``work`` names a file beside which a factor may lie on the disk, ``key`` the matrix."""

    memory: int
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
    work: Path | None = None
    key: str = ""
    progress: Progress | None = None


def resolution(n: int, top: float, entry: float, dtype: DTypeLike) -> float:
    """What rounding does to an eigenvalue: 2 sqrt(n) eps max|K|, or 10 eps64 lambda_max if larger.

    The first is the norm of a symmetric matrix of independent errors up to eps max|K| in a file
    of ``dtype`` (``entry`` is max|K|, on the diagonal of a semidefinite matrix); the second is
    what the eigenvalue solvers add, which are backward stable in float64.
    """
    stored = 2.0 * np.sqrt(n) * np.finfo(dtype).eps * abs(entry)
    return float(max(stored, 10.0 * np.finfo(np.float64).eps * abs(top)))


def spectrum(operator: GramOperator, options: SpectrumOptions) -> Spectrum:
    """Eigenvalues of the operator as asked, with the summary."""
    started = time.perf_counter()
    if options.full and (options.k or options.density):
        raise WidegramError("--full gives every eigenvalue; leave out --k and --density")
    operator = replace(operator, memory=options.memory // 8)
    full, why = _wants_full(operator.shape[0], options)
    summary = _from_full(operator, options, why) if full else _from_parts(operator, options, why)
    return replace(summary, seconds=time.perf_counter() - started)


def _wants_full(n: int, options: SpectrumOptions) -> tuple[bool, str]:
    if options.full:
        return True, "as asked"
    if options.k or options.density:
        return False, "as asked"
    try:
        choose_driver(n, options.vectors, options.memory - options.memory // 8)
    except WidegramError:
        return False, f"a full decomposition of {n} rows does not fit in memory"
    if n > _FULL_MOST:
        return False, f"a full decomposition of {n} rows would take long; --full asks for it"
    return True, f"{n} rows fit in memory"


def _from_full(operator: GramOperator, options: SpectrumOptions, why: str) -> Spectrum:
    diagonal = operator.diagonal()
    trace = float(diagonal.sum())
    pairs = full_eigen(
        operator,
        vectors=options.vectors,
        memory=options.memory - operator.memory,
        progress=options.progress,
    )
    values = pairs.values
    floor = resolution(values.size, values[-1], diagonal.max(), operator.dtype)
    squares = float(np.sum(values**2))
    return Spectrum(
        values.size,
        float(values[-1]),
        float(values[0]),
        float(np.median(values)),
        0.0,
        trace,
        trace**2 / squares if squares else 0.0,
        floor,
        int(np.sum(np.abs(values) <= floor)),
        0.0,
        None,
        pairs,
        None,
        pairs.method,
        why,
        0.0,
        operator.dtype.name,
        True,
        values,
    )


def _from_parts(operator: GramOperator, options: SpectrumOptions, why: str) -> Spectrum:
    n, diagonal, frobenius = operator.shape[0], operator.diagonal(), operator.frobenius()
    trace = float(diagonal.sum())
    if operator.dtype.itemsize * n * n <= options.memory // 4:
        operator = operator.cached()
        options = replace(options, memory=options.memory - operator.dtype.itemsize * n * n)
    high, low = _counts(options)
    top = _highest(operator, high, options)
    lambda_max = float(top.values[-1])
    lowest = _lowest(operator, low, lambda_max, options)
    pairs = _asked(top, lowest, options)
    density = lanczos_density(
        operator,
        probes=options.probes,
        steps=options.steps,
        seed=options.seed,
        progress=options.progress,
    )
    bulk, bulk_error = density.quantile(0.5)
    floor = resolution(n, lambda_max, diagonal.max(), operator.dtype)
    known = pairs.values if options.k else np.array([lowest.values[0], lambda_max])
    return Spectrum(
        n,
        lambda_max,
        float(lowest.values[0]),
        bulk,
        bulk_error,
        trace,
        (trace / frobenius) ** 2 if frobenius else 0.0,
        floor,
        int(np.sum(np.abs(known) <= floor)),
        float(lowest.errors[0]),
        None if lowest.residuals is None else float(lowest.residuals[0]),
        pairs,
        density if options.density or not options.k else None,
        f"{top.method} (top), {lowest.method} (bottom), lanczos-quadrature (median)",
        why,
        0.0,
        operator.dtype.name,
        options.k is not None,
        known,
    )


def _counts(options: SpectrumOptions) -> tuple[int, int]:
    """Pairs at the top and at the bottom, of each at least the one that the summary needs."""
    k = options.k or 1
    high = {"LA": k, "SA": 1, "BE": k - k // 2}[options.which]
    low = {"LA": 1, "SA": k, "BE": max(1, k // 2)}[options.which]
    return high, low


def _highest(operator: GramOperator, k: int, options: SpectrumOptions) -> Eigenpairs:
    return partial_eigen(
        operator,
        k,
        "LA",
        tol=options.tol,
        max_passes=options.max_passes,
        memory=options.memory // 2,
        seed=options.seed,
        progress=options.progress,
    )


def _lowest(operator: GramOperator, k: int, top: float, options: SpectrumOptions) -> Eigenpairs:
    """The bottom; on the disk only where it was asked for, not for a summary beside the top."""
    beside_top = options.k is not None and options.which == "LA"
    return lowest_eigen(
        operator,
        k,
        top,
        tol=options.tol,
        inverse_tol=_PAIRS_TOL if options.k else _SUMMARY_TOL,
        max_passes=min(options.max_passes, _SUMMARY_PASSES)
        if beside_top or not options.k
        else options.max_passes,
        floor=resolution(operator.shape[0], top, operator.diagonal().max(), operator.dtype),
        memory=options.memory - options.memory // 8,
        work=None if beside_top else options.work,
        key=options.key,
        seed=options.seed,
        progress=options.progress,
    )


def _asked(high: Eigenpairs, low: Eigenpairs, options: SpectrumOptions) -> Eigenpairs:
    """Of both ends what --which asks for, ascending."""
    if options.which == "LA" or options.k is None or (options.which == "BE" and options.k < 2):
        return high
    if options.which == "SA":
        return low
    assert low.vectors is not None
    assert high.vectors is not None
    assert low.residuals is not None
    assert high.residuals is not None
    return Eigenpairs(
        np.concatenate([low.values, high.values]),
        np.hstack([low.vectors, high.vectors]),
        np.concatenate([low.residuals, high.residuals]),
        np.concatenate([low.errors, high.errors]),
        f"{low.method} and {high.method}",
        low.iterations + high.iterations,
        low.converged + high.converged,
    )
