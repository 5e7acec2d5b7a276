"""The file that `eig --out` writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

import widegram
from widegram.files import new_file
from widegram.linalg.gramsource import GramKernel
from widegram.linalg.spectrum import Spectrum

FORMAT = "widegram-spectrum"


def write_spectrum(path: Path, found: Spectrum, train: GramKernel, *, overwrite: bool) -> None:
    """Write `/eigenvalues` ascending, `/resolved` (bool), `/eigenvectors` (n, k) where computed,
    `/residuals`, `/density/{edges,count,error}`; the summary and fingerprints as attributes."""
    with new_file(path, overwrite=overwrite) as part, h5py.File(part, "w", locking=False) as file:
        values = found.known
        file["eigenvalues"] = values
        file["resolved"] = np.abs(values) > found.resolution
        if found.pairs.vectors is not None and (found.requested or found.pairs.residuals is None):
            file["eigenvectors"] = found.pairs.vectors
        if found.pairs.residuals is not None and found.requested:
            file["residuals"] = found.pairs.residuals
        if found.density is not None:
            edges = found.density.edges(found.floor, found.lambda_max)
            file["density/edges"] = edges
            file["density/count"], file["density/error"] = found.density.counts(edges)
        for name, value in found.as_dict().items():
            if isinstance(value, (bool, int, float, str)):
                file.attrs[name] = np.float64(value) if type(value) is float else value
        file.attrs.update(
            format=FORMAT,
            format_version=1,
            program_version=widegram.__version__,
            kernel=train.kernel,
            depth=-1 if train.depth is None else train.depth,
            network_fingerprint=train.fingerprints["network"],
            x1_fingerprint=train.fingerprints["x1"],
        )
