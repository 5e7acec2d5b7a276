"""Predictive variances, a block of test points at a time.

One meaning everywhere, of ``predict --variance`` and of the estimators' ``return_std``:

* kernel 'nngp', and one of the user's own: the posterior, k** - k* (K + reg)^-1 k*;
* kernel 'ntk': the spread of an infinite ensemble of networks after infinite training (Lee et al.,
  arXiv:1902.06720, equation 16), which needs the NNGP too.

That is the latent variance. The predictive one, of a new target, adds the noise, whose variance is
what the regulariser adds to the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.combining.recipe import is_product
from widegram.errors import WidegramError
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import chosen, factored
from widegram.machine import interrupts
from widegram.machine.progress import Progress
from widegram.predict.undecided import ensemble_moves, posterior_moves, undecided
from widegram.validation.choices import OWN

Array = NDArray[Any]
KINDS = {
    "nngp": "posterior of the Bayesian network",
    "ntk": "ensemble of trained networks",
    OWN: "posterior of the Gaussian process",
}
_HELD = 6  # n x block arrays at once: rows read, their transpose, solutions, products


class Latent(NamedTuple):
    """Latent variances (n_test,), not below 0, and which of them rounding decides, bool (n_test,):
    what :mod:`widegram.predict.undecided` says."""

    values: Array
    undecided: Array


def variances(
    train: GramKernel,
    cross: GramKernel,
    shift: float,
    prior: Array,
    options: SolveOptions,
    resources: Resources,
) -> Latent:
    """Latent variances of each test point's outputs.

    ``prior`` is the NNGP of each test point with itself. Raises WidegramError where a file has no
    /nngp and kernel 'ntk' needs it. A factor on the disk is read twice for each block at most,
    and up to sixteen times more where rounding may decide some of it.
    """
    options = replace(options, dtype=np.float64)  # differences, which nothing refines
    n, n_test = train.operator.shape[0], cross.operator.shape[0]
    operator = train.operator.shifted(shift)
    memory = resources.memory
    choice = chosen(operator, block_rows(n, n_test, memory // 8), options, resources)
    held = choice.kept + choice.stream if choice.kept else 0
    block = block_rows(n, n_test, max(memory // 8, (memory - held) // 2))
    ensemble = train.kernel == "ntk"
    if ensemble:
        check_ensemble(train, cross)
    out, lost = np.empty(n_test), np.empty(n_test, dtype=bool)
    dtype = min((train.operator.dtype, cross.operator.dtype), key=lambda found: found.itemsize)
    # What a block holds is not there while the factor is made: one right-hand side.
    with factored(operator, 1, choice, resources) as factor:
        root = np.sqrt(operator.diagonal())
        for lo in range(0, out.size, block):
            interrupts.check()
            rows = slice(lo, min(out.size, lo + block))
            across = _rows(cross.operator, rows)
            if ensemble:
                other, nngp = _rows(cross.other("nngp"), rows), train.other("nngp")
                out[rows] = prior[rows] + ensemble_variances(factor, nngp.matmat, across, other)
                both = root, np.sqrt(nngp.diagonal())
                moves = ensemble_moves(factor, nngp.matmat, (across, other), prior[rows], both)
            else:
                out[rows] = prior[rows] - explained(factor, across)
                moves = posterior_moves(factor, across, prior[rows], root)
            lost[rows] = undecided(out[rows], prior[rows], dtype, moves)
            if resources.progress:
                resources.progress(Progress(rows.stop, out.size, what="variance"))
    return Latent(np.maximum(out, 0.0), lost)


def check_ensemble(*sources: GramKernel) -> None:
    """Refuse matrices that no ensemble of networks has: products of kernels, and those whose files
    hold no NNGP beside the NTK."""
    for source in sources:
        if is_product(source.file.network):
            raise WidegramError(
                f"{source.path}: a product of NTKs is a kernel, but no network's NTK, so that no "
                "ensemble has its variance; solve with --kernel nngp"
            )
        if "nngp" not in source.file.kernels:
            raise WidegramError(
                f"{source.path}: has no /nngp, which the variance of an NTK ensemble needs; "
                "compute it with --get nngp,ntk and solve again"
            )


def explained(factor: Factor, across: Array) -> Array:
    """What training takes off the prior variance of each test point; ``across`` (m, n)."""
    half = factor.half(across.T)
    return np.asarray(np.einsum("ij,ij->j", half, half))


def ensemble_variances(
    factor: Factor, nngp: Callable[[Array], Array], across: Array, other: Array
) -> Array:
    """What training adds to the prior variance of each test point in an NTK ensemble.

    ``factor`` and ``across`` (m, n) are of the NTK; ``nngp(x)`` is the training NNGP times x,
    ``other`` (m, n) the NNGP of test and training points.
    """
    pulled = factor.apply(across.T)
    spread = np.einsum("ij,ij->j", pulled, nngp(pulled))
    return np.asarray(spread - 2.0 * np.einsum("ij,ji->j", pulled, other))


def block_rows(n: int, n_test: int, budget: int) -> int:
    """Test points at a time, so that what is held for them fits ``budget`` bytes."""
    return max(1, min(n_test, budget // (8 * _HELD * n)))


def work_place(out: Path | None, solution: Path) -> Path:
    """Where the work file of an out-of-core factor goes: beside the output."""
    return solution.with_name(solution.name + ".variance") if out is None else out


def _rows(operator: GramOperator, rows: slice) -> Array:
    return operator.block(rows, slice(0, operator.shape[1]))
