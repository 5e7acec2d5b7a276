"""The file that `solve` writes and `predict` reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import widegram
from widegram.durable.contents import typed
from widegram.durable.sealed import SealedFile, write_sealed
from widegram.errors import WidegramError
from widegram.tiling import End

Array = NDArray[Any]
FORMAT = "widegram-solution"
_KINDS = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True, kw_only=True)
class SolutionHeader:
    """Where a solution comes from.

    * ``gram``, ``gram_dtype``: the absolute path of the Gram file, and its dtype
    * ``kernel``, ``depth``, ``head``: of it; depth -1 without a depth sweep, head '' without
      Readouts (and then not in the file)
    * ``diag_reg``, ``diag_reg_absolute``: the regulariser as given; ``shift``: what it added to
      the diagonal
    * ``method``, ``status``, ``iterations``, ``residual``: how it was solved
    * ``network``: JSON; the fingerprints: of it, of the inputs and of the labels
    * ``task``: 'classification' or 'regression'
    * ``unit_diagonal``: whether the kernel was scaled to a unit diagonal
    * ``target_shift``: what one-hot targets are less; NaN of a regression
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
    task: str
    unit_diagonal: bool
    target_shift: float
    head: str = ""

    @property
    def end(self) -> End:
        """Where the kernel was read out."""
        return End(None if self.depth < 0 else self.depth, self.head or None)


@dataclass(frozen=True, kw_only=True)
class StoredSolution:
    """A solution file in memory.

    * ``path``, ``header``
    * ``alpha``: the solution, (n, k)
    * ``targets``: what was solved for, (n, k): the targets given, less ``mean`` (k,)
    * ``classes``: (k,), None of a regression
    * ``scale``: the units of the prior, (k,): variances times its square are those of the targets
    """

    path: Path
    header: SolutionHeader
    alpha: Array
    targets: Array
    classes: Array | None
    mean: Array
    scale: Array

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
    tables: dict[str, Array],
    overwrite: bool = False,
) -> None:
    """Write `/alpha` (n, k), `/targets`, `/classes` and ``tables``; whole or not at all.

    ``tables`` has `/target_mean` and `/target_scale` (k,), see :class:`StoredSolution`.
    """
    datasets = {"alpha": alpha, "targets": targets, **tables}
    if classes is not None:
        datasets["classes"] = classes
    values = {entry.name: getattr(header, entry.name) for entry in fields(header)}
    if not header.head:
        del values["head"]
    versions = {"format_version": 1, "program_version": widegram.__version__}
    write_sealed(path, datasets, {"format": FORMAT, **versions, **values}, overwrite=overwrite)


def read_solution(path: str | Path) -> StoredSolution:
    """Read a solution file; WidegramError where it is missing, foreign or damaged."""
    what = "a solution; `widegram solve` writes them"
    with SealedFile(path, FORMAT, what, "solve again") as file:
        try:
            values = {"head": "", **file.attributes}
            header = SolutionHeader(
                **{
                    e.name: typed(values[e.name], _KINDS[str(e.type)])
                    for e in fields(SolutionHeader)
                }
            )
            json.loads(header.network)
            alpha, targets = file.array("alpha"), file.array("targets")
            classes = file.array("classes") if "classes" in file else None
            mean, scale = file.array("target_mean"), file.array("target_scale")
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, WidegramError):
                raise
            raise WidegramError(f"{path}: is damaged ({error}); solve again") from error
    if alpha.shape != targets.shape or not np.isfinite(alpha).all():
        raise WidegramError(f"{path}: its alpha is damaged; solve again")
    if mean.shape != scale.shape or mean.shape != targets.shape[1:]:
        raise WidegramError(f"{path}: its target_mean is damaged; solve again")
    return StoredSolution(
        path=Path(path),
        header=header,
        alpha=alpha,
        targets=targets,
        classes=classes,
        mean=mean,
        scale=scale,
    )
