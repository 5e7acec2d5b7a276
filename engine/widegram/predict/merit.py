"""What predictions are worth: figures of merit against labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.linalg.solutionfile import StoredSolution
from widegram.linalg.targets import Targets, accuracy
from widegram.linalg.units import checked_later
from widegram.predict.calibration import expected_calibration_error, log_loss
from widegram.predict.variance import KINDS

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """Figures of merit; None without labels.

    * ``n_test``, ``k``: test points and outputs
    * ``kernel``, ``task``: of the solution
    * ``accuracy``: also None for targets that name no class
    * ``mse``: the mean over points and outputs
    * ``nll``: the mean negative log likelihood of an output, which needs the variance
    * ``log_loss``, ``ece``: of a classification with variance, the mean negative log likelihood of
      the true class, and the expected calibration error (:mod:`widegram.predict.calibration`)
    * ``train_accuracy``, ``train_mse``: the same of the training points
    * ``times``: a dict (t, accuracy, mse, train_accuracy, train_mse) for each time; t is 'inf' for
      infinite time
    * ``mean_variance``: of new targets, noise included; ``mean_variance_latent``: without it;
      ``variance_of``: of what
    * ``undecided``: how many variances without noise are so small that rounding decides them
      (:mod:`widegram.predict.undecided`); None of a solution by centers, where nothing says
    * ``solution_status``: not 'ok' where the solver stopped early
    * ``trained_on``: how many of the test points are rows that the solution was trained on
    * ``out``, ``csv``: the files that were written, None without
    """

    n_test: int
    k: int
    kernel: str
    accuracy: float | None
    mse: float | None
    nll: float | None
    log_loss: float | None
    ece: float | None
    train_accuracy: float | None
    train_mse: float | None
    times: tuple[dict[str, Any], ...]
    mean_variance: float | None
    mean_variance_latent: float | None
    variance_of: str | None
    task: str
    solution_status: str
    trained_on: int = 0
    undecided: int | None = None
    out: str | None = None
    csv: str | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For --json: ``file`` is what was written, None without."""
        found = {**self.__dict__, "times": list(self.times)}
        return {"file": found.pop("out"), **found}


@dataclass
class Predictions:
    """What a solution says of test points, (n_test, k), and of its own training points.

    * ``mean``, ``train_mean``; of machines the votes of every class
    * ``decision``: values of machines for every pair of classes, (n_test, p), None of others
    * ``latent``, ``variance``: without and with noise, None where they were not asked for
    * ``undecided``: how many of ``latent`` rounding decides, None where nothing says
    * ``probability``: of every class, of a classification with variance
    * ``at_time``: (mean, train_mean) at finite times and infinity
    """

    mean: Array
    train_mean: Array
    latent: Array | None = None
    variance: Array | None = None
    undecided: int | None = None
    probability: Array | None = None
    decision: Array | None = None
    at_time: dict[float, tuple[Array, Array]] = field(default_factory=dict)


@checked_later
def negative_log_likelihood(mean: Array, variance: Array, y: Array) -> float:
    """Mean over points and outputs of -log N(y | mean, variance); variance (n,) or (n, k).

    Infinite where a variance is zero or too small beside the error.
    """
    spread = variance.reshape(len(mean), -1)
    if np.min(spread) <= 0:
        return math.inf
    return float(np.mean(0.5 * (np.log(2.0 * np.pi * spread) + (y - mean) ** 2 / spread)))


def judged(
    found: Predictions,
    solution: StoredSolution,
    targets: Targets | None,
) -> PredictResult:
    """The figures of some predictions against ``targets`` and the solution's own."""
    nll = None
    if targets is not None and found.variance is not None:
        nll = negative_log_likelihood(found.mean, found.variance, targets.values)
    sure = calibration = None
    if targets is not None and found.probability is not None:
        labels = targets.values.argmax(axis=1)
        sure = log_loss(found.probability, labels)
        calibration = expected_calibration_error(found.probability, labels)
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
    votes = found.decision is not None
    return PredictResult(
        n_test=found.mean.shape[0],
        k=found.mean.shape[1],
        kernel=solution.header.kernel,
        accuracy=score,
        mse=None if votes else error,
        nll=nll,
        log_loss=sure,
        ece=calibration,
        train_accuracy=train_score,
        train_mse=None if votes else train_error,
        times=tuple(rows),
        mean_variance=None if found.variance is None else float(found.variance.mean()),
        mean_variance_latent=None if found.latent is None else float(found.latent.mean()),
        variance_of=None if found.variance is None else KINDS[solution.header.kernel],
        task=solution.header.task,
        solution_status=solution.header.status,
        undecided=found.undecided,
    )


def _score(mean: Array, targets: Targets | None) -> tuple[float | None, float | None]:
    return (None, None) if targets is None else _against(mean, targets.values)


def _against(mean: Array, values: Array) -> tuple[float | None, float]:
    return accuracy(mean, values), float(np.mean((mean - values) ** 2))


def time_name(moment: float) -> str:
    """The group of a time: '512', '0.5', 'inf'."""
    whole = math.isfinite(moment) and moment == int(moment)
    return str(int(moment)) if whole else repr(float(moment))
