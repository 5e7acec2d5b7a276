"""Mean field theory of wide networks: phases, depth scales, spectra beyond rounding, trainability.

The analysis of Xiao, Pennington and Schoenholz, "Disentangling trainability and generalization in
deep neural networks" (arXiv:1912.13053), for every activation of the engine. ``w_var`` is W_std^2
and ``b_var`` is b_std^2 throughout.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widegram.meanfield.experiments.asymptotics import table
    from widegram.meanfield.experiments.grid import Grid
    from widegram.meanfield.experiments.phase import phase_map, write_phase
    from widegram.meanfield.experiments.problem import Problem, load_problem
    from widegram.meanfield.experiments.sweeps import spectrum
    from widegram.meanfield.experiments.training import trainability
    from widegram.meanfield.theory.points import point

__all__ = [
    "Grid",
    "Problem",
    "load_problem",
    "phase_map",
    "point",
    "spectrum",
    "table",
    "trainability",
    "write_phase",
]

_HOMES = {
    "Grid": "experiments.grid",
    "Problem": "experiments.problem",
    "load_problem": "experiments.problem",
    "phase_map": "experiments.phase",
    "point": "theory.points",
    "spectrum": "experiments.sweeps",
    "table": "experiments.asymptotics",
    "trainability": "experiments.training",
    "write_phase": "experiments.phase",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: most of them need SciPy or Numba."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
