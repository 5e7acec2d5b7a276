"""Mean field theory of wide networks: phases, depth scales, spectra beyond rounding, trainability.

The analysis of Xiao, Pennington and Schoenholz, "Disentangling trainability and generalization in
deep neural networks" (arXiv:1912.13053), for every activation of the engine. ``w_var`` is W_std^2
and ``b_var`` is b_std^2 throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from widegram.machine.first_use import at_first_use

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

# Most of them need SciPy or Numba.
__getattr__ = at_first_use(
    __name__,
    {
        "Grid": "experiments.grid",
        "Problem": "experiments.problem",
        "load_problem": "experiments.problem",
        "phase_map": "experiments.phase",
        "point": "theory.points",
        "spectrum": "experiments.sweeps",
        "table": "experiments.asymptotics",
        "trainability": "experiments.training",
        "write_phase": "experiments.phase",
    },
)
