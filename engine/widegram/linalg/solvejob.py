"""What `widegram solve` is asked for, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.chosen_rows import RowsLike
from widegram.errors import WidegramError
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.normalise import centred, scale_of
from widegram.linalg.settings import SolveOptions
from widegram.linalg.solutionfile import SolutionHeader
from widegram.linalg.targets import Targets


@dataclass(frozen=True, kw_only=True)
class SolveJob:
    """What :func:`widegram.linalg.jobs.solve_file` is asked for.

    * ``gram``, ``kernel``, ``depth``, ``head``: the training matrix, one kernel of a Gram file;
      with ``centers``, the Gram file of centers, that of the training data and the centers
    * ``rows``: which rows and columns of it, with ``centers`` which rows; all without
    * ``y``, ``limit``, ``task``: the labels, as :func:`widegram.linalg.targets.load_targets` reads
      them
    * ``targets``, ``target_shift``: how classes are encoded, one of
      :data:`widegram.validation.choices.TARGETS` or the number that one-hot rows are less
    * ``unit_diagonal``: whether K_ij / sqrt(K_ii K_jj) is solved with
    * ``normalize_y``: whether targets are centred, and the prior has their scale, as
      :mod:`widegram.linalg.normalise` says; ``scale_prior``: the latter alone, of classes too
    * ``diag_reg``: what is added to the diagonal, times trace / n unless ``absolute``
    * ``path``: regularisers of which the best is taken, by leave-one-out error or evidence
    * ``loo``, ``evidence``: whether that error, the log marginal likelihood, is asked for
    * ``c_path``, ``folds``: of method 'svm' the values of C, of which the best is taken by so many
      folds; none are those of :mod:`widegram.linalg.svm.svmjob`
    * ``options``: how to solve
    * ``out``, ``overwrite``: the solution file
    * ``memory``: a size or a number of bytes for the whole process
    * ``dask``: the workers that share the products of conjugate gradients, as ``gram`` has them
    """

    gram: Path
    out: Path
    y: str
    centers: Path | None = None
    rows: RowsLike | None = None
    kernel: str = "ntk"
    depth: int | None = None
    head: str | None = None
    limit: int | None = None
    task: str = "auto"
    targets: str | None = None
    target_shift: float | None = None
    unit_diagonal: bool = False
    normalize_y: bool = False
    scale_prior: bool = False
    diag_reg: float = 0.0
    absolute: bool = False
    path: tuple[float, ...] = ()
    loo: bool = False
    evidence: bool = False
    c_path: tuple[float, ...] = ()
    folds: int | None = None
    options: SolveOptions = field(default_factory=SolveOptions)
    memory: str | int | None = None
    overwrite: bool = False
    dask: str | None = None

    @property
    def scaled(self) -> bool:
        """Whether the prior has the scale of the targets."""
        return self.normalize_y or self.scale_prior

    def scale(self, squares: np.ndarray, targets: Targets) -> np.ndarray:
        """The scale of the prior, (k,), from ``squares`` = t^T (K + reg I)^-1 t of the targets; of
        classes one for all."""
        if not self.scaled:
            return np.ones(squares.size)
        return scale_of(squares, targets.n, common=targets.classes is not None)


@dataclass(frozen=True, kw_only=True)
class SolveResult:
    """What was done.

    * ``out``: the file that was written
    * ``method``, ``why``: the solver, and the reason for it
    * ``status``, ``message``, ``iterations``, ``residual``: how it went
    * ``n``, ``k``: rows and right-hand sides
    * ``diag_reg``: as given, or the best of the path; ``shift``: what that added to the diagonal
    * ``task``, ``task_reason``: what the labels were taken for; ``target_shift``: what one-hot
      targets are less, None of a regression
    * ``unit_diagonal``: as asked
    * ``prior_scale``: what the prior's standard deviations are multiplied by for each output, where
      the targets decide
    * ``path``: a dict (diag_reg, mse, accuracy, log_evidence, residual, resolved, best) for each
      regulariser; of method 'svm' (c, accuracy, best) for each C
    * ``loo_mse``, ``loo_accuracy``, ``log_evidence``: of the best one; None where they were not
      asked for
    * ``details``: what the solver adds
    """

    out: str
    method: str
    why: str
    status: str
    message: str
    n: int
    k: int
    iterations: int
    residual: float
    diag_reg: float
    shift: float
    seconds: float
    task: str = ""
    task_reason: str = ""
    target_shift: float | None = None
    unit_diagonal: bool = False
    normalize_y: bool = False
    prior_scale: tuple[float, ...] = ()
    loo_mse: float | None = None
    loo_accuracy: float | None = None
    log_evidence: float | None = None
    path: tuple[dict[str, Any], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For --json: ``file`` is what was written."""
        found = {**self.__dict__, "path": list(self.path)}
        return {"file": found.pop("out"), **found}


def centred_targets(job: SolveJob, targets: Targets) -> tuple[Targets, np.ndarray]:
    """(targets to solve for, what was taken off, (k,)).

    Raises WidegramError for classes, which are not centred.
    """
    if not job.normalize_y:
        return targets, np.zeros(targets.values.shape[1])
    if targets.classes is not None:
        raise WidegramError(
            f"{job.y}: normalize_y is for regression, and these are taken for classes "
            f"({targets.reason}); for numbers take --task regression, for classes --scale-prior"
        )
    values, mean = centred(targets.values)
    return replace(targets, values=values, fingerprint=f"{targets.fingerprint}-centred"), mean


def regularisers(job: SolveJob) -> tuple[float, ...]:
    """The regularisers of the path, or the only one; WidegramError where both are given."""
    if job.path and job.diag_reg:
        raise WidegramError(
            "diag_reg and diag_reg_path both name regularisers; give one of them, "
            "or put the number into the path"
        )
    return job.path or (job.diag_reg,)


def verdict(regs: Sequence[float], index: int, by_evidence: bool) -> str:
    """Which regulariser of several is the best, and whether the path should have gone on."""
    if len(regs) == 1:
        return ""
    what = "highest evidence" if by_evidence else "best leave-one-out error"
    return f"; {what} at diag_reg {regs[index]:g}{at_an_end(regs, regs[index])}"


FIGURES = ("diag_reg", "mse", "accuracy", "log_evidence")
"""Of a regulariser, in the tables of a solution file; None where it was not asked for."""


def path_tables(rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The datasets /path/<figure>, float64 (r,), of a path's dicts; NaN where there is none."""
    return {
        f"path/{name}": np.array([row[name] for row in rows], dtype=float)
        for name in FIGURES
        if any(row[name] is not None for row in rows)
    }


def about_targets(job: SolveJob, targets: Targets, scale: np.ndarray) -> dict[str, Any]:
    """Fields of a result that say what the labels were taken for, and the prior's scale (k,)."""
    return {
        "task": targets.task,
        "task_reason": targets.reason,
        "target_shift": None if targets.classes is None else targets.shift,
        "unit_diagonal": job.unit_diagonal,
        "normalize_y": job.normalize_y,
        "prior_scale": tuple(scale.tolist()) if job.scaled else (),
    }


def at_an_end(path: Sequence[float], best: float) -> str:
    """What to say of the ``best`` value where it is the smallest or the largest of a path."""
    ends = ((min(path), "smaller"), (max(path), "larger"))
    return "".join(
        f", an end of the path: {name} ones may be better" for end, name in ends if best == end
    )


def header_of(
    job: SolveJob, source: GramKernel, targets: Targets, result: SolveResult
) -> SolutionHeader:
    """Where a solution comes from: ``source`` has the training inputs in its rows."""
    rows = source.part.rows
    return SolutionHeader(
        kernel=source.kernel,
        depth=-1 if job.depth is None else job.depth,
        head=job.head or "",
        diag_reg=result.diag_reg,
        diag_reg_absolute=job.absolute,
        shift=result.shift,
        method=result.method,
        status=result.status,
        iterations=result.iterations,
        residual=result.residual,
        gram=str(source.path.resolve()),
        gram_dtype=str(source.file.dtype),
        network=json.dumps(source.file.network, sort_keys=True),
        network_fingerprint=source.fingerprints["network"],
        x1_fingerprint=source.fingerprints["x1"],
        y_fingerprint=targets.fingerprint,
        task=targets.task,
        unit_diagonal=job.unit_diagonal,
        target_shift=targets.shift,
        rows_fingerprint="" if rows is None else rows.fingerprint,
        rows_of=0 if rows is None else rows.of,
    )
