"""What predictions are worth: accuracy, confusion, calibration."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from widegram.data.chosen_rows import ChosenRows
from widegram.data.formats import open_table
from widegram.errors import WidegramError
from widegram.linalg.targets import Targets, accuracy, load_targets
from widegram.predict.calibration import expected_calibration_error, log_loss, reliability
from widegram.report.belonging import Run

Array = NDArray[Any]
_LEVELS = (0.5, 0.8, 0.9, 0.95)  # central intervals whose coverage is counted


def judged(run: Run, labels: str | None) -> dict[str, Any] | None:
    """Figures of the training points and, with their ``labels``, of the test points.

    None without a prediction, for which labels are refused.
    """
    if run.prediction is None or run.solution is None:
        if labels is not None:
            raise WidegramError(f"{labels}: labels serve a prediction, and no file is one")
        return None
    file, solution = run.prediction, run.solution
    classes = solution.array("classes") if "classes" in solution else None
    votes = "votes" in file  # of support vector machines
    mean = file.array("votes" if votes else "mean")
    fitted = solution.array("fitted") if votes else file.array("train/mean")
    given = solution.array("targets") + solution.array("target_mean")
    found: dict[str, Any] = {
        "n_test": len(mean),
        "outputs": mean.shape[1],
        "classes": None if classes is None else [_name(one) for one in classes],
        "variance_of": file.attributes.get("variance_of"),
        "train": _figures(fitted, given, classes, votes),
        "test": None,
    }
    if labels is None:
        return found
    targets = _targets(run, labels, classes, len(mean))
    found["test"] = _figures(mean, targets.values, classes, votes)
    if "probability" in file:
        found["test"]["calibration"] = _calibration(file.array("probability"), targets)
    elif "variance" in file and classes is None:
        found["test"]["coverage"] = _coverage(mean, file.array("variance"), targets.values)
    return found


def _targets(run: Run, labels: str, classes: Array | None, n: int) -> Targets:
    """The labels of the rows that were predicted, in their order."""
    assert run.solution is not None
    assert run.prediction is not None
    values = run.solution.attributes
    total, rows = (*open_table(labels).shape, 0)[0], None
    if "rows" not in run.prediction and total != n:
        raise WidegramError(f"{labels}: holds {total} labels, {run.prediction.path} has {n} rows")
    if "rows" in run.prediction:
        rows = ChosenRows(run.prediction.array("rows"), total)
        if rows.fingerprint != run.prediction.attributes["test_rows_fingerprint"]:
            raise WidegramError(
                f"{labels}: holds {total} labels; give those of all rows of the cross file, of "
                f"which {run.prediction.path} has {n}"
            )
    found = load_targets(
        labels,
        total,
        classes=classes,
        what="predicted rows",
        task=values["task"],
        shift=None if classes is None else values["target_shift"],
        rows=rows,
    )
    return found if rows is None else replace(found, values=rows.as_given(found.values))


def _figures(mean: Array, wanted: Array, classes: Array | None, votes: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "accuracy": None if classes is None else accuracy(mean, wanted),
        "mse": None if votes else float(np.mean((mean - wanted) ** 2)),
    }
    if classes is not None:
        table = np.zeros((classes.size, classes.size), int)
        np.add.at(table, (wanted.argmax(axis=1), mean.argmax(axis=1)), 1)
        found["confusion"] = table.tolist()
    return found


def _calibration(probability: Array, targets: Targets) -> dict[str, Any]:
    labels = targets.values.argmax(axis=1)
    loss = log_loss(probability, labels)
    rows = reliability(probability, labels)
    return {
        "log_loss": loss if math.isfinite(loss) else None,
        "ece": expected_calibration_error(probability, labels),
        "bins": [
            {"confidence": confidence, "accuracy": right, "points": points}
            for confidence, right, points in rows
        ],
    }


def _coverage(mean: Array, variance: Array, wanted: Array) -> list[dict[str, float]]:
    """How many targets lie within the central interval of each level."""
    spread = np.sqrt(variance.reshape(len(mean), -1))
    off = np.abs(wanted - mean)
    return [
        {"level": level, "covered": float(np.mean(off <= ndtri(0.5 + level / 2) * spread))}
        for level in _LEVELS
    ]


def _name(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
