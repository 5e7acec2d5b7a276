"""Block preconditioned conjugate gradients for many right-hand sides.

Each iteration applies the operator once, to a block that spans the residuals of all right-hand
sides; directions that have converged or are dependent leave the block. The block recurrence is
the one with orthonormalised residuals (Dubrulle, "Retooling the method of block conjugate
gradients", ETNA 12, 2001, BCGrQ), here orthonormal in the preconditioner's inner product and by
an eigenvalue decomposition, so that the block may shrink.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.solution import MAX_ITERATIONS, OK, STAGNATED, Solution
from widegram.linalg.units import checked_later, in_original_units, unit_columns
from widegram.machine import interrupts
from widegram.machine.progress import Progress, ProgressCallback

Array = NDArray[Any]
Apply = Callable[[Array], Array]
Checkpoint = Callable[[Array, int], None]
_DROP = 1e-13
_PATIENCE = 250
_HINT = ", a higher --rank, --tol at the residual reached, or --method cholesky-ooc"


@checked_later
def conjugate_gradients(
    product: Apply,
    b: Array,
    precondition: Apply | None = None,
    *,
    tol: float = 1e-8,
    max_iter: int = 1000,
    x0: Array | None = None,
    checkpoint: Checkpoint | None = None,
    progress: ProgressCallback | None = None,
) -> Solution:
    """Solve A x = b, b of shape (n, k), to max |b - A x| / |b| <= tol over the columns.

    ``product(x)`` is A x and ``precondition(r)`` approximates A^-1 r; both must be symmetric
    positive definite. ``checkpoint(x, iterations)`` is called after every iteration. The residual
    is recomputed from A at the end of each round; a round that reaches ``tol`` only in its
    recurrence is followed by another from the true residual, and when that no longer helps the
    status is "stagnated". Raises WidegramError where A or the preconditioner turns out not to be
    positive definite, for numbers that are not finite, and for a ``tol`` that is no share.
    """
    started = time.perf_counter()
    if not 0.0 <= tol <= 1.0:  # nor NaN, of which nothing is above
        raise WidegramError(f"tol is {tol:g}; give a number from 0 to 1")
    b, exponents = unit_columns(np.asarray(b, dtype=np.float64))
    norms = np.linalg.norm(b, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    x = np.zeros_like(b) if x0 is None else np.ldexp(np.asarray(x0, np.float64), -exponents)
    residual = b.copy() if x0 is None else b - product(x)
    history: list[float] = []
    status, error = OK, _relative(residual, scale)
    while error > tol:
        left = max_iter - len(history)
        if left <= 0:
            status = MAX_ITERATIONS
            break
        correction = _round(
            product,
            precondition or np.array,
            residual,
            scale,
            tol,
            left,
            history,
            None if checkpoint is None else _checkpoint_from(checkpoint, x, exponents),
            progress,
        )
        candidate = x + correction
        new_residual = b - product(candidate)
        new_error = _relative(new_residual, scale)
        if not math.isfinite(new_error):
            raise _not_finite()
        improved = new_error < 0.5 * error
        if new_error < error:
            x, residual, error = candidate, new_residual, new_error
        if not improved and error > tol:
            status = MAX_ITERATIONS if len(history) >= max_iter else STAGNATED
            break
    x = in_original_units(x, exponents)
    return Solution(
        x=x,
        method="cg",
        status=status,
        iterations=len(history),
        residual=error,
        seconds=time.perf_counter() - started,
        history=tuple(history),
        hint=_HINT,
    )


def _round(
    product: Apply,
    precondition: Apply,
    b: Array,
    scale: Array,
    tol: float,
    max_iter: int,
    history: list[float],
    checkpoint: Checkpoint | None,
    progress: ProgressCallback | None,
) -> Array:
    """One run of the recurrence from x = 0 for the residual ``b``; appends to ``history``."""
    x = np.zeros_like(b)
    w, z, s = _orthonormalise(b / scale, precondition)
    p = z
    best, since = math.inf, 0
    for _ in range(max_iter):
        interrupts.check()
        if w.shape[1] == 0:
            break
        q = product(p)
        curvature = p.T @ q
        if not np.isfinite(curvature).all():
            raise _not_finite()
        step = _solve_definite(curvature)
        x += (p @ (step @ s)) * scale
        w, z, turn = _orthonormalise(w - q @ step, precondition)
        s = turn @ s
        p = z + p @ turn.T
        error = _relative(w @ s, np.ones_like(scale))
        history.append(error)
        if checkpoint:
            checkpoint(x, len(history))
        if progress:
            progress(
                Progress(
                    len(history), len(history) + max_iter, what=f"cg, residual {error:.1e}"
                )
            )
        if error <= 0.5 * tol or not math.isfinite(error):
            break
        since = 0 if error < 0.9 * best else since + 1
        best = min(best, error)
        if since > _PATIENCE:
            break
    return x


def _orthonormalise(v: Array, precondition: Apply) -> tuple[Array, Array, Array]:
    """W, Z = M^-1 W and R with V = W R, W^T M^-1 W = I; W may have fewer columns than V.

    Done twice: one pass through the Gram matrix loses half of the digits.
    """
    z = precondition(v)
    w, z, r = _orthonormal_pass(v, z)
    w, z, again = _orthonormal_pass(w, z)
    return w, z, again @ r


def _orthonormal_pass(v: Array, z: Array) -> tuple[Array, Array, Array]:
    gram = v.T @ z
    if not np.isfinite(gram).all():
        raise _not_finite()
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    keep = values > _DROP * max(float(values[-1]) if values.size else 0.0, np.finfo(float).tiny)
    root = np.sqrt(values[keep])
    turn = vectors[:, keep] / root
    return v @ turn, z @ turn, root[:, None] * vectors[:, keep].T


def _solve_definite(curvature: Array) -> Array:
    """Inverse of P^T A P; WidegramError where A or M turns out not to be positive definite."""
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    if values[0] <= 0:
        raise WidegramError(
            f"conjugate gradients met a direction of curvature {values[0]:.2g}: the matrix is not "
            "positive definite; take a larger regulariser (diag_reg), or method cholesky, which "
            "finds one"
        )
    return np.asarray((vectors / values) @ vectors.T)


def _relative(residual: Array, scale: Array) -> float:
    return float(np.max(np.linalg.norm(residual, axis=0) / scale, initial=0.0))


def _checkpoint_from(checkpoint: Checkpoint, start: Array, exponents: Array) -> Checkpoint:
    """For iterates relative to ``start``, both in units of the right-hand sides."""
    return lambda x, iterations: checkpoint(np.ldexp(start + x, exponents), iterations)


def _not_finite() -> WidegramError:
    return WidegramError(
        "conjugate gradients met a number that is not finite: `widegram verify` the Gram file"
    )
