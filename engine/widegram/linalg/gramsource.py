"""Gram files as operators: complete, of one kernel, with the fingerprints of what made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from widegram.closing import Closing
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.gramfile.checked import CheckedMatrix
from widegram.gramfile.unitdiagonal import Scales, UnitDiagonalMatrix, unit_scales
from widegram.linalg.operator import GramOperator
from widegram.tiling import WHOLE, End


@dataclass(frozen=True)
class GramKernel(Closing):
    """One kernel of an open, complete Gram file; a context manager that closes it.

    ``end``: where it is read out. ``operator`` streams it within the byte budget it was opened
    with. ``scales``: those that make its diagonal 1, None where it is as in the file.
    """

    file: GramFile
    kernel: str
    end: End
    operator: GramOperator
    scales: Scales | None = None

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.file.path

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hex strings of 'network', 'x1' and 'x2'."""
        return self.file.fingerprints

    def key(self) -> str:
        """One string that names the matrix: network, data, kernel, depth, head, dtype and file."""
        prints = self.fingerprints
        created = self.file.attributes.get("created", "")
        depth, head = self.end
        parts = (prints["network"], prints["x1"], prints["x2"], self.kernel, depth)
        more = [] if head is None else [head]
        more += [] if self.scales is None else ["unit-diagonal"]
        return "/".join(map(str, (*parts, *more, self.file.dtype, created)))

    def other(self, kernel: str) -> GramOperator:
        """Another kernel of the same file, depth and head, with the same budget, and with the same
        scales: networks divided by a number for each input divide both of their kernels."""
        return _operator(self.file, kernel, self.end, self.operator.memory, self.scales)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_train(
    path: str | Path, kernel: str, end: End = WHOLE, *, memory: int, unit: bool = False
) -> GramKernel:
    """The symmetric matrix of the training data with itself, read out at ``end``, scaled to a
    ``unit`` diagonal or as it is.

    Raises WidegramError for an incomplete file, a missing kernel, depth or head, and a cross
    matrix.
    """
    opened = open_kernel(path, kernel, end, memory=memory, unit=unit)
    if not opened.file.symmetric:
        opened.file.close()
        raise WidegramError(
            f"{path}: holds a matrix of x with x2; the training matrix is made by "
            "`widegram gram` without --x2"
        )
    return opened


def open_cross(
    path: str | Path,
    kernel: str,
    end: End,
    *,
    memory: int,
    train: dict[str, str],
    unit: bool = False,
    columns: str = "training data",
) -> GramKernel:
    """The matrix kernel(test, train) that belongs to the training fingerprints ``train``, scaled to
    ``unit`` diagonals of both sides or as it is.

    ``columns`` is what its x2 has to be, for messages. Raises WidegramError where it comes from
    another network or training set, or is transposed.
    """
    opened = open_kernel(path, kernel, end, memory=memory, unit=unit)
    found = opened.fingerprints
    problem = ""
    if found["network"] != train["network"]:
        problem = "it was made from another network than the solution"
    elif found["x2"] != train["x1"]:
        problem = f"its x2 is not the {columns} of the solution"
        if found["x1"] == train["x1"]:
            kind = f"kernel(test, {columns})"
            problem += f", but its x is: the cross matrix is {kind}, swap --x and --x2"
    if problem:
        opened.file.close()
        place = "TRAIN" if columns == "training data" else "CENTERS"
        raise WidegramError(
            f"{path}: {problem}; make it with --x TEST --x2 {place} and the same --net"
        )
    return opened


def open_kernel(
    path: str | Path, kernel: str, end: End, *, memory: int, unit: bool = False
) -> GramKernel:
    """One kernel of any complete Gram file, whatever its rows and columns are, scaled to ``unit``
    diagonals or as it is.

    Raises WidegramError for an incomplete file, a missing kernel, depth or head.
    """
    file = GramFile(path)
    try:
        file.require_complete()
        file.dataset(kernel, *end)  # refuses what it has not
        scales = unit_scales(file, kernel, end) if unit else None
        operator = _operator(file, kernel, end, memory, scales)
        return GramKernel(file, kernel, end, operator, scales)
    except WidegramError:
        file.close()
        raise


def _operator(
    file: GramFile, kernel: str, end: End, memory: int, scales: Scales | None
) -> GramOperator:
    matrix: CheckedMatrix | UnitDiagonalMatrix = CheckedMatrix(file, kernel, end.depth, end.head)
    name = f"{file.path}:{matrix.name}"
    if isinstance(matrix, CheckedMatrix) and scales is not None:
        matrix = UnitDiagonalMatrix(matrix, scales)
    return GramOperator(matrix, symmetric=file.symmetric, memory=memory, name=name)
