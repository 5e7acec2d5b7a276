"""The two Gram files of a subset of regressors: kernel(train, centers), and the centers' own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from widegram.closing import ClosedOnFailure, Closing
from widegram.data.chosen_rows import RowsLike
from widegram.errors import WidegramError
from widegram.linalg.gramsource import GramKernel, open_kernel
from widegram.tiling import End


@dataclass(frozen=True)
class CenterFiles(Closing):
    """``cross``: kernel(train, centers), (n, M); ``centers``: kernel(centers, centers), (M, M)."""

    cross: GramKernel
    centers: GramKernel

    def key(self) -> str:
        """One string that names both matrices."""
        return f"{self.cross.key()}/{self.centers.key()}"

    def close(self) -> None:
        """Close both files."""
        self.cross.close()
        self.centers.close()


def open_centers(
    cross: str | Path,
    centers: str | Path,
    kernel: str,
    end: End,
    *,
    memory: int,
    unit: bool = False,
    chosen: RowsLike | None = None,
) -> CenterFiles:
    """Open both, scaled to ``unit`` diagonals or as they are, of ``cross`` the ``chosen`` rows;
    refuse what does not belong together.

    Raises WidegramError for incomplete files, a missing kernel, a matrix of the wrong kind, centers
    of another network, dtype or data than the columns of ``cross``, and more centers than rows.
    """
    rows = open_kernel(cross, kernel, end, memory=memory, unit=unit, rows=chosen)
    with ClosedOnFailure(rows):
        own = open_kernel(centers, kernel, end, memory=memory, unit=unit)
    files = CenterFiles(rows, own)
    problem = _problem(files)
    if problem:
        files.close()
        raise WidegramError(problem)
    return files


def _problem(files: CenterFiles) -> str:
    """What is wrong, with what to do; empty where nothing is."""
    cross, own = files.cross, files.centers
    if cross.file.symmetric:
        return (
            f"{cross.path}: holds the matrix of x with itself; the matrix of rows and centers is "
            "made by `widegram gram --x TRAIN --x2 CENTERS`"
        )
    if not own.file.symmetric:
        return (
            f"{own.path}: is not symmetric, it holds a matrix of x with x2; that of the centers "
            "is made by `widegram gram --x CENTERS` without --x2"
        )
    remedy = f"make it with --x of what --x2 of {cross.path} was, the same --net and --dtype"
    if own.fingerprints["network"] != cross.fingerprints["network"]:
        return f"{own.path}: is of another network than {cross.path}; {remedy}"
    if own.fingerprints["x1"] != cross.fingerprints["x2"]:
        swapped = cross.fingerprints["x1"] == own.fingerprints["x1"]
        hint = ", but its rows are: swap --x and --x2 there" if swapped else ""
        return f"{own.path}: its inputs are not the columns of {cross.path}{hint}; {remedy}"
    if own.file.dtype != cross.file.dtype:
        return f"{own.path}: is {own.file.dtype}, {cross.path} is {cross.file.dtype}; {remedy}"
    n, m = cross.operator.shape
    if m > n:
        return (
            f"{cross.path}: has {m} centers for {n} rows; take fewer centers than rows, or solve "
            "exactly"
        )
    return ""
