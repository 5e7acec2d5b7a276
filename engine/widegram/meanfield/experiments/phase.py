"""Maps of the phase diagram over a grid of (w_var, b_var), and their file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from widegram.durable.sealed import write_sealed
from widegram.machine.budgets import require_memory
from widegram.meanfield.theory.fixedpoint import FixedPoints, critical_line, fixed_points
from widegram.meanfield.theory.one_layer import Array, LayerMaps
from widegram.meanfield.theory.points import QUANTITIES

FORMAT = "widegram-phase"
# Bytes per grid point at the peak, measured with erf: nodes of the quadrature included.
_BYTES_PER_POINT = 2500


@dataclass(frozen=True)
class PhaseMap:
    """A phase diagram: ``solved`` holds arrays of shape (len(w_var), len(b_var)).

    ``critical`` (len(b_var),) is the w_var of the line chi_1 = 1, NaN where there is none.
    """

    act: str
    w_var: Array
    b_var: Array
    solved: FixedPoints
    critical: Array


def phase_map(
    act: str | LayerMaps, w_var: Array, b_var: Array, memory: str | int | None = None
) -> PhaseMap:
    """Solve every point of the grid at once.

    Raises WidegramError for bad variances or a grid too large for ``memory``, naming its size.
    """
    maps = LayerMaps.of(act)
    w_var, b_var = np.asarray(w_var, np.float64), np.asarray(b_var, np.float64)
    require_memory(
        _BYTES_PER_POINT * w_var.size * b_var.size,
        memory,
        f"a grid of {w_var.size} x {b_var.size} points",
        "take larger steps",
    )
    solved = fixed_points(maps, w_var[:, None], b_var[None, :])
    return PhaseMap(maps.name, w_var, b_var, solved, critical_line(maps, b_var))


def write_phase(result: PhaseMap, out: str | Path, overwrite: bool = False) -> None:
    """HDF5: /w_var, /b_var, /critical_w_var, /phase (-1 ordered, 0 critical, 1 chaotic) and one
    dataset (len(w_var), len(b_var)) for each quantity; NaN where undefined."""
    kinds = {"ordered": -1, "critical": 0, "chaotic": 1, "": 2}
    codes = np.vectorize(kinds.get, otypes=[np.int8])(result.solved.phase())
    datasets = {
        "w_var": result.w_var,
        "b_var": result.b_var,
        "critical_w_var": result.critical,
        "phase": codes,
        **{n: getattr(result.solved, n) for n in (*QUANTITIES, "gap", "error", "converged")},
    }
    notes = {
        "phase": {"codes": "-1 ordered, 0 critical, 1 chaotic, 2 unknown"},
        "gap": {"meaning": "1 - c_star, to its own relative precision"},
    }
    attributes = {"format": FORMAT, "format_version": 1, "act": result.act}
    write_sealed(out, datasets, attributes, of=notes, overwrite=overwrite)
