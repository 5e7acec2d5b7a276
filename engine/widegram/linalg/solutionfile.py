"""The file that `solve` writes and `predict` reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import widegram
from widegram.errors import WidegramError
from widegram.files import new_file
from widegram.store.opening import open_file

Array = NDArray[Any]
FORMAT = "widegram-solution"


@dataclass(frozen=True)
class SolutionHeader:
    """Where a solution comes from. ``shift`` is what was added to the diagonal, absolute.

    ``gram`` is the absolute path of the Gram file; ``depth`` is -1 without a depth sweep.
    """

    kernel: str
    depth: int
    diag_reg: float
    diag_reg_absolute: bool
    shift: float
    method: str
    status: str
    iterations: int
    residual: float
    gram: str
    gram_dtype: str
    network: str
    network_fingerprint: str
    x1_fingerprint: str
    y_fingerprint: str


@dataclass(frozen=True)
class StoredSolution:
    """A solution file in memory: alpha and targets (n, k), classes (k,) or None."""

    path: Path
    header: SolutionHeader
    alpha: Array
    targets: Array
    classes: Array | None

    @property
    def train(self) -> dict[str, str]:
        """Fingerprints of the training side, as a Gram file names them."""
        return {"network": self.header.network_fingerprint, "x1": self.header.x1_fingerprint}


def write_solution(
    path: Path,
    header: SolutionHeader,
    alpha: Array,
    targets: Array,
    classes: Array | None,
    *,
    tables: dict[str, Array] | None = None,
    overwrite: bool = False,
) -> None:
    """Write `/alpha` (n, k), `/targets`, `/classes` and ``tables``; whole or not at all."""
    with new_file(path, overwrite=overwrite) as part, h5py.File(part, "w", locking=False) as file:
        file["alpha"] = alpha
        file["targets"] = targets
        if classes is not None:
            file["classes"] = classes
        for name, table in (tables or {}).items():
            file[name] = table
        file.attrs.update(format=FORMAT, format_version=1, program_version=widegram.__version__)
        file.attrs.update({entry.name: getattr(header, entry.name) for entry in fields(header)})


def read_solution(path: str | Path) -> StoredSolution:
    """Read a solution file; WidegramError where it is missing, foreign or damaged."""
    with open_file(Path(path)) as file:
        if file.attrs.get("format") != FORMAT:
            raise WidegramError(f"{path}: is not a solution; `widegram solve` writes them")
        try:
            values = {
                entry.name: _plain(file.attrs[entry.name]) for entry in fields(SolutionHeader)
            }
            header = SolutionHeader(**values)
            json.loads(header.network)
            alpha, targets = file["alpha"][:], file["targets"][:]
            classes = file["classes"][:] if "classes" in file else None
        except (KeyError, OSError, ValueError) as error:
            raise WidegramError(f"{path}: is damaged ({error}); solve again") from error
    if alpha.shape != targets.shape or not np.isfinite(alpha).all():
        raise WidegramError(f"{path}: its alpha is damaged; solve again")
    return StoredSolution(Path(path), header, alpha, targets, classes)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
