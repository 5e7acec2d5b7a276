"""Solvers on Gram matrices: operator, solver, solution.

An operator (:class:`GramOperator`) streams a matrix; :func:`solve` picks a method, or a factor is
made once and applied many times (:func:`load_cholesky`, :class:`OutOfCoreCholesky`); a
:class:`Solution` carries x, status, iterations, residual and seconds.
"""

from __future__ import annotations

from widegram.linalg.cg import conjugate_gradients
from widegram.linalg.choose import choose
from widegram.linalg.definite import NotPositiveDefinite
from widegram.linalg.eigen import Eigenpairs, full_eigen, partial_eigen
from widegram.linalg.gramsource import GramKernel, open_cross, open_train
from widegram.linalg.incore import DenseCholesky, load_cholesky
from widegram.linalg.jobs import solve_file
from widegram.linalg.loo import PathPoint, regulariser_path
from widegram.linalg.methods.method import Choice
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.outofcore import OutOfCoreCholesky
from widegram.linalg.precondition import LowRank, nystrom, pivoted_cholesky
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solution import Solution
from widegram.linalg.solvejob import SolveJob, SolveResult
from widegram.linalg.solving import solve
from widegram.linalg.spectrum import SpectrumOptions, spectrum
from widegram.linalg.summary import Range, Spectrum

__all__ = [
    "Choice",
    "DenseCholesky",
    "Eigenpairs",
    "GramKernel",
    "GramOperator",
    "LowRank",
    "NotPositiveDefinite",
    "OutOfCoreCholesky",
    "PathPoint",
    "Range",
    "Resources",
    "Solution",
    "SolveJob",
    "SolveOptions",
    "SolveResult",
    "Spectrum",
    "SpectrumOptions",
    "as_operator",
    "choose",
    "conjugate_gradients",
    "full_eigen",
    "load_cholesky",
    "nystrom",
    "open_cross",
    "open_train",
    "partial_eigen",
    "pivoted_cholesky",
    "regulariser_path",
    "solve",
    "solve_file",
    "spectrum",
]
