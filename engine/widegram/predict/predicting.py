"""`widegram predict` as a library call: streamed predictions from a solution and a cross file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.chosen_rows import RowsLike
from widegram.data.distinct import check_distinct
from widegram.durable.outputs import check_target
from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget, stream_share
from widegram.linalg.gramsource import GramKernel, open_cross, open_train
from widegram.linalg.normalise import in_units
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solutionfile import StoredSolution, read_solution
from widegram.linalg.svm.votes import votes
from widegram.linalg.targets import Targets, load_targets
from widegram.machine.progress import ProgressCallback
from widegram.predict.calibration import class_probabilities
from widegram.predict.center_variance import variances_by_centers
from widegram.predict.csvfile import read_ids, write_csv
from widegram.predict.diagonal import given_diagonal, is_held, prior_diagonal
from widegram.predict.flow import flow_coefficients
from widegram.predict.merit import Predictions, PredictResult, judged
from widegram.predict.predictionfile import write_predictions
from widegram.predict.rates import largest_eigenvalue
from widegram.predict.variance import Latent, variances, work_place
from widegram.tiling import End

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class PredictJob:
    """What :func:`predict_file` is asked for.

    * ``solution``, ``cross``: the solution file, and the file of kernel(test, train); without
      ``cross`` the test points are ``rows`` of the matrix that was solved with
    * ``rows``: of the cross file, all without
    * ``y``, ``limit``: labels of all rows of the cross file, and how many are taken of them
    * ``depth``, ``head``: those that the solution must be of, None for any
    * ``times``: in units of the maximal learning rate 2 / lambda_max; infinity is the solution
    * ``variance``: whether variances are wanted; ``method``: the factorisation for them
    * ``gram``: the training matrix, by default the file that the solution names; it is read for
      finite times and variances alone
    * ``test_gram``, ``x_test``: where variances have K(x, x) of the test points from, by default
      the cross file; ``diagonal``: the same of an array
    * ``out``, ``csv``, ``overwrite``: the prediction file, and the table of
      :mod:`widegram.predict.csvfile`, with ``ids`` of all rows of the cross file
    * ``memory``: a size or a number of bytes for the whole process
    """

    solution: Path
    cross: Path | None = None
    rows: RowsLike | None = None
    y: str | None = None
    out: Path | None = None
    csv: Path | None = None
    ids: str | None = None
    times: tuple[float, ...] = ()
    variance: bool = False
    gram: Path | None = None
    test_gram: Path | None = None
    x_test: str | tuple[str, ...] | None = None
    diagonal: str | None = None
    depth: int | None = None
    head: str | None = None
    limit: int | None = None
    method: str = "auto"
    memory: str | int | None = None
    overwrite: bool = False


def predict_file(job: PredictJob, progress: ProgressCallback | None = None) -> PredictResult:
    """Predict the test points of ``job.cross``, compare with labels, and write the output.

    Raises WidegramError for bad input: files of another network or training set, an incomplete
    file, labels that do not match, an output that exists.
    """
    started = time.perf_counter()
    _check(job)
    solution = read_solution(job.solution)
    header = solution.header
    _check_end(job, header.end)
    place = _cross_place(job, solution)
    computes = job.variance and not is_held(place, job.test_gram, job.x_test)
    memory = array_budget(job.memory, kernels=computes)
    stream = stream_share(memory)
    with open_cross(
        place,
        header.kernel,
        header.end,
        memory=stream,
        columns=solution.columns,
        unit=header.unit_diagonal,
        rows=job.rows,
        diagonal=None if job.diagonal is None else given_diagonal(job.diagonal),
    ) as cross:
        if job.cross is None:
            _check_own(solution, cross)
        solution = solution.as_read()
        targets = _targets(job, solution, cross)
        if cross.operator.shape[1] != solution.alpha.shape[0]:
            raise WidegramError(
                f"{place}: has {cross.operator.shape[1]} columns, the solution "
                f"{solution.alpha.shape[0]} rows"
            )
        ids = None if job.ids is None else read_ids(job.ids, cross)
        found = _predictions(job, solution, cross, memory, progress)
        if found.variance is not None and solution.classes is not None:
            found.probability = class_probabilities(found.mean, found.variance)
        result = judged(found, solution, targets)
        _put_in_order(found, solution, cross)
        if job.out is not None:
            write_predictions(job.out, found, solution, cross, job.overwrite)
        if job.csv is not None:
            write_csv(job.csv, found, solution, cross, targets, ids, overwrite=job.overwrite)
    return replace(
        result,
        trained_on=_trained_on(solution, cross),
        out=None if job.out is None else str(job.out),
        csv=None if job.csv is None else str(job.csv),
        seconds=time.perf_counter() - started,
    )


def _check(job: PredictJob) -> None:
    """Refuse files that may not be written, two origins of one number, and times that are none."""
    outputs = [path for path in (job.out, job.csv) if path is not None]
    for path in outputs:
        check_target(path, job.overwrite)
    inputs = (job.cross, job.gram, job.test_gram, job.y, job.x_test, job.rows, job.ids)
    check_distinct(outputs, (job.solution, *inputs, job.diagonal))
    known = {"--diagonal": job.diagonal, "--test-gram": job.test_gram, "--x-test": job.x_test}
    given = [name for name, value in known.items() if value is not None]
    if len(given) > 1:
        raise WidegramError(f"{' and '.join(given)} say K(x, x) of the test points; give one")
    for moment in job.times:
        if not moment >= 0:
            raise WidegramError(f"time {moment:g}: times are not negative")


def _check_end(job: PredictJob, there: End) -> None:
    """Refuse a depth or head that is not the one of which the solution is."""
    for name, asked in (("depth", job.depth), ("head", job.head)):
        found = getattr(there, name)
        if asked is not None and asked != found:
            known = f"no {name}" if found is None else f"{name} {found}"
            raise WidegramError(f"{job.solution}: is the solution of {known}, not of {asked}")


def _cross_place(job: PredictJob, solution: StoredSolution) -> Path:
    """The file with kernel(test, train)."""
    if job.cross is not None:
        return job.cross
    if job.rows is None:
        raise WidegramError(
            "predict needs test points: give the cross file kernel(test, train), or rows of the "
            "matrix that was solved with"
        )
    place = Path(solution.header.gram) if job.gram is None else job.gram
    if not place.exists():
        raise WidegramError(
            f"{place}: the matrix of the solution is not there; pass --cross FILE, or --gram FILE"
        )
    return place


def _check_own(solution: StoredSolution, cross: GramKernel) -> None:
    """Refuse a matrix of other rows than the solution's, where no cross file is named."""
    if cross.fingerprints["x1"] != solution.header.x1_fingerprint:
        raise WidegramError(
            f"{cross.path}: is not the training matrix of {solution.path} (its x1 differs); for "
            "other test points pass --cross"
        )


def _trained_on(solution: StoredSolution, cross: GramKernel) -> int:
    """How many of the test points the solution was trained on."""
    if cross.fingerprints["x1"] != solution.header.x1_fingerprint:
        return 0
    rows = cross.part.rows
    tested = np.arange(cross.file.n1) if rows is None else rows.numbers
    known = tested if solution.rows is None else solution.rows.numbers
    return int(np.isin(tested, known).sum())


def _put_in_order(found: Predictions, solution: StoredSolution, cross: GramKernel) -> None:
    """Bring predictions from the order of the files into the one in which rows were given."""
    tested, known = cross.part.rows, solution.rows
    if tested is not None:
        found.mean = tested.as_given(found.mean)
        for name in ("latent", "variance", "probability", "decision"):
            values = getattr(found, name)
            setattr(found, name, None if values is None else tested.as_given(values))
    if known is not None:
        found.train_mean = known.as_given(found.train_mean)
    for moment, (mean, train_mean) in found.at_time.items():
        found.at_time[moment] = (
            mean if tested is None else tested.as_given(mean),
            train_mean if known is None else known.as_given(train_mean),
        )


def _targets(job: PredictJob, solution: StoredSolution, cross: GramKernel) -> Targets | None:
    if job.y is None:
        return None
    task, shift = solution.header.task, solution.header.target_shift
    targets = load_targets(
        job.y,
        cross.file.n1,
        classes=solution.classes,
        limit=job.limit,
        what="test points",
        task=task,
        shift=None if math.isnan(shift) else shift,
        rows=cross.part.rows,
    )
    if targets.values.shape[1] != solution.targets.shape[1]:
        raise WidegramError(
            f"{job.y}: has {targets.values.shape[1]} outputs, the solution, a {task}, "
            f"{solution.targets.shape[1]}"
        )
    return targets


def _predictions(
    job: PredictJob,
    solution: StoredSolution,
    cross: GramKernel,
    memory: int,
    progress: ProgressCallback | None,
) -> Predictions:
    """Means of all times in one pass over the cross file."""
    if solution.intercept is not None:
        return _decided(job, solution, solution.intercept, cross, progress)
    shift, alpha = solution.header.shift, solution.alpha
    blocks, train_means = [alpha], [solution.fitted]
    latent, variance, lost = None, None, None
    finite = tuple(moment for moment in job.times if math.isfinite(moment))
    if solution.header.centers_fingerprint:
        _check_centers(job, finite)
        if job.variance:
            prior = _prior(job, cross, memory)
            found_for_prior = variances_by_centers(solution, cross, prior, memory, progress)
            latent, variance = in_units(found_for_prior, shift, solution.scale)
    elif finite or job.variance:
        with _training_matrix(job, solution, memory) as train:
            if finite:
                top = largest_eigenvalue(train.operator, memory // 2)
                flows = flow_coefficients(
                    train.operator.shifted(shift),
                    solution.targets,
                    finite,
                    top,
                    memory=memory,
                    progress=progress,
                )
                blocks += flows
                images = train.operator.matmat(np.hstack(flows), progress)
                train_means += np.split(images, len(flows), axis=1)
            if job.variance:
                found_for_prior, lost = _variance(job, cross, train, shift, memory, progress)
                latent, variance = in_units(found_for_prior, shift, solution.scale)
    means = np.split(cross.operator.matmat(np.hstack(blocks), progress), len(blocks), axis=1)
    means = [mean + solution.mean for mean in means]
    train_means = [mean + solution.mean for mean in train_means]
    found = Predictions(means[0], train_means[0], latent, variance)
    found.undecided = None if lost is None else int(lost.sum())
    both = zip(means, train_means, strict=True)
    at = dict(zip((math.inf, *finite), both, strict=True))
    found.at_time.update((moment, at[moment]) for moment in job.times)
    return found


def _check_centers(job: PredictJob, finite: tuple[float, ...]) -> None:
    """Refuse what a solution by centers has no use for; ``finite``: the finite times asked for."""
    if finite or (job.gram is not None and job.cross is not None):
        raise WidegramError(
            f"{job.solution}: is a solution by centers, which has no training matrix: finite "
            "times and --gram are for solutions of kernel(train, train)"
        )
    if job.variance and job.method != "auto":
        raise WidegramError(
            f"{job.solution}: is a solution by centers, whose variances need no factorisation "
            f"of rows; leave out method {job.method} (--method)"
        )


def _decided(
    job: PredictJob,
    solution: StoredSolution,
    intercept: Array,
    cross: GramKernel,
    progress: ProgressCallback | None,
) -> Predictions:
    """What machines decide."""
    gram = None if job.cross is None else job.gram
    for name, asked in (("times", job.times), ("variances", job.variance), ("--gram", gram)):
        if asked:
            raise WidegramError(
                f"{job.solution}: is of support vector machines, which have no {name}; solve by "
                "another --method"
            )
    decision = cross.operator.matmat(solution.alpha, progress) + intercept
    k = solution.targets.shape[1]
    return Predictions(votes(decision, k), solution.fitted, decision=decision)


def _variance(
    job: PredictJob,
    cross: GramKernel,
    train: GramKernel,
    shift: float,
    memory: int,
    progress: ProgressCallback | None,
) -> Latent:
    prior = _prior(job, cross, memory)
    resources = Resources(
        memory=memory,
        work=work_place(job.out, job.solution),
        key=train.key(),
        overwrite=job.overwrite,
        progress=progress,
    )
    return variances(train, cross, shift, prior, SolveOptions(job.method), resources)


def _prior(job: PredictJob, cross: GramKernel, memory: int) -> Array:
    """The NNGP of each test point with itself, in the units of the cross file, (n_test,)."""
    prior = prior_diagonal(
        cross, test_gram=job.test_gram, x_test=job.x_test, memory=memory // 8
    )
    down = cross.down()
    return prior if down is None else prior * down**2


def _training_matrix(job: PredictJob, solution: StoredSolution, memory: int) -> GramKernel:
    header = solution.header
    path = Path(header.gram) if job.gram is None else job.gram
    if not path.exists():
        raise WidegramError(
            f"{path}: the training matrix of the solution is not there; pass --gram FILE"
        )
    stream = stream_share(memory)
    train = open_train(
        path,
        header.kernel,
        header.end,
        memory=stream,
        unit=header.unit_diagonal,
        rows=solution.rows,
    )
    for name in ("network", "x1"):
        if train.fingerprints[name] != getattr(header, f"{name}_fingerprint"):
            train.file.close()
            raise WidegramError(
                f"{path}: is not the training matrix of {solution.path} (its {name} differs)"
            )
    return train
