"""Predictions as a table of comma-separated values, one line a test point.

Columns: ``index``, the row of the cross file; ``id``, where ids are given. Of a classification
``predicted``, ``label`` where labels are given, ``mean_<class>`` (of method 'svm'
``votes_<class>``), and with variance
``probability_<class>``; of a regression ``mean`` and ``label``, with several outputs ``mean_<j>``
and ``label_<j>``. With variance ``variance_latent``, ``std_latent``, ``variance`` and ``std``, one
for each output where these differ. Numbers have all their digits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.formats import open_table
from widegram.durable import new_file
from widegram.errors import WidegramError
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.solutionfile import StoredSolution
from widegram.linalg.targets import Targets
from widegram.machine import interrupts
from widegram.predict.merit import Predictions

Array = NDArray[Any]
_ROWS = 4096
_BUFFER = 1 << 20


def read_ids(spec: str, cross: GramKernel) -> Array:
    """The names of the test points, whole numbers or text (n_test,), ascending as they are read.

    Raises WidegramError where there are more or fewer than the cross file has rows, or they are
    neither.
    """
    table = open_table(spec)
    n, rows = cross.file.n1, cross.part.rows
    if table.shape != (n,):
        raise WidegramError(
            f"{spec}: has shape {table.shape}; an id is needed for each of the {n} rows of "
            f"{cross.path}"
        )
    values = np.asarray(table.rows(0, n))
    if values.dtype.kind in "SO":
        texts = [one.decode(errors="replace") if isinstance(one, bytes) else one for one in values]
        values = np.array(texts, dtype=object)
        if not all(isinstance(one, str) for one in texts):
            values = np.empty(0)
    if values.dtype.kind not in "iuUO":
        raise WidegramError(f"{spec}: holds {table.dtype}; ids are whole numbers or text")
    return values if rows is None else values[rows.ascending]


def write_csv(
    path: Path,
    found: Predictions,
    solution: StoredSolution,
    cross: GramKernel,
    targets: Targets | None,
    ids: Array | None,
    *,
    overwrite: bool,
) -> None:
    """Write the table; whole or not at all.

    ``found`` is in the order in which rows were given, ``targets`` and ``ids`` are ascending.
    """
    rows = cross.part.rows
    columns: list[tuple[str, Array]] = [
        ("index", np.arange(len(found.mean)) if rows is None else rows.numbers)
    ]
    if ids is not None:
        columns.append(("id", ids if rows is None else rows.as_given(ids)))
    labels = None
    if targets is not None:
        labels = targets.values if rows is None else rows.as_given(targets.values)
    if solution.classes is None:
        columns += _split("mean", found.mean) + _split("label", labels)
    else:
        names = [str(one) for one in solution.classes.tolist()]
        columns.append(("predicted", solution.classes[found.mean.argmax(axis=1)]))
        if labels is not None:
            columns.append(("label", solution.classes[labels.argmax(axis=1)]))
        columns += _named("mean" if found.decision is None else "votes", found.mean, names)
        if found.probability is not None:
            columns += _named("probability", found.probability, names)
    for ending, values in (("_latent", found.latent), ("", found.variance)):
        if values is not None:
            columns += _split(f"variance{ending}", values)
            columns += _split(f"std{ending}", np.sqrt(values))
    _write(path, columns, overwrite)


def _split(name: str, values: Array | None) -> list[tuple[str, Array]]:
    """A column, or one for each output."""
    if values is None:
        return []
    if values.ndim == 1 or values.shape[1] == 1:
        return [(name, values.reshape(-1))]
    return _named(name, values, [str(j) for j in range(values.shape[1])])


def _named(name: str, values: Array, names: Sequence[str]) -> list[tuple[str, Array]]:
    return [(f"{name}_{one}", values[:, j]) for j, one in enumerate(names)]


def _write(path: Path, columns: list[tuple[str, Array]], overwrite: bool) -> None:
    with new_file(path, overwrite=overwrite) as part:
        text = io.TextIOWrapper(
            io.BufferedWriter(part.stream(), _BUFFER), encoding="utf-8", newline=""
        )
        table = csv.writer(text, lineterminator="\n")
        table.writerow(name for name, _ in columns)
        for lo in range(0, len(columns[0][1]), _ROWS):
            interrupts.check()
            parts = [values[lo : lo + _ROWS].tolist() for _, values in columns]
            table.writerows(zip(*parts, strict=True))
        text.flush()
