"""`widegram solve --method svm`: from a Gram file and classes to a solution file."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget, stream_share
from widegram.linalg.gramsource import open_train
from widegram.linalg.solution import MAX_ITERATIONS, OK
from widegram.linalg.solutionfile import write_solution
from widegram.linalg.solvejob import SolveJob, SolveResult, at_an_end, header_of
from widegram.linalg.svm.machines import (
    CACHE,
    Machines,
    cross_validated,
    fitted,
    most_iterations,
    require_sklearn,
)
from widegram.linalg.svm.votes import pairs, votes
from widegram.linalg.targets import Targets, load_targets
from widegram.machine.budgets import format_size
from widegram.machine.progress import Progress, ProgressCallback
from widegram.tiling import End
from widegram.validation import bounds
from widegram.validation.choices import SVM

Array = NDArray[Any]
C_PATH = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)
"""Values of C that are tried where none are named, as in Arora et al. 2020 (arXiv:1910.01663)."""

FOLDS = 5
"""Folds of the cross-validation where nothing else is asked for."""


def solve_by_svm(job: SolveJob, started: float, progress: ProgressCallback | None) -> SolveResult:
    """Fit a machine to each pair of classes, and write the solution file.

    ``started`` is when the work began, as time.perf_counter has it. Raises WidegramError for bad
    input, options that a machine has not, and where scikit-learn is missing.
    """
    _check(job)
    require_sklearn()
    path, folds = job.c_path or C_PATH, FOLDS if job.folds is None else job.folds
    memory, end = array_budget(job.memory), End(job.depth, job.head)
    stream = stream_share(memory)
    with open_train(
        job.gram, job.kernel, end, memory=stream, unit=job.unit_diagonal, rows=job.rows
    ) as train:
        rows = train.part.rows
        targets = load_targets(
            job.y, train.file.n1, limit=job.limit, task=job.task, what="rows", rows=rows
        )
        if targets.classes is None:
            raise WidegramError(
                f"{job.y}: method {SVM} is for classes, and these are taken for numbers "
                f"({targets.reason}); for classes take --task classification"
            )
        k = targets.classes.size
        _check_classes(job, targets)
        _check_memory(targets.n, k, folds if len(path) > 1 else 0, memory)
        # By rows, as SVC wants it; the matrix is symmetric.
        kernel = train.operator.load(np.float64, progress).T
        labels = targets.values.argmax(axis=1)
        shares: list[float] = []
        if len(path) > 1:
            shares = cross_validated(kernel, labels, path, folds, job.options.seed, progress)
        # Of equals the smallest C, which bends least to single rows.
        c = path[0] if not shares else min(zip(np.negative(shares), path, strict=True))[1]
        if progress:
            progress(Progress(0, 1, what="fitting"))
        machines = fitted(kernel, labels, c)
        decision = kernel @ machines.alpha + machines.intercept
        result = _result(job, targets, machines, c, (path, shares, folds), started)
        header = header_of(job, train, targets, result)
        tables = _tables(machines, votes(decision, k), (path, shares))
        write_solution(
            job.out, header, machines.alpha, targets.values, targets.classes, tables=tables,
            rows=rows, overwrite=job.overwrite,
        )  # fmt: skip
    return result


def check_unused(job: SolveJob) -> None:
    """Raise WidegramError for options of machines in a job that solves otherwise."""
    for name, given in (("--c-path", bool(job.c_path)), ("--folds", job.folds is not None)):
        if given:
            raise WidegramError(f"{name} is of --method {SVM}, and {job.options.method} is asked")


def _check(job: SolveJob) -> None:
    unused = {
        "--diag-reg": job.diag_reg != 0,
        "--diag-reg-path": bool(job.path),
        "--absolute": job.absolute,
        "--loo": job.loo,
        "--evidence": job.evidence,
        "--normalize-y": job.normalize_y,
        "--scale-prior": job.scale_prior,
        "--targets": job.targets is not None,
        "--target-shift": job.target_shift is not None,
        "--factor-dtype": job.options.dtype is not None,
    }
    given = [name for name, there in unused.items() if there]
    if given:
        raise WidegramError(
            f"{' and '.join(given)}: method {SVM} has C (--c-path), and neither a regulariser nor "
            "targets that are numbers; leave that out"
        )
    if job.task == "regression":
        raise WidegramError(f"method {SVM} is for classes, and the task asked for is regression")
    if len(job.c_path) > bounds.PATH or not all(0 < c < math.inf for c in job.c_path):
        raise WidegramError(f"c_path {job.c_path}: give numbers above 0, at most {bounds.PATH:,}")
    if len(job.c_path) == 1 and job.folds is not None:
        raise WidegramError(
            f"folds {job.folds} (--folds): there is nothing to validate, c_path (--c-path) has one "
            "C; leave folds out, or give several"
        )


def _check_classes(job: SolveJob, targets: Targets) -> None:
    """Refuse chosen rows that have none of a class."""
    assert targets.classes is not None
    lacking = np.flatnonzero(targets.values.max(axis=0) <= 0)
    if lacking.size:
        raise WidegramError(
            f"{job.y}: the rows that are chosen hold none of class {targets.classes[lacking[0]]}, "
            f"and method {SVM} needs some of each; choose other rows"
        )


def _check_memory(n: int, k: int, folds: int, memory: int) -> None:
    """Refuse what does not fit: the matrix, what LIBSVM keeps, the two parts of a fold."""
    share = (folds - 1) / folds if folds else 0.0
    machines = 8 * n * len(pairs(k)) * 2
    needed = int(8 * n * n * (1 + share)) + min(CACHE * 10**6, 4 * n * n) + machines
    if needed > memory:
        raise WidegramError(
            f"method {SVM} holds the matrix in memory: {n:,} rows and {k} classes take "
            f"{format_size(needed)}, --memory leaves {format_size(memory)} for arrays; give more"
        )


def _result(
    job: SolveJob,
    targets: Targets,
    machines: Machines,
    c: float,
    validated: tuple[Sequence[float], Sequence[float], int],
    started: float,
) -> SolveResult:
    path, shares, folds = validated
    message = f"C {c:g}, as asked"
    if shares:
        message = f"C {c:g} has the best accuracy in {folds} folds{at_an_end(path, c)}"
    if not machines.converged:
        message += (
            f"; a machine was stopped after {most_iterations(targets.n):,} iterations: what it "
            "decides is inexact; take smaller --c-path, or --unit-diagonal"
        )
    rows = ({"c": at, "accuracy": s, "best": at == c} for at, s in zip(path, shares, strict=False))
    return SolveResult(
        out=str(job.out),
        method=SVM,
        why="as asked; one machine for each pair of classes",
        status=OK if machines.converged else MAX_ITERATIONS,
        message=message,
        n=targets.n,
        k=machines.alpha.shape[1],
        iterations=machines.iterations,
        residual=math.nan,
        diag_reg=0.0,
        shift=0.0,
        seconds=time.perf_counter() - started,
        task=targets.task,
        task_reason=targets.reason,
        unit_diagonal=job.unit_diagonal,
        path=tuple(rows),
        details={
            "c": c,
            "folds": folds if shares else None,
            "cv_accuracy": max(shares) if shares else None,
            "support": machines.support,
        },
    )


def _tables(
    machines: Machines, train_votes: Array, validated: tuple[Sequence[float], Sequence[float]]
) -> dict[str, Array]:
    """Datasets beside alpha and the targets."""
    k = train_votes.shape[1]
    tables = {
        "intercept": machines.intercept,
        "pairs": pairs(k),
        "fitted": train_votes,
        "target_mean": np.zeros(k),
        "target_scale": np.ones(k),
    }
    path, shares = validated
    if shares:
        tables |= {"path/c": np.array(path), "path/accuracy": np.array(shares)}
    return tables
