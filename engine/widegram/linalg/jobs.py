"""`widegram solve` as a library call: from a Gram file and labels to a solution file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.distinct import check_distinct
from widegram.durable.outputs import check_target
from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget
from widegram.linalg.definite import NotPositiveDefinite
from widegram.linalg.evidence import log_evidence
from widegram.linalg.gramsource import GramKernel, open_train
from widegram.linalg.loo import PathPoint, best_point, path_choice, regulariser_path
from widegram.linalg.normalise import centred, prior_scale
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solution import MESSAGES, status_of
from widegram.linalg.solutionfile import SolutionHeader, write_solution
from widegram.linalg.solving import absolute_regulariser, solve
from widegram.linalg.targets import Targets, load_targets, shift_of
from widegram.machine.progress import ProgressCallback
from widegram.tiling import End
from widegram.validation.choices import FACTORISATIONS


@dataclass(frozen=True, kw_only=True)
class SolveJob:
    """What :func:`solve_file` is asked for.

    * ``gram``, ``kernel``, ``depth``, ``head``: the training matrix, one kernel of a Gram file
    * ``y``, ``limit``, ``task``: the labels, as :func:`widegram.linalg.targets.load_targets` reads
      them
    * ``targets``, ``target_shift``: how classes are encoded, one of
      :data:`widegram.validation.choices.TARGETS` or the number that one-hot rows are less
    * ``unit_diagonal``: whether K_ij / sqrt(K_ii K_jj) is solved with
    * ``normalize_y``: as :mod:`widegram.linalg.normalise` says
    * ``diag_reg``: what is added to the diagonal, times trace / n unless ``absolute``
    * ``path``: regularisers of which the best is taken, by leave-one-out error or evidence
    * ``loo``, ``evidence``: whether that error, the log marginal likelihood, is asked for
    * ``options``: how to solve
    * ``out``, ``overwrite``: the solution file
    * ``memory``: a size or a number of bytes for the whole process
    """

    gram: Path
    out: Path
    y: str
    kernel: str = "ntk"
    depth: int | None = None
    head: str | None = None
    limit: int | None = None
    task: str = "auto"
    targets: str | None = None
    target_shift: float | None = None
    unit_diagonal: bool = False
    normalize_y: bool = False
    diag_reg: float = 0.0
    absolute: bool = False
    path: tuple[float, ...] = ()
    loo: bool = False
    evidence: bool = False
    options: SolveOptions = field(default_factory=SolveOptions)
    memory: str | int | None = None
    overwrite: bool = False


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
    * ``path``: a dict (diag_reg, mse, accuracy, log_evidence, residual, resolved, best) for each
      regulariser
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
    loo_mse: float | None = None
    loo_accuracy: float | None = None
    log_evidence: float | None = None
    path: tuple[dict[str, Any], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For --json: ``file`` is what was written."""
        found = {**self.__dict__, "path": list(self.path)}
        return {"file": found.pop("out"), **found}


def solve_file(job: SolveJob, progress: ProgressCallback | None = None) -> SolveResult:
    """Solve (K + reg I) alpha = Y and write the solution file.

    Raises WidegramError for bad input: labels that do not match or hold NaN, an incomplete Gram
    file, a negative regulariser, an output that exists, a method that does not fit in memory.
    """
    started = time.perf_counter()
    check_target(job.out, job.overwrite)
    check_distinct([job.out], [job.gram, job.y])
    memory = array_budget(job.memory)
    end = End(job.depth, job.head)
    shift = shift_of(job.targets, job.target_shift)
    stream = max(memory // 8, 1 << 20)
    with open_train(job.gram, job.kernel, end, memory=stream, unit=job.unit_diagonal) as train:
        targets = load_targets(
            job.y, train.file.n1, limit=job.limit, what="rows", task=job.task, shift=shift
        )
        targets, mean = _centred(job, targets)
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
        scale = prior_scale(targets.values, alpha) if job.normalize_y else np.ones(mean.size)
        tables = {"target_mean": mean, "target_scale": scale}
        _write(job, train, targets, result, alpha, tables)
    return replace(
        result,
        task=targets.task,
        task_reason=targets.reason,
        target_shift=None if targets.classes is None else targets.shift,
        unit_diagonal=job.unit_diagonal,
        normalize_y=job.normalize_y,
        seconds=time.perf_counter() - started,
    )


def _centred(job: SolveJob, targets: Targets) -> tuple[Targets, np.ndarray]:
    """(targets to solve for, what was taken off, (k,))."""
    if not job.normalize_y:
        return targets, np.zeros(targets.values.shape[1])
    if targets.classes is not None:
        raise WidegramError(
            f"{job.y}: normalize_y is for regression, and these are taken for classes "
            f"({targets.reason}); for numbers take --task regression"
        )
    values, mean = centred(targets.values)
    return replace(targets, values=values, fingerprint=f"{targets.fingerprint}-centred"), mean


def _plain(
    job: SolveJob, train: GramKernel, targets: Targets, resources: Resources
) -> tuple[SolveResult, np.ndarray]:
    shift = absolute_regulariser(train.operator, job.diag_reg, job.absolute)
    solution = solve(train.operator.shifted(shift), targets.values, job.options, resources)
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
    if job.options.method not in FACTORISATIONS or job.options.dtype == "float32":
        raise WidegramError(
            "leave-one-out errors and evidence need a factorisation in float64; take --method "
            "auto, cholesky or cholesky-ooc, without --factor-dtype"
        )
    if job.path and job.diag_reg:
        raise WidegramError(
            "diag_reg and diag_reg_path both name regularisers; give one of them, "
            "or put the number into the path"
        )
    regs = job.path or (job.diag_reg,)
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
    )
    evidence = [_evidence(job, point, targets) for point in points]
    losses = [None if found is None else -found for found in evidence] if job.evidence else None
    best = best_point(points, losses)
    index = next(i for i, point in enumerate(points) if point is best)
    status = status_of(best.residual)
    rows = tuple(
        _row(reg, point, found, point is best)
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
    """The log marginal likelihood of a point where it is asked for and the point is resolved."""
    if not (job.evidence and point.resolved):
        return None
    squares = np.einsum("ij,ij->j", targets.values, point.alpha)
    return log_evidence(squares, point.logdet, targets.n, job.normalize_y)


def verdict(regs: tuple[float, ...], index: int, by_evidence: bool) -> str:
    """Which regulariser of several is the best, and whether the path should have gone on."""
    if len(regs) == 1:
        return ""
    what = "highest evidence" if by_evidence else "best leave-one-out error"
    found = f"; {what} at diag_reg {regs[index]:g}"
    for end, name in ((min(regs), "smaller"), (max(regs), "larger")):
        if regs[index] == end:
            found += f", an end of the path: {name} ones may be better"
    return found


def _row(reg: float, point: PathPoint, evidence: float | None, best: bool) -> dict[str, Any]:
    return {
        "diag_reg": reg,
        "mse": point.mse,
        "accuracy": point.accuracy,
        "log_evidence": evidence,
        "residual": point.residual,
        "resolved": point.resolved,
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
    header = SolutionHeader(
        kernel=job.kernel,
        depth=-1 if job.depth is None else job.depth,
        head=job.head or "",
        diag_reg=result.diag_reg,
        diag_reg_absolute=job.absolute,
        shift=result.shift,
        method=result.method,
        status=result.status,
        iterations=result.iterations,
        residual=result.residual,
        gram=str(train.path.resolve()),
        gram_dtype=str(train.file.dtype),
        network=json.dumps(train.file.network, sort_keys=True),
        network_fingerprint=train.fingerprints["network"],
        x1_fingerprint=train.fingerprints["x1"],
        y_fingerprint=targets.fingerprint,
        task=targets.task,
        unit_diagonal=job.unit_diagonal,
        target_shift=targets.shift,
    )
    path = {
        f"path/{name}": np.array([row[name] for row in result.path], dtype=float)
        for name in ("diag_reg", "mse", "accuracy", "log_evidence")
        if result.path and any(row[name] is not None for row in result.path)
    }
    write_solution(
        job.out,
        header,
        alpha,
        targets.values,
        targets.classes,
        tables={**tables, **path},
        overwrite=job.overwrite,
    )
