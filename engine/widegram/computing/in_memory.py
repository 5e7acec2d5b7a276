"""Kernels of arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import device_for
from widegram.computing.job import make_job, tile_side
from widegram.computing.order import in_order
from widegram.data.patterns import patterned
from widegram.data.several import Inputs
from widegram.errors import OutOfRange, WidegramError
from widegram.machine import interrupts
from widegram.network import NetworkLike
from widegram.tiling import LARGEST_IN_MEMORY, TileGrid
from widegram.validation.choices import KERNELS

# Inputs whose diagonal is computed at a time.
_ROWS = 256


class Kernels(NamedTuple):
    """The kernel matrices of shape (n1, n2) that were asked for; the other one is None."""

    nngp: np.ndarray | None = None
    ntk: np.ndarray | None = None


def kernel(
    network: NetworkLike,
    x1: Inputs,
    x2: Inputs | None = None,
    get: str | Sequence[str] = KERNELS,
    dtype: str = "float64",
    *,
    device: str = "auto",
    threads: int | None = None,
    memory: str | int | None = None,
    accept_series_error: float | None = None,
    pattern: Any = None,
) -> np.ndarray | Kernels:
    """NNGP and NTK of an infinitely wide network, as arrays in memory.

    * ``x1``, ``x2``: floating point (n1, *input_shape) and (n2, *input_shape), or lists of such for
      a network whose input is a list; without ``x2`` the result is the symmetric matrix of x1 with
      itself
    * ``get``: 'ntk' or 'nngp' returns one array (n1, n2) of ``dtype``, a sequence of names returns
      :class:`Kernels`
    * ``device``, ``threads``, ``memory``, ``accept_series_error``, ``pattern``: as in
      :func:`widegram.gram`, which writes matrices too large for memory to a file

    The kernels are dimensionless and in the NTK parameterization of neural-tangents (Novak et al.
    2020, arXiv:1912.02803). Raises :class:`widegram.errors.WidegramError` for bad input.
    """
    x1, x2 = patterned(x1, x2, pattern)
    job = make_job(network, x1, x2, get, dtype, None, threads, memory, accept_series_error)
    if job.network.heads:
        heads = ", ".join(job.network.heads)
        raise WidegramError(
            f"kernel() gives the kernels of one head, the network has {heads}; take "
            "network.at_head(NAME), or write them all with gram()"
        )
    with make_evaluator(device_for(device, job.network), job) as evaluator:
        tile = tile_side(job, evaluator, LARGEST_IN_MEMORY)
        grid = TileGrid(len(job.x1), len(job.x2 or job.x1), tile, job.x2 is None)
        arrays = _whole(evaluator, grid)
    if isinstance(get, str) and len(job.kernels) == 1:
        return arrays[job.kernels[0]]
    return Kernels(**arrays)


def diagonal_within(
    evaluator: Evaluator, rows: range, second: bool = False
) -> dict[str, np.ndarray]:
    """:meth:`Evaluator.diagonal`, NaN for an input whose value is outside of the range: beside
    others of a smaller or larger scale it may yet be within the matrix."""
    try:
        return evaluator.diagonal(rows, second)
    except OutOfRange:
        if len(rows) == 1:
            return {key: np.full(1, np.nan) for key in evaluator.keys}
    found = [diagonal_within(evaluator, rows[n : n + 1], second) for n in range(len(rows))]
    return {key: np.concatenate([one[key] for one in found]) for key in evaluator.keys}


def diagonal(job: Job) -> dict[str, np.ndarray]:
    """K(x, x) of every input of x1, float64 (n1,), by dataset path: one number an input."""
    with make_evaluator("cpu", job) as evaluator:
        found: dict[str, np.ndarray] = {}
        for lo in range(0, len(job.x1), _ROWS):
            interrupts.check()
            rows = range(lo, min(lo + _ROWS, len(job.x1)))
            for key, values in evaluator.diagonal(rows).items():
                found.setdefault(key, np.empty(len(job.x1)))[lo : rows.stop] = values
    return found


def _whole(evaluator: Evaluator, grid: TileGrid) -> dict[str, np.ndarray]:
    """All tiles of a grid, put together."""
    if len(grid.tiles()) == 1:
        return evaluator.tile(grid.rows(0), grid.cols(0), grid.symmetric)
    arrays: dict[str, np.ndarray] = {}
    for i, j in in_order(grid, evaluator):
        rows, cols = grid.rows(i), grid.cols(j)
        for key, block in evaluator.tile(rows, cols, grid.symmetric).items():
            whole = arrays.setdefault(key, np.empty((grid.n1, grid.n2), block.dtype))
            whole[rows.start : rows.stop, cols.start : cols.stop] = block
            if grid.symmetric:
                whole[cols.start : cols.stop, rows.start : rows.stop] = block.T
    return arrays
