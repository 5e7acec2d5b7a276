"""`widegram predict` as a library call: streamed predictions from a solution and a cross file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
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
from widegram.linalg.targets import Targets, accuracy, load_targets
from widegram.linalg.units import checked_later
from widegram.machine.progress import ProgressCallback
from widegram.predict.center_variance import variances_by_centers
from widegram.predict.diagonal import is_held, own_diagonal
from widegram.predict.flow import flow_coefficients
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
    x_test: str | None = None
    depth: int | None = None
    head: str | None = None
    limit: int | None = None
    method: str = "auto"
    memory: str | int | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """Figures of merit; None without labels.

    * ``n_test``, ``k``: test points and outputs
    * ``kernel``, ``task``: of the solution
    * ``accuracy``: also None for targets that name no class
    * ``mse``: the mean over points and outputs
    * ``nll``: the mean negative log likelihood of an output, which needs the variance
    * ``train_accuracy``, ``train_mse``: the same of the training points
    * ``times``: a dict (t, accuracy, mse, train_accuracy, train_mse) for each time; t is 'inf' for
      infinite time
    * ``mean_variance``: of new targets, noise included; ``mean_variance_latent``: without it;
      ``variance_of``: of what
    * ``solution_status``: not 'ok' where the solver stopped early
    * ``out``: the file that was written, None without
    """

    n_test: int
    k: int
    kernel: str
    accuracy: float | None
    mse: float | None
    nll: float | None
    train_accuracy: float | None
    train_mse: float
    times: tuple[dict[str, Any], ...]
    mean_variance: float | None
    mean_variance_latent: float | None
    variance_of: str | None
    task: str
    solution_status: str
    out: str | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For --json: ``file`` is what was written, None without."""
        found = {**self.__dict__, "times": list(self.times)}
        return {"file": found.pop("out"), **found}


@dataclass
class _Predictions:
    mean: Array
    train_mean: Array
    latent: Array | None = None
    variance: Array | None = None
    at_time: dict[float, tuple[Array, Array]] = field(default_factory=dict)


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
        if job.out is not None:
            _write(job.out, found, solution, cross, job.overwrite)
    return _judged(job, found, solution, targets, time.perf_counter() - started)


@checked_later
def negative_log_likelihood(mean: Array, variance: Array, y: Array) -> float:
    """Mean over points and outputs of -log N(y | mean, variance); variance (n,) or (n, k).

    Infinite where a variance is zero or too small beside the error.
    """
    spread = variance.reshape(len(mean), -1)
    if np.min(spread) <= 0:
        return math.inf
    return float(np.mean(0.5 * (np.log(2.0 * np.pi * spread) + (y - mean) ** 2 / spread)))


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
    if targets.values.shape[1] != solution.alpha.shape[1]:
        raise WidegramError(
            f"{job.y}: has {targets.values.shape[1]} outputs, the solution, a {task}, "
            f"{solution.alpha.shape[1]}"
        )
    return targets


def _predictions(
    job: PredictJob,
    solution: StoredSolution,
    cross: GramKernel,
    memory: int,
    progress: ProgressCallback | None,
) -> _Predictions:
    """Means of all times in one pass over the cross file."""
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
    found = _Predictions(means[0], train_means[0], latent, variance)
    pairs = list(zip(means, train_means, strict=True))
    at = dict(zip((math.inf, *finite), pairs, strict=True))
    found.at_time.update((moment, at[moment]) for moment in job.times)
    return found


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


def _judged(
    job: PredictJob,
    found: _Predictions,
    solution: StoredSolution,
    targets: Targets | None,
    seconds: float,
) -> PredictResult:
    nll = None
    if targets is not None and found.variance is not None:
        nll = negative_log_likelihood(found.mean, found.variance, targets.values)
    rows, given = [], solution.targets + solution.mean
    for moment, (mean, train_mean) in found.at_time.items():
        score, error = _score(mean, targets)
        train_score, train_error = _against(train_mean, given)
        rows.append(
            {
                "t": moment if math.isfinite(moment) else time_name(moment),
                "accuracy": score,
                "mse": error,
                "train_accuracy": train_score,
                "train_mse": train_error,
            }
        )
    score, error = _score(found.mean, targets)
    train_score, train_error = _against(found.train_mean, given)
    return PredictResult(
        n_test=found.mean.shape[0],
        k=found.mean.shape[1],
        kernel=solution.header.kernel,
        accuracy=score,
        mse=error,
        nll=nll,
        train_accuracy=train_score,
        train_mse=train_error,
        times=tuple(rows),
        mean_variance=None if found.variance is None else float(found.variance.mean()),
        mean_variance_latent=None if found.latent is None else float(found.latent.mean()),
        variance_of=None if found.variance is None else KINDS[solution.header.kernel],
        task=solution.header.task,
        solution_status=solution.header.status,
        out=None if job.out is None else str(job.out),
        seconds=seconds,
    )


def _of_centers(solution: StoredSolution) -> dict[str, str]:
    found = solution.header.centers_fingerprint
    return {"centers_fingerprint": found} if found else {}


def _score(mean: Array, targets: Targets | None) -> tuple[float | None, float | None]:
    return (None, None) if targets is None else _against(mean, targets.values)


def _against(mean: Array, values: Array) -> tuple[float | None, float]:
    return accuracy(mean, values), float(np.mean((mean - values) ** 2))


def time_name(moment: float) -> str:
    """The group of a time: '512', '0.5', 'inf'."""
    whole = math.isfinite(moment) and moment == int(moment)
    return str(int(moment)) if whole else repr(float(moment))


def _write(
    path: Path,
    found: _Predictions,
    solution: StoredSolution,
    cross: GramKernel,
    overwrite: bool,
) -> None:
    datasets = {"mean": found.mean, "train/mean": found.train_mean}
    if found.variance is not None and found.latent is not None:
        datasets["variance"], datasets["variance_latent"] = found.variance, found.latent
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
