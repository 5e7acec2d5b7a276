"""The file of predictions: their datasets, and attributes that say what they come from."""

from __future__ import annotations

from pathlib import Path

from widegram import __version__
from widegram.durable.sealed import write_sealed
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.solutionfile import StoredSolution
from widegram.linalg.svm.votes import pairs
from widegram.predict.merit import Predictions, time_name
from widegram.predict.variance import KINDS

FORMAT = "widegram-prediction"


def write_predictions(
    path: Path,
    found: Predictions,
    solution: StoredSolution,
    cross: GramKernel,
    overwrite: bool,
) -> None:
    """Write the file ``path``: ``found``, and what it comes from."""
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
    for name, rows in (("rows", cross.part.rows), ("train/rows", solution.rows)):
        if rows is not None:
            datasets[name] = rows.numbers
    attributes = {
        "format": FORMAT,
        "format_version": 1,
        "program_version": __version__,
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
        **_of_rows(solution, cross),
        "test_fingerprint": cross.fingerprints["x1"],
    }
    if found.variance is not None:
        attributes["variance_of"] = KINDS[solution.header.kernel]
    if found.undecided is not None:
        attributes["undecided"] = found.undecided
    write_sealed(path, datasets, attributes, overwrite=overwrite)


def _of_centers(solution: StoredSolution) -> dict[str, str]:
    found = solution.header.centers_fingerprint
    return {"centers_fingerprint": found} if found else {}


def _of_rows(solution: StoredSolution, cross: GramKernel) -> dict[str, str]:
    """Which rows of the training and of the test data these are, where they are some."""
    named = {"rows_fingerprint": solution.rows, "test_rows_fingerprint": cross.part.rows}
    return {name: rows.fingerprint for name, rows in named.items() if rows is not None}
