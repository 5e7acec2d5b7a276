"""What a solver is asked for, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from widegram.errors import WidegramError, shown
from widegram.machine.progress import ProgressCallback
from widegram.validation.arrays import with_ending
from widegram.validation.choices import DTYPES


@dataclass(frozen=True)
class SolveOptions:
    """How (K + reg I) x = b is solved.

    * ``method``: one of :data:`widegram.validation.choices.SOLVE_METHODS`
    * ``dtype``: of a factor; None is float64 where that fits, else float32 with refinement
    * ``tol``, ``max_iter``: of conjugate gradients, the residual relative to b and the iterations
    * ``preconditioner``, ``rank``: of conjugate gradients; rank None is chosen from the memory
    * ``seed``: of random probes, and of the folds of method 'svm'
    * ``checkpoint_seconds``: between two iterates that are kept on the disk

    Raises WidegramError for another dtype.
    """

    method: str = "auto"
    dtype: DTypeLike | None = None
    tol: float = 1e-8
    max_iter: int = 1000
    preconditioner: str = "nystrom"
    rank: int | None = None
    seed: int = 0
    checkpoint_seconds: float = 10.0

    def __post_init__(self) -> None:
        try:
            known = self.dtype is None or np.dtype(self.dtype).name in DTYPES
        except TypeError:
            known = False
        if not known:
            raise WidegramError(f"dtype {shown(self.dtype)}: a factor is float32 or float64")


@dataclass(frozen=True)
class Resources:
    """What a computation on a matrix may use.

    * ``memory``: bytes of all its arrays
    * ``work``: the file beside which work files may lie, at ``work`` + ".factor" or ".restart",
      until the run is done; None is nowhere
    * ``key``: the name of the problem: work files of another are refused
    * ``overwrite``: discard them instead
    * ``progress``: told how far it is
    """

    memory: int
    work: Path | None = None
    key: str = ""
    overwrite: bool = False
    progress: ProgressCallback | None = None

    def work_file(self, ending: str) -> Path | None:
        """Where the work file of that ending lies; None where there may be none."""
        return None if self.work is None else with_ending(self.work, ending)
