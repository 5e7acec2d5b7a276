"""The words that options and arguments choose from, each list once.

The library checks its arguments against them and the command line offers them. This module imports
nothing, so that ``--help`` stays quick.
"""

from __future__ import annotations

from typing import NamedTuple

KERNELS = ("nngp", "ntk")
"""The kernels, in the order in which results hold them."""

OWN = "own"
"""What a kernel of the user's own, an array, is called beside them."""

DTYPES = ("float32", "float64")
"""Precisions of computation and of files."""

EXPORT_DTYPES = ("float16", *DTYPES)
"""Precisions of an exported matrix."""

DEVICES = ("auto", "cpu", "cuda")
"""Where to compute; 'cuda:0,1' names cards besides."""

NORMALIZATIONS = ("standardize", "channel", "global", "unit-norm", "unit-square", "none")
"""How ``data prepare`` scales inputs."""

CRITERIA = ("loo", "log-density", "evidence", "holdout")
"""What ``tune`` goes by: leave-one-out squared error, leave-one-out log predictive density, the log
marginal likelihood, or the squared error of rows that are held out."""

COMBINATIONS = ("sum", "product")
"""How ``combine`` puts kernels together, entry by entry."""

TASKS = ("auto", "classification", "regression")
"""What labels are: 'auto' takes integers for classes and floats for numbers."""

TARGETS = ("centered", "one-hot")
"""How ``solve`` encodes classes: one-hot less 1 / classes, or as it is."""


class Solver(NamedTuple):
    """A row of :data:`SOLVERS`.

    * ``module``: holds the solver as ``METHOD``, a :class:`widegram.linalg.methods.method.Method`;
    * ``factors``: whether it makes a factor of the matrix, which variances need.
    """

    module: str
    factors: bool


SOLVERS = {
    "cholesky": Solver("widegram.linalg.methods.cholesky", factors=True),
    "cholesky-ooc": Solver("widegram.linalg.methods.cholesky_ooc", factors=True),
    "cg": Solver("widegram.linalg.methods.conjugate_gradients", factors=False),
}
"""Solvers of (K + reg I) x = b, in the order in which 'auto' asks them."""

METHODS = ("auto", *SOLVERS)
"""What ``solve --method`` takes for a matrix of rows with themselves."""

CG, NYSTROM = "cg", "nystrom"
"""What it takes for one of rows and centers."""

SVM = "svm"
"""What it takes for classes that a support vector machine tells apart."""

SOLVE_METHODS = (*METHODS, NYSTROM, SVM)
"""All that ``solve --method`` takes."""

FACTORISATIONS = ("auto", *(name for name, solver in SOLVERS.items() if solver.factors))
"""What ``predict --method`` takes."""

PRECONDITIONERS = ("nystrom", "pivoted-cholesky", "none")
"""Preconditioners of conjugate gradients."""

WHICH = ("LA", "SA", "BE")
"""Eigenvalues: the largest, the smallest, or half from both ends."""

SWEEP_METHODS = ("auto", "deviations", "engine")
"""How ``meanfield spectrum`` computes kernels."""

FAMILIES = ("fcn", "cnn-f", "cnn-p")
"""Families of networks in the theory's tables: presets of those names."""
# Augmentations, and the axes of a batch of images (n, H, W, C) that they turn.
FLIPS = {"flip-lr": 2, "flip-ud": 1}
