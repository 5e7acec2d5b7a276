"""`widegram solve` as a library call: from a Gram file and labels to a solution file."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from widegram.data.distinct import check_distinct
from widegram.durable.outputs import check_target
from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget, stream_share
from widegram.linalg.definite import NotPositiveDefinite
from widegram.linalg.evidence import resolved_evidence
from widegram.linalg.gramsource import GramKernel, open_train
from widegram.linalg.loo import PathPoint, best_point, path_choice, regulariser_path
from widegram.linalg.panels import at_workers, check_shared, memory_here
from widegram.linalg.settings import Resources
from widegram.linalg.solution import MESSAGES, status_of
from widegram.linalg.solutionfile import write_solution
from widegram.linalg.solvejob import (
    SolveJob,
    SolveResult,
    about_targets,
    centred_targets,
    header_of,
    path_tables,
    regularisers,
    verdict,
)
from widegram.linalg.solving import absolute_regulariser, solve
from widegram.linalg.subset.job import solve_by_centers
from widegram.linalg.svm.svmjob import check_unused, solve_by_svm
from widegram.linalg.targets import Targets, load_targets, shift_of
from widegram.machine.progress import ProgressCallback
from widegram.tiling import End
from widegram.validation.choices import CG, FACTORISATIONS, NYSTROM, SVM


def solve_file(job: SolveJob, progress: ProgressCallback | None = None) -> SolveResult:
    """Solve (K + reg I) alpha = Y and write the solution file.

    Raises WidegramError for bad input: labels that do not match or hold NaN, an incomplete Gram
    file, a negative regulariser, an output that exists, a method that does not fit in memory.
    """
    started = time.perf_counter()
    check_target(job.out, job.overwrite)
    check_distinct([job.out], [job.gram, job.y, job.centers, job.rows])
    if job.dask is not None:
        check_shared(job)
    if job.options.method == SVM and job.centers is None:
        return solve_by_svm(job, started, progress)
    check_unused(job)
    if job.centers is not None or job.options.method == NYSTROM:
        return solve_by_centers(job, started, progress)
    memory = array_budget(memory_here(job))
    end = End(job.depth, job.head)
    shift = shift_of(job.targets, job.target_shift)
    stream = stream_share(memory)
    with open_train(
        job.gram, job.kernel, end, memory=stream, unit=job.unit_diagonal, rows=job.rows
    ) as train:
        targets = load_targets(
            job.y, train.file.n1, limit=job.limit, what="rows", task=job.task, shift=shift,
            rows=train.part.rows,
        )  # fmt: skip
        targets, mean = centred_targets(job, targets)
        for value in (job.diag_reg, *job.path):
            absolute_regulariser(train.operator, value, job.absolute)
        resources = Resources(
            memory=memory - targets.values.nbytes,
            work=job.out,
            key=f"{train.key()}/{targets.fingerprint}",
            overwrite=job.overwrite,
            progress=progress,
        )
        try:
            judged = bool(job.path or job.loo or job.evidence)
            compute = _by_factorisations if judged else _plain
            result, alpha = compute(job, train, targets, resources)
        except NotPositiveDefinite as error:
            if not job.absolute:
                raise
            raise error.made_absolute(train.operator.trace() / targets.n) from None
        scale = job.scale(np.einsum("ij,ij->j", targets.values, alpha), targets)
        tables = {"target_mean": mean, "target_scale": scale}
        _write(job, train, targets, result, alpha, tables)
    return replace(
        result,
        **about_targets(job, targets, scale),
        seconds=time.perf_counter() - started,
    )


def _plain(
    job: SolveJob, train: GramKernel, targets: Targets, resources: Resources
) -> tuple[SolveResult, np.ndarray]:
    shift = absolute_regulariser(train.operator, job.diag_reg, job.absolute)
    if job.dask is None:
        solution = solve(train.operator.shifted(shift), targets.values, job.options, resources)
    else:
        options = replace(job.options, method=CG)
        with at_workers(job, train) as operator:
            solution = solve(operator.shifted(shift), targets.values, options, resources)
    details = {name: value for name, value in solution.details.items() if name != "why"}
    result = SolveResult(
        out=str(job.out),
        method=solution.method,
        why=solution.details["why"],
        status=solution.status,
        message=solution.message,
        n=targets.n,
        k=targets.values.shape[1],
        iterations=solution.iterations,
        residual=solution.residual,
        diag_reg=job.diag_reg,
        shift=shift,
        seconds=solution.seconds,
        details=details,
    )
    return result, solution.x


def _by_factorisations(
    job: SolveJob, train: GramKernel, targets: Targets, resources: Resources
) -> tuple[SolveResult, np.ndarray]:
    dtype = job.options.dtype
    single = dtype is not None and np.dtype(dtype) == np.float32
    if job.options.method not in FACTORISATIONS or single:
        raise WidegramError(
            "leave-one-out errors and evidence need a factorisation in float64; take --method "
            "auto, cholesky or cholesky-ooc, without --factor-dtype"
        )
    regs = regularisers(job)
    shifts = [absolute_regulariser(train.operator, reg, job.absolute) for reg in regs]
    choice = path_choice(
        train.operator, targets.values.shape[1], len(regs), job.options, resources
    )
    points = regulariser_path(
        train.operator,
        targets.values,
        shifts,
        job.options,
        resources,
        choice,
        loo=job.loo or not job.evidence,
        evidence=job.evidence,
    )
    evidence = [_evidence(job, point, targets) for point in points]
    losses = [None if found is None else -found for found in evidence] if job.evidence else None
    best = best_point(points, losses)
    index = next(i for i, point in enumerate(points) if point is best)
    status = status_of(best.residual)
    rows = tuple(
        _row(reg, point, found, point is best, found is not None or not job.evidence)
        for reg, point, found in zip(regs, points, evidence, strict=True)
    )
    result = SolveResult(
        out=str(job.out),
        method=choice.method,
        why=choice.reason,
        status=status,
        message=f"{MESSAGES[status]}{verdict(regs, index, job.evidence)}",
        n=targets.n,
        k=targets.values.shape[1],
        iterations=len(regs),
        residual=best.residual,
        diag_reg=regs[index],
        shift=best.shift,
        seconds=0.0,
        loo_mse=best.mse,
        loo_accuracy=best.accuracy,
        log_evidence=evidence[index],
        path=rows,
    )
    return result, best.alpha


def _evidence(job: SolveJob, point: PathPoint, targets: Targets) -> float | None:
    """The log marginal likelihood of a point where it is asked for, and resolved."""
    if point.rounding is None or not point.resolved:
        return None
    squares = np.einsum("ij,ij->j", targets.values, point.alpha)
    scale = job.scale(squares, targets)
    return resolved_evidence(squares, point.logdet, targets.n, point.rounding, scale)


def _row(
    reg: float, point: PathPoint, evidence: float | None, best: bool, known: bool
) -> dict[str, Any]:
    return {
        "diag_reg": reg,
        "mse": point.mse,
        "accuracy": point.accuracy,
        "log_evidence": evidence,
        "residual": point.residual,
        "resolved": point.resolved and known,
        "best": best,
    }


def _write(
    job: SolveJob,
    train: GramKernel,
    targets: Targets,
    result: SolveResult,
    alpha: np.ndarray,
    tables: dict[str, np.ndarray],
) -> None:
    header = header_of(job, train, targets, result)
    write_solution(
        job.out,
        header,
        alpha,
        targets.values,
        targets.classes,
        tables=tables | path_tables(result.path),
        rows=train.part.rows,
        overwrite=job.overwrite,
    )
