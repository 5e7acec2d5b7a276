"""The file that `eig --out` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import widegram
from widegram.durable.sealed import write_sealed
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.summary import Spectrum

FORMAT = "widegram-spectrum"


def write_spectrum(path: Path, found: Spectrum, train: GramKernel, *, overwrite: bool) -> None:
    """Write a spectrum; its summary and fingerprints are attributes.

    * `/eigenvalues`: ascending; `/resolved`: whether each means anything
    * `/eigenvectors` (n, k) and `/residuals`, where they were computed
    * `/rows`: which rows of the matrix it is of, where they are some
    * `/density/{edges,count,least,most,error}`, where it was
    """
    values, rows = found.known, train.part.rows
    datasets = {"eigenvalues": values, "resolved": np.abs(values) > found.resolution}
    if found.pairs.vectors is not None and (found.requested or found.pairs.residuals is None):
        vectors = found.pairs.vectors
        datasets["eigenvectors"] = vectors if rows is None else rows.as_given(vectors)
    if found.pairs.residuals is not None and found.requested:
        datasets["residuals"] = found.pairs.residuals
    if rows is not None:
        datasets["rows"] = rows.numbers
    if found.density is not None:
        for name, column in found.bins.as_dict().items():
            datasets[f"density/{name}"] = np.array(column)
    summary = found.as_dict().items()
    attributes = {n: value for n, value in summary if isinstance(value, (bool, int, float, str))}
    attributes |= {
        "format": FORMAT,
        "format_version": 1,
        "program_version": widegram.__version__,
        "kernel": train.kernel,
        "depth": -1 if train.end.depth is None else train.end.depth,
        **({} if train.end.head is None else {"head": train.end.head}),
        "network_fingerprint": train.fingerprints["network"],
        "x1_fingerprint": train.fingerprints["x1"],
        **({} if rows is None else {"rows_fingerprint": rows.fingerprint, "rows_of": rows.of}),
    }
    write_sealed(path, datasets, attributes, overwrite=overwrite)
