"""The file that `solve` writes and `predict` reads."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import widegram
from widegram.data.chosen_rows import ChosenRows
from widegram.durable.contents import typed
from widegram.durable.sealed import SealedFile, write_sealed
from widegram.errors import WidegramError
from widegram.linalg.gramsource import Columns
from widegram.tiling import End
from widegram.validation.choices import SVM

Array = NDArray[Any]
FORMAT = "widegram-solution"
_WHAT = "a solution; `widegram solve` writes them"
_OF_ROWS = ("targets", "fitted")
_KINDS = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True, kw_only=True)
class SolutionHeader:
    """Where a solution comes from.

    * ``gram``, ``gram_dtype``: the absolute path of the Gram file, and its dtype
    * ``kernel``, ``depth``, ``head``: of it; depth -1 without a depth sweep, head '' without
      Readouts
    * ``diag_reg``, ``diag_reg_absolute``: the regulariser as given; ``shift``: what it added to
      the diagonal
    * ``method``, ``status``, ``iterations``, ``residual``: how it was solved
    * ``network``: JSON; the fingerprints: of it, of the inputs and of the labels
    * ``task``: 'classification' or 'regression'
    * ``unit_diagonal``: whether the kernel was scaled to a unit diagonal
    * ``target_shift``: what one-hot targets are less; NaN of a regression
    * ``rows_fingerprint``, ``rows_of``: of a solution for some rows of the training data, which
      ones, and of how many; '' and 0 of all
    * ``centers``, ``centers_fingerprint``, ``jitter``: of a solution by centers the file of their
      own kernel, the fingerprint of their inputs, and what was added to its diagonal

    A value that is the default is not in the file.
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
    centers: str = ""
    centers_fingerprint: str = ""
    jitter: float = 0.0
    rows_fingerprint: str = ""
    rows_of: int = 0

    @property
    def end(self) -> End:
        """Where the kernel was read out."""
        return End(None if self.depth < 0 else self.depth, self.head or None)


_DEFAULTS = {
    entry.name: entry.default for entry in fields(SolutionHeader) if entry.default is not MISSING
}


@dataclass(frozen=True, kw_only=True)
class StoredSolution:
    """A solution file in memory.

    * ``path``, ``header``
    * ``alpha``: the solution, (n, k), or of M centers (M, k)
    * ``targets``: what was solved for, (n, k): the targets given, less ``mean`` (k,)
    * ``classes``: (k,), None of a regression
    * ``scale``: the units of the prior, (k,): variances times its square are those of the targets
    * ``fitted``: what the training points are predicted as, less ``mean``, (n, k)
    * ``intercept``: of the machines of method 'svm', (p,), to whose p pairs of classes ``alpha``
      (n, p) belongs; ``fitted`` are votes then. None of other methods
    * ``rows``: which rows of the training data it is of, in the order of ``targets``; None for all
    """

    path: Path
    header: SolutionHeader
    alpha: Array
    targets: Array
    classes: Array | None
    mean: Array
    scale: Array
    fitted: Array
    intercept: Array | None = None
    rows: ChosenRows | None = None

    @property
    def columns(self) -> Columns:
        """What a cross file has in its columns."""
        header = self.header
        if header.centers_fingerprint:
            centers = header.centers_fingerprint
            return Columns(header.network_fingerprint, centers, what="centers")
        return Columns(header.network_fingerprint, header.x1_fingerprint, self.rows)

    def as_read(self) -> StoredSolution:
        """The solution with its rows in the order in which a Gram file is read."""
        rows = self.rows
        if rows is None:
            return self
        by_centers = bool(self.header.centers_fingerprint)
        return replace(
            self,
            alpha=self.alpha if by_centers else rows.as_read(self.alpha),
            targets=rows.as_read(self.targets),
            fitted=rows.as_read(self.fitted),
        )


def write_solution(
    path: Path,
    header: SolutionHeader,
    alpha: Array,
    targets: Array,
    classes: Array | None,
    *,
    tables: dict[str, Array],
    rows: ChosenRows | None = None,
    overwrite: bool = False,
) -> None:
    """Write `/alpha`, `/targets` (n, k), `/classes` and ``tables``; whole or not at all.

    ``tables`` has `/target_mean` and `/target_scale` (k,), with centers and of machines `/fitted`,
    of machines `/intercept`: see :class:`StoredSolution`; for variances `/nystrom/eigenvalues` and
    `/nystrom/basis`.

    With ``rows`` also `/rows`, and what has a number for each of them comes in ascending order
    and is written in the order in which they were given.
    """
    datasets = {"alpha": alpha, "targets": targets, **tables}
    if rows is not None:
        each = [name for name in _OF_ROWS if name in datasets]
        each += [] if header.centers_fingerprint else ["alpha"]
        datasets |= {name: rows.as_given(datasets[name]) for name in each}
        datasets["rows"] = rows.numbers
    if classes is not None:
        datasets["classes"] = classes
    values = {
        entry.name: value
        for entry in fields(header)
        if (value := getattr(header, entry.name)) != entry.default
    }
    versions = {"format_version": 1, "program_version": widegram.__version__}
    write_sealed(path, datasets, {"format": FORMAT, **versions, **values}, overwrite=overwrite)


def read_solution(path: str | Path) -> StoredSolution:
    """Read a solution file; WidegramError where it is missing, foreign or damaged."""
    with SealedFile(path, FORMAT, _WHAT, "solve again") as file, file.parsing():
        values = _DEFAULTS | file.attributes
        header = SolutionHeader(
            **{e.name: typed(values[e.name], _KINDS[str(e.type)]) for e in fields(SolutionHeader)}
        )
        json.loads(header.network)
        alpha, targets = file.array("alpha"), file.array("targets")
        classes = file.array("classes") if "classes" in file else None
        mean, scale = file.array("target_mean"), file.array("target_scale")
        intercept = file.array("intercept") if header.method == SVM else None
        kept = bool(header.centers_fingerprint) or intercept is not None
        fitted = file.array("fitted") if kept else targets - header.shift * alpha
        rows = ChosenRows(file.array("rows"), header.rows_of) if header.rows_of else None
    outputs = targets.shape[1:] if intercept is None else intercept.shape
    whole = fitted.shape == targets.shape and alpha.shape[1:] == outputs
    if rows is not None:
        same = rows.fingerprint == header.rows_fingerprint
        whole &= same and rows.numbers.shape == targets.shape[:1]
    if classes is not None:
        whole &= classes.shape == targets.shape[1:]
    if intercept is not None:
        k = 0 if classes is None else classes.size
        whole &= intercept.shape == (k * (k - 1) // 2,)
    if not (whole and np.isfinite(alpha).all()):
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
        fitted=fitted,
        intercept=intercept,
        rows=rows,
    )


def read_basis(path: str | Path) -> tuple[Array, Array]:
    """(eigenvalues (M,), basis (M, M)) of a solution by centers, float64, as
    :class:`~widegram.linalg.subset.normal.NormalSpectrum` has them.

    Raises as :func:`read_solution`, and for one that was made from files without the NNGP.
    """
    with SealedFile(path, FORMAT, _WHAT, "solve again") as file:
        if "nystrom/basis" not in file:
            raise WidegramError(
                f"{path}: has no eigenvectors for variances, as its files had no /nngp; compute "
                "them with --get nngp,ntk and solve again"
            )
        return file.array("nystrom/eigenvalues"), file.array("nystrom/basis")
