"""`widegram predict` as a library call: streamed predictions from a solution and a cross file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import widegram
from widegram.data.distinct import check_distinct
from widegram.durable.outputs import check_target
from widegram.durable.sealed import write_sealed
from widegram.errors import WidegramError
from widegram.linalg.budget import array_budget
from widegram.linalg.gramsource import GramKernel, open_cross, open_train
from widegram.linalg.normalise import in_units
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solutionfile import StoredSolution, read_solution
from widegram.linalg.svm.votes import pairs, votes
from widegram.linalg.targets import Targets, load_targets
from widegram.machine.progress import ProgressCallback
from widegram.predict.calibration import class_probabilities
from widegram.predict.center_variance import variances_by_centers
from widegram.predict.diagonal import is_held, own_diagonal
from widegram.predict.flow import flow_coefficients
from widegram.predict.merit import Predictions, PredictResult, judged, time_name
from widegram.predict.rates import largest_eigenvalue
from widegram.predict.variance import KINDS, variances, work_place

Array = NDArray[Any]
FORMAT = "widegram-prediction"


@dataclass(frozen=True, kw_only=True)
class PredictJob:
    """What :func:`predict_file` is asked for.

    * ``solution``, ``cross``: the solution file, and the Gram file kernel(test, train)
    * ``y``, ``limit``: labels of the test points, and how many of them
    * ``depth``, ``head``: those that the solution must be of, None for any
    * ``times``: in units of the maximal learning rate 2 / lambda_max; infinity is the solution
    * ``variance``: whether variances are wanted; ``method``: the factorisation for them
    * ``gram``: the training matrix, by default the file that the solution names; it is read for
      finite times and variances alone
    * ``test_gram``, ``x_test``: where variances have K(x, x) of the test points from, by default
      the cross file
    * ``out``, ``overwrite``: the prediction file
    * ``memory``: a size or a number of bytes for the whole process
    """

    solution: Path
    cross: Path
    y: str | None = None
    out: Path | None = None
    times: tuple[float, ...] = ()
    variance: bool = False
    gram: Path | None = None
    test_gram: Path | None = None
    x_test: str | tuple[str, ...] | None = None
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
    if job.out is not None:
        check_target(job.out, job.overwrite)
        inputs = (job.solution, job.cross, job.gram, job.test_gram, job.y, job.x_test)
        check_distinct([job.out], inputs)
    for moment in job.times:
        if not moment >= 0:
            raise WidegramError(f"time {moment:g}: times are not negative")
    solution = read_solution(job.solution)
    header = solution.header
    for name, asked in (("depth", job.depth), ("head", job.head)):
        found_there = getattr(header.end, name)
        if asked is not None and asked != found_there:
            known = f"no {name}" if found_there is None else f"{name} {found_there}"
            raise WidegramError(f"{job.solution}: is the solution of {known}, not of {asked}")
    computes = job.variance and not is_held(job.cross, "nngp", job.test_gram, job.x_test)
    memory = array_budget(job.memory, kernels=computes)
    stream = max(memory // 8, 1 << 20)
    with open_cross(
        job.cross,
        header.kernel,
        header.end,
        memory=stream,
        train=solution.columns,
        unit=header.unit_diagonal,
        columns="centers" if header.centers_fingerprint else "training data",
    ) as cross:
        targets = _targets(job, solution, cross)
        if cross.operator.shape[1] != solution.alpha.shape[0]:
            raise WidegramError(
                f"{job.cross}: has {cross.operator.shape[1]} columns, the solution "
                f"{solution.alpha.shape[0]} rows"
            )
        found = _predictions(job, solution, cross, memory, progress)
        if found.variance is not None and solution.classes is not None:
            found.probability = class_probabilities(found.mean, found.variance)
        if job.out is not None:
            _write(job.out, found, solution, cross, job.overwrite)
    return judged(found, solution, targets, job.out, time.perf_counter() - started)


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
    latent, variance = None, None
    finite = tuple(moment for moment in job.times if math.isfinite(moment))
    if solution.header.centers_fingerprint:
        if finite or job.gram is not None:
            raise WidegramError(
                f"{job.solution}: is a solution by centers, which has no training matrix: finite "
                "times and --gram are for solutions of kernel(train, train)"
            )
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
                found_for_prior = _variance(job, cross, train, shift, memory, progress)
                latent, variance = in_units(found_for_prior, shift, solution.scale)
    means = np.split(cross.operator.matmat(np.hstack(blocks), progress), len(blocks), axis=1)
    means = [mean + solution.mean for mean in means]
    train_means = [mean + solution.mean for mean in train_means]
    found = Predictions(means[0], train_means[0], latent, variance)
    pairs = list(zip(means, train_means, strict=True))
    at = dict(zip((math.inf, *finite), pairs, strict=True))
    found.at_time.update((moment, at[moment]) for moment in job.times)
    return found


def _decided(
    job: PredictJob,
    solution: StoredSolution,
    intercept: Array,
    cross: GramKernel,
    progress: ProgressCallback | None,
) -> Predictions:
    """What machines decide."""
    for name, asked in (("times", job.times), ("variances", job.variance), ("--gram", job.gram)):
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
) -> Array:
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
    prior = own_diagonal(
        cross, "nngp", test_gram=job.test_gram, x_test=job.x_test, memory=memory // 8
    )
    return prior if cross.scales is None else prior * cross.scales.down**2


def _training_matrix(job: PredictJob, solution: StoredSolution, memory: int) -> GramKernel:
    header = solution.header
    path = Path(header.gram) if job.gram is None else job.gram
    if not path.exists():
        raise WidegramError(
            f"{path}: the training matrix of the solution is not there; pass --gram FILE"
        )
    stream = max(memory // 8, 1 << 20)
    train = open_train(
        path, header.kernel, header.end, memory=stream, unit=header.unit_diagonal
    )
    for name in ("network", "x1"):
        if train.fingerprints[name] != solution.columns[name]:
            train.file.close()
            raise WidegramError(
                f"{path}: is not the training matrix of {solution.path} (its {name} differs)"
            )
    return train


def _of_centers(solution: StoredSolution) -> dict[str, str]:
    found = solution.header.centers_fingerprint
    return {"centers_fingerprint": found} if found else {}


def _write(
    path: Path,
    found: Predictions,
    solution: StoredSolution,
    cross: GramKernel,
    overwrite: bool,
) -> None:
    datasets = {"mean": found.mean, "train/mean": found.train_mean}
    if found.decision is not None:
        datasets = {"decision": found.decision, "votes": found.mean}
        datasets["pairs"] = pairs(found.mean.shape[1])
    if found.variance is not None and found.latent is not None:
        datasets["variance"], datasets["variance_latent"] = found.variance, found.latent
    if found.probability is not None:
        datasets["probability"] = found.probability
    if solution.classes is not None:
        datasets["classes"] = solution.classes
        datasets["predicted"] = solution.classes[found.mean.argmax(axis=1)]
    for moment, (mean, train_mean) in found.at_time.items():
        datasets[f"time/{time_name(moment)}/mean"] = mean
        datasets[f"time/{time_name(moment)}/train/mean"] = train_mean
    attributes = {
        "format": FORMAT,
        "format_version": 1,
        "program_version": widegram.__version__,
        "kernel": solution.header.kernel,
        "task": solution.header.task,
        "depth": solution.header.depth,
        **({"head": solution.header.head} if solution.header.head else {}),
        "diag_reg": solution.header.diag_reg,
        "shift": solution.header.shift,
        "network_fingerprint": solution.header.network_fingerprint,
        "x1_fingerprint": solution.header.x1_fingerprint,
        "y_fingerprint": solution.header.y_fingerprint,
        **_of_centers(solution),
        "test_fingerprint": cross.fingerprints["x1"],
    }
    if found.variance is not None:
        attributes["variance_of"] = KINDS[solution.header.kernel]
    write_sealed(path, datasets, attributes, overwrite=overwrite)
