"""Figures of one kernel on the training data, for every regulariser: what criteria go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.evidence import resolved_evidence
from widegram.linalg.loo import PathPoint, regulariser_path
from widegram.linalg.operator import GramOperator, as_operator
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solving import absolute_regulariser
from widegram.linalg.targets import Targets, accuracy

Array = NDArray[Any]
FIGURES = (
    "loo_mse", "loo_accuracy", "log_density", "log_evidence", "holdout_mse", "holdout_accuracy",
)  # fmt: skip
"""Columns of a table; NaN where a figure does not exist or was not asked for."""


class Criterion(NamedTuple):
    """A figure, and the ``sign`` that makes it a loss: 1 where lower is better, else -1."""

    figure: str
    sign: float


CRITERIA_FIGURES = {
    "loo": Criterion("loo_mse", 1.0),
    "log-density": Criterion("log_density", -1.0),
    "evidence": Criterion("log_evidence", -1.0),
    "holdout": Criterion("holdout_mse", 1.0),
}


class Regularisers(NamedTuple):
    """Values of a path, times trace / n unless ``absolute``."""

    values: tuple[float, ...]
    absolute: bool

    def shifts(self, operator: GramOperator) -> list[float]:
        """What each adds to the diagonal."""
        return [absolute_regulariser(operator, value, self.absolute) for value in self.values]


def judge(
    operator: GramOperator,
    targets: Targets,
    regularisers: Regularisers,
    held: Array | None,
    resources: Resources,
) -> dict[str, Array]:
    """Every figure of :data:`FIGURES` for every regulariser, each (r,) float64.

    ``held``: the rows that a hold-out keeps from training, None for no hold-out, which needs the
    matrix in memory. Regularisers with which the matrix is not definite have NaN, and a
    figure that rounding decides is NaN.
    """
    figures = {name: np.full(len(regularisers.values), np.nan) for name in FIGURES}
    shifts = regularisers.shifts(operator)
    points = regulariser_path(
        operator, targets.values, shifts, SolveOptions(), resources, evidence=True
    )
    for at, point in enumerate(points):
        if point.resolved:
            for name, value in _left_out(point, targets).items():
                figures[name][at] = np.nan if value is None else value
    if held is not None:
        for at, (mse, share) in enumerate(
            _held_out(operator, targets, regularisers, held, resources)
        ):
            figures["holdout_mse"][at] = mse
            figures["holdout_accuracy"][at] = np.nan if share is None else share
    return figures


def held_rows(targets: Targets, share: float, seed: int) -> Array:
    """Rows to hold out, ascending: ``share`` of them, of every class the same share.

    Raises WidegramError where that leaves nothing to train on or to judge by.
    """
    generator = np.random.default_rng(seed)
    groups = [np.arange(targets.n)]
    if targets.classes is not None:
        labels = targets.values.argmax(axis=1)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    taken = [generator.permutation(group)[: round(share * group.size)] for group in groups]
    rows = np.sort(np.concatenate(taken))
    if not 0 < rows.size < targets.n:
        raise WidegramError(
            f"holding out {share:g} of {targets.n} rows leaves {targets.n - rows.size} to train "
            f"on and {rows.size} to judge by; give more rows, or another share"
        )
    return rows


def _left_out(point: PathPoint, targets: Targets) -> dict[str, float | None]:
    squares = np.einsum("ij,ij->j", targets.values, point.alpha)
    assert point.rounding is not None
    return {
        "loo_mse": point.mse,
        "loo_accuracy": point.accuracy,
        "log_density": point.log_density,
        "log_evidence": resolved_evidence(
            squares, point.logdet, targets.n, point.rounding
        ),
    }


def _held_out(
    operator: GramOperator,
    targets: Targets,
    regularisers: Regularisers,
    held: Array,
    resources: Resources,
) -> list[tuple[float, float | None]]:
    """(mean squared error, accuracy) of the rows held out, for every regulariser."""
    train = np.setdiff1d(np.arange(targets.n), held)
    whole = operator.load(np.float64)
    inner = as_operator(whole[np.ix_(train, train)], operator.memory, operator.name)
    across = whole[np.ix_(held, train)]
    points = regulariser_path(
        inner,
        targets.values[train],
        regularisers.shifts(inner),
        SolveOptions(),
        replace(resources, key=f"{resources.key}/held-out"),
        loo=False,
    )
    wanted = targets.values[held]
    found: list[tuple[float, float | None]] = []
    for point in points:
        mean = across @ point.alpha
        good = point.resolved
        mse = float(np.mean((mean - wanted) ** 2)) if good else np.nan
        found.append((mse, accuracy(mean, wanted) if good else None))
    return found



def best_of(figures: Sequence[dict[str, Array]], criterion: str) -> tuple[int, int] | None:
    """(candidate, regulariser) with the lowest loss; None where no figure is a number."""
    figure, sign = CRITERIA_FIGURES[criterion]
    best: tuple[float, int, int] | None = None
    for n, columns in enumerate(figures):
        for r, value in enumerate(columns[figure]):
            if np.isfinite(value) and (best is None or sign * value < best[0]):
                best = (sign * float(value), n, r)
    return None if best is None else best[1:]
