"""Predictive variances, a block of test points at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram import interrupts
from widegram.errors import WidegramError
from widegram.linalg.choose import dense_bytes
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.operator import GramOperator
from widegram.linalg.solving import SolveOptions, factored

Array = NDArray[Any]


def variances(
    train: GramKernel,
    cross: GramKernel,
    shift: float,
    prior: Array,
    options: SolveOptions,
) -> Array:
    """Variance of each test point's outputs, (n_test,), not below 0.

    ``prior`` is the NNGP of each test point with itself. For kernel 'nngp' the posterior
    k** - k* (K + shift)^-1 k*; for 'ntk' that of an ensemble at the end of training (Lee et al.,
    arXiv:1902.06720, equation 16), which needs /nngp in both files.
    """
    n = train.operator.shape[0]
    block = block_rows(n, cross.operator.shape[0], options.memory // 8)
    ensemble = train.kernel == "ntk"
    if ensemble:
        for source in (train, cross):
            if "nngp" not in source.file.kernels:
                raise WidegramError(
                    f"{source.path}: has no /nngp, which the variance of an NTK ensemble needs; "
                    "compute it with --get nngp,ntk"
                )
    out = np.empty(cross.operator.shape[0])
    with factored(train.operator.shifted(shift), block, options) as factor:
        for lo in range(0, out.size, block):
            interrupts.check()
            rows = slice(lo, min(out.size, lo + block))
            across = _rows(cross.operator, rows)
            if ensemble:
                pulled = factor.apply(across.T)
                other = _rows(cross.other("nngp"), rows)
                spread = np.einsum("ij,ij->j", pulled, train.other("nngp").matmat(pulled))
                out[rows] = prior[rows] + spread - 2.0 * np.einsum("ij,ji->j", pulled, other)
            else:
                half = factor.half(across.T)
                out[rows] = prior[rows] - np.einsum("ij,ij->j", half, half)
            if options.progress:
                options.progress("variance", rows.stop, out.size)
    return np.maximum(out, 0.0)


def block_rows(n: int, n_test: int, budget: int) -> int:
    """Test points at a time, so that what a solver holds for them fits ``budget`` bytes."""
    return max(1, min(n_test, budget // dense_bytes(n, 1, 0)))


def work_place(out: Path | None, solution: Path) -> Path:
    """Where the work file of an out-of-core factor goes: beside the output."""
    return solution.with_name(solution.name + ".variance") if out is None else out


def _rows(operator: GramOperator, rows: slice) -> Array:
    return operator.block(rows, slice(0, operator.shape[1]))
