"""`widegram solve --method nystrom`: from kernel(train, centers) and labels to a solution file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget, stream_share
from widegram.linalg.definite import relative_shift
from widegram.linalg.evidence import log_evidence
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
from widegram.linalg.subset.centers import CenterFiles, open_centers
from widegram.linalg.subset.heights import block_height
from widegram.linalg.subset.judging import Judgement
from widegram.linalg.subset.passes import Passes, Solved
from widegram.linalg.targets import Targets, accuracy, load_targets, shift_of
from widegram.machine import interrupts
from widegram.machine.progress import ProgressCallback
from widegram.tiling import End
from widegram.validation.choices import NYSTROM

Array = NDArray[Any]
_TARGETS = 4  # arrays of n x k at once: labels, targets, two predictions of them
_RESOLVED = 1e-3  # error of a point of a path whose figures still mean something


@dataclass(frozen=True)
class Judged:
    """A regulariser as given, what it adds to the diagonal, and what a pass has found of it; None
    where the normal equations are singular."""

    diag_reg: float
    shift: float
    judgement: Judgement | None
    log_evidence: float | None
    accuracy: float | None

    @property
    def resolved(self) -> bool:
        """Whether its figures mean anything."""
        found = self.judgement
        if found is None or not found.error < _RESOLVED:
            return False
        return found.mse is None or bool(np.isfinite(found.mse))

    def row(self, best: bool) -> dict[str, Any]:
        """As a dict of a result's path."""
        found = self.judgement
        return {
            "diag_reg": self.diag_reg,
            "mse": None if found is None else found.mse,
            "accuracy": self.accuracy,
            "log_evidence": self.log_evidence,
            "residual": np.inf if found is None else found.residual,
            "resolved": self.resolved,
            "best": best,
        }


def solve_by_centers(
    job: SolveJob, started: float, progress: ProgressCallback | None
) -> SolveResult:
    """Solve for weights of the centers and write the solution file.

    ``started`` is when the work began, as time.perf_counter has it. Raises WidegramError for bad
    input.
    """
    _check(job)
    memory = array_budget(job.memory)
    end = End(job.depth, job.head)
    assert job.centers is not None
    stream = stream_share(memory)
    one_hot_less = shift_of(job.targets, job.target_shift)
    with open_centers(
        job.gram, job.centers, job.kernel, end,
        memory=stream, unit=job.unit_diagonal, chosen=job.rows,
    ) as files:  # fmt: skip
        m = files.cross.operator.shape[1]
        there, chosen = files.cross.file.n1, files.cross.part.rows
        targets = load_targets(
            job.y, there, limit=job.limit, what="rows", task=job.task, shift=one_hot_less,
            rows=chosen,
        )  # fmt: skip
        targets, mean = centred_targets(job, targets)
        regs = regularisers(job)
        shifts = _shifts(job, files, regs)
        k = targets.values.shape[1]
        resources = Resources(
            memory=memory - _TARGETS * targets.values.nbytes,
            work=job.out,
            key=f"{files.key()}/{targets.fingerprint}",
            overwrite=job.overwrite,
            progress=progress,
        )
        tile, itemsize = files.cross.tile, files.cross.file.dtype.itemsize
        height = block_height(m, k * len(regs), itemsize, tile, resources.memory)
        passes = Passes(files, targets, height, job.options.checkpoint_seconds, resources)
        with interrupts.keeping(passes.kept):
            points, solved = _solved(job, passes, targets, regs, shifts)
        tables = _tables(job, passes, points, solved, mean)
        tables["target_scale"] = job.scale(solved.squares, targets)
        result = _result(job, passes, points, solved, targets)
        _write(job, files, targets, result, solved, tables)
        passes.finish()
    return replace(result, seconds=time.perf_counter() - started)


def _check(job: SolveJob) -> None:
    if job.centers is None:
        raise WidegramError(
            f"method {NYSTROM} needs the kernel of the centers; pass --centers FILE, made by "
            "`widegram gram --x CENTERS`"
        )
    if job.options.method not in ("auto", NYSTROM):
        raise WidegramError(
            f"{job.centers}: centers are for method {NYSTROM}, not {job.options.method}"
        )
    if job.options.dtype is not None and np.dtype(job.options.dtype) != np.float64:
        raise WidegramError(
            f"method {NYSTROM} accumulates in float64; leave out --factor-dtype {job.options.dtype}"
        )


def _shifts(job: SolveJob, files: CenterFiles, regs: Sequence[float]) -> list[float]:
    """What the regularisers add to the diagonal, by the mean of K(x, x) of the rows."""
    cross = files.cross
    known = job.absolute or job.unit_diagonal
    held = np.ones(1) if known else cross.diagonal(job.kernel)
    if held is None:
        raise WidegramError(
            f"{cross.path}: does not hold K(x, x) of its rows (an older version wrote it, or one "
            "is out of range), which diag_reg is relative to; compute it again, or pass --absolute"
        )
    trace = float(np.sum(held))
    if not job.absolute and trace <= 0:
        raise WidegramError(
            f"{cross.path}: K(x, x) of its rows is zero, so that a regulariser relative to it adds "
            "nothing; pass --absolute"
        )
    shifts = [relative_shift(trace, held.size, reg, job.absolute) for reg in regs]
    if (job.evidence or job.scaled) and min(shifts) == 0:
        raise WidegramError(
            "without a regulariser the approximate prior is singular, and has neither an evidence "
            "nor a scale; give a diag_reg above 0"
        )
    return shifts


def _solved(
    job: SolveJob,
    passes: Passes,
    targets: Targets,
    regs: Sequence[float],
    shifts: Sequence[float],
) -> tuple[list[Judged], Solved]:
    """The points of the path, and the best of them refined."""
    loo = job.loo or bool(job.path and not job.evidence)
    judgements = passes.judged(shifts, loo)
    points = [
        _point(job, passes, targets, (reg, shift), judgements.get(shift))
        for reg, shift in zip(regs, shifts, strict=True)
    ]
    usable = [point for point in points if point.resolved]
    if not usable or (len(points) == 1 and points[0].judgement is None):
        raise WidegramError(
            "with none of these regularisers the normal equations are well enough conditioned to "
            "be solved; give larger ones"
        )
    return points, passes.refined(_best(job, usable).shift)


def _best(job: SolveJob, points: Sequence[Judged]) -> Judged:
    if len(points) == 1:
        return points[0]
    if job.evidence:
        return max(points, key=lambda p: -np.inf if p.log_evidence is None else p.log_evidence)
    return min(points, key=lambda p: p.row(False)["mse"])


def _point(
    job: SolveJob,
    passes: Passes,
    targets: Targets,
    regulariser: tuple[float, float],
    found: Judgement | None,
) -> Judged:
    reg, shift = regulariser
    if found is None:
        return Judged(reg, shift, None, None, None)
    evidence = None
    if job.evidence:
        scale = job.scale(found.squares, targets)
        evidence = log_evidence(found.squares, passes.logdet(shift), passes.n, scale)
    share = None
    if found.mse is not None and accuracy(passes.targets, passes.targets) is not None:
        share = found.hits / passes.n
    return Judged(reg, shift, found, evidence, share)


def _tables(
    job: SolveJob, passes: Passes, points: Sequence[Judged], solved: Solved, mean: Array
) -> dict[str, Array]:
    """Datasets beside alpha, the targets and their scale."""
    tables = {"target_mean": mean, "fitted": solved.fitted}
    # For variances, which an NTK solution has where the NNGP is beside it.
    if all("nngp" in file.kernels for file in passes.gram_files):
        tables["nystrom/eigenvalues"] = passes.spectrum.values
        tables["nystrom/basis"] = passes.spectrum.basis
    if job.path or job.loo or job.evidence:
        tables |= path_tables([point.row(False) for point in points])
    return tables


def _result(
    job: SolveJob, passes: Passes, points: Sequence[Judged], solved: Solved, targets: Targets
) -> SolveResult:
    index = next(i for i, point in enumerate(points) if point.shift == solved.shift)
    best = points[index]
    assert best.judgement is not None
    status = status_of(solved.error)
    judged = bool(job.path or job.loo or job.evidence)
    return SolveResult(
        out=str(job.out),
        method=NYSTROM,
        why=f"{passes.m} centers are given for {passes.n} rows",
        status=status,
        message=MESSAGES[status]
        + verdict([point.diag_reg for point in points], index, job.evidence),
        n=passes.n,
        k=targets.values.shape[1],
        iterations=solved.passes,
        residual=solved.residual,
        diag_reg=best.diag_reg,
        shift=best.shift,
        seconds=0.0,
        **about_targets(job, targets, job.scale(solved.squares, targets)),
        loo_mse=best.judgement.mse,
        loo_accuracy=best.accuracy,
        log_evidence=best.log_evidence,
        path=tuple(point.row(point is best) for point in points) if judged else (),
        details={
            "centers": passes.m,
            "jitter": passes.jitter,
            "condition": passes.spectrum.condition(best.shift),
            "error": solved.error,
            **passes.about(),
        },
    )


def _write(
    job: SolveJob,
    files: CenterFiles,
    targets: Targets,
    result: SolveResult,
    solved: Solved,
    tables: dict[str, Array],
) -> None:
    header = replace(
        header_of(job, files.cross, targets, result),
        centers=str(files.centers.path.resolve()),
        centers_fingerprint=files.cross.fingerprints["x2"],
        jitter=result.details["jitter"],
    )
    write_solution(
        job.out,
        header,
        solved.alpha,
        targets.values,
        targets.classes,
        tables=tables,
        rows=files.cross.part.rows,
        overwrite=job.overwrite,
    )
