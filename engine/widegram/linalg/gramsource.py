"""Gram files, and arrays of the user's own, as operators: of one kernel, with the fingerprints of
what made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from widegram.closing import ClosedOnFailure, Closing
from widegram.data.chosen_rows import ChosenRows, RowsLike, open_rows
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.gramfile.checked import CheckedMatrix
from widegram.gramfile.chosen import ChosenMatrix, StoredMatrix
from widegram.gramfile.unitdiagonal import Scales, UnitDiagonalMatrix, unit_scales
from widegram.linalg.arrayfile import NETWORK, ArrayFile, is_array
from widegram.linalg.operator import GramOperator
from widegram.tiling import WHOLE, End
from widegram.validation.choices import OWN

Array = NDArray[Any]


@dataclass(frozen=True)
class MatrixPart:
    """What is taken of a file's matrix: ``rows`` and ``columns``, None for all."""

    rows: ChosenRows | None = None
    columns: ChosenRows | None = None

    def fingerprints(self) -> list[str]:
        """What tells one part from another; nothing of a whole matrix."""
        return [] if self == MatrixPart() else [
            "all" if one is None else one.fingerprint for one in (self.rows, self.columns)
        ]  # fmt: skip


@dataclass(frozen=True)
class GramKernel(Closing):
    """One kernel of an open, complete Gram file or array; a context manager that closes it.

    ``end``: where it is read out. ``operator`` streams it within the byte budget it was opened
    with. ``scales``: those that make its diagonal 1, None where it is as in the file. ``part``:
    which rows and columns of the file ``operator`` has, in ascending order.
    """

    file: GramFile | ArrayFile
    kernel: str
    end: End
    operator: GramOperator
    scales: Scales | None = None
    part: MatrixPart = MatrixPart()

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.file.path

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hex strings of 'network', 'x1' and 'x2', of all that the file has."""
        return self.file.fingerprints

    @property
    def gram(self) -> GramFile:
        """The file, which is no array."""
        assert isinstance(self.file, GramFile)
        return self.file

    @property
    def tile(self) -> int:
        """Side of the tiles of the file; 1 of an array."""
        return 1 if isinstance(self.file, ArrayFile) else self.file.header.tile

    def key(self) -> str:
        """One string that names the matrix: network, data, rows, kernel, depth, head, dtype and
        file."""
        prints = self.fingerprints
        created = self.file.attributes.get("created", "")
        depth, head = self.end
        parts = (prints["network"], prints["x1"], prints["x2"], self.kernel, depth)
        more = [] if head is None else [head]
        more += [] if self.scales is None else ["unit-diagonal"]
        more += self.part.fingerprints()
        return "/".join(map(str, (*parts, *more, self.file.dtype, created)))

    def other(self, kernel: str) -> GramOperator:
        """Another kernel of the same file, depth, head and rows, with the same budget, and with the
        same scales: networks divided by a number for each input divide both of their kernels."""
        memory = self.operator.memory
        return _operator(self.file, kernel, self.end, memory, self.scales, self.part)

    def diagonal(self, kernel: str) -> Array | None:
        """K(x, x) of every row of :attr:`operator`, as it is in the file, float64; None where that
        does not hold it."""
        values = self.file.diagonal(kernel, self.end)
        return values if values is None else _of(values, self.part.rows)

    def down(self) -> Array | None:
        """The scales of the rows of :attr:`operator`."""
        return None if self.scales is None else _of(self.scales.down, self.part.rows)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _of(values: Array, rows: ChosenRows | None) -> Array:
    return values if rows is None else values[rows.ascending]


def open_train(
    path: str | Path,
    kernel: str,
    end: End = WHOLE,
    *,
    memory: int,
    unit: bool = False,
    rows: ChosenRows | RowsLike | None = None,
) -> GramKernel:
    """The symmetric matrix of the training data with itself, or of ``rows`` of it, read out at
    ``end``, scaled to a ``unit`` diagonal or as it is; an .npy file is a kernel of the user's own.

    Raises WidegramError for an incomplete file, a missing kernel, depth or head, rows that there
    are not, and a cross matrix.
    """
    file = _opened(path, kernel, end)
    with ClosedOnFailure(file):
        if not file.symmetric:
            raise WidegramError(
                f"{path}: holds a matrix of x with x2; the training matrix is made by "
                "`widegram gram` without --x2"
            )
        found = rows if isinstance(rows, ChosenRows) else open_rows(rows, file.n1, str(path))
        return _kernel(file, kernel, end, memory, unit, MatrixPart(found, found))


@dataclass(frozen=True)
class Columns:
    """What a cross matrix has to have in its columns.

    * ``network``, ``x1``: fingerprints, as a Gram file of these inputs with themselves has them
    * ``chosen``: which of these inputs are taken, None for all
    * ``what``: they are, for messages
    """

    network: str
    x1: str
    chosen: ChosenRows | None = None
    what: str = "training data"


def open_cross(
    path: str | Path,
    kernel: str,
    end: End,
    *,
    memory: int,
    columns: Columns,
    unit: bool = False,
    rows: RowsLike | None = None,
    diagonal: Array | None = None,
) -> GramKernel:
    """The matrix kernel(test, train) that belongs to the training inputs ``columns``, or ``rows``
    of it, scaled to ``unit`` diagonals of both sides or as it is.

    The symmetric matrix of the training data serves too: its rows are then test points.
    ``diagonal`` is K(x, x) of all rows of an array. Raises WidegramError where it comes from
    another network or training set, or is transposed, and for a ``diagonal`` of what says that
    itself.
    """
    if columns.network == NETWORK and not is_array(path):
        raise WidegramError(
            f"{path}: is no array, and the solution is of an array; give kernel(test, train) as an "
            ".npy file"
        )
    file: GramFile | ArrayFile = (
        _cross_array(path, columns, unit, diagonal)
        if is_array(path)
        else _opened(path, kernel, end)
    )
    with ClosedOnFailure(file):
        if diagonal is not None and (file.symmetric or not is_array(path)):
            raise WidegramError(
                f"{path}: says K(x, x) of its rows itself; --diagonal is of an array of other rows "
                "than the training data, leave it out"
            )
        problem = _of_others(file, columns)
        if problem:
            place = "TRAIN" if columns.what == "training data" else "CENTERS"
            raise WidegramError(
                f"{path}: {problem}; make it with --x TEST --x2 {place} and the same --net"
            )
        chosen = columns.chosen
        if chosen is not None and file.n2 != chosen.of:
            raise WidegramError(
                f"{path}: has {file.n2} columns; the solution is of {len(chosen)} of {chosen.of} "
                f"training inputs: give the kernel with all {chosen.of}"
            )
        part = MatrixPart(open_rows(rows, file.n1, str(path)), chosen)
        return _kernel(file, kernel, end, memory, unit, part)


def _of_others(file: GramFile | ArrayFile, columns: Columns) -> str:
    """Why a cross matrix does not belong to ``columns``; empty where it does."""
    found = file.fingerprints
    if found["network"] != columns.network:
        return "it was made from another network than the solution"
    if found["x2"] == columns.x1:
        return ""
    problem = f"its x2 is not the {columns.what} of the solution"
    if found["x1"] == columns.x1:
        kind = f"kernel(test, {columns.what})"
        problem += f", but its x is: the cross matrix is {kind}, swap --x and --x2"
    return problem


def _cross_array(
    path: str | Path, columns: Columns, unit: bool, diagonal: Array | None
) -> ArrayFile:
    """An array as kernel(test, train)."""
    if columns.network != NETWORK:
        raise WidegramError(
            f"{path}: is an array, which does not say of what, and the solution is of a Gram file; "
            "give the Gram file of the cross matrix"
        )
    file = ArrayFile(path, train=columns.x1, diagonal=diagonal)
    if unit and file.fingerprints["x1"] != columns.x1:
        raise WidegramError(
            f"{path}: is an array beside a solution with --unit-diagonal; scale your arrays "
            "yourself, and solve without it"
        )
    if diagonal is not None and diagonal.shape != (file.n1,):
        raise WidegramError(
            f"{path}: has {file.n1} rows, and K(x, x) of them has shape {diagonal.shape}"
        )
    return file


def open_kernel(
    path: str | Path,
    kernel: str,
    end: End,
    *,
    memory: int,
    unit: bool = False,
    rows: RowsLike | None = None,
) -> GramKernel:
    """One kernel of any complete Gram file, whatever its rows and columns are, or ``rows`` of it,
    scaled to ``unit`` diagonals or as it is.

    Raises WidegramError for an incomplete file, a missing kernel, depth or head.
    """
    if is_array(path):
        raise WidegramError(f"{path}: is an array; a Gram file is needed here")
    file = _opened(path, kernel, end)
    with ClosedOnFailure(file):
        part = MatrixPart(open_rows(rows, file.n1, str(path)), None)
        return _kernel(file, kernel, end, memory, unit, part)


def _opened(path: str | Path, kernel: str, end: End) -> GramFile | ArrayFile:
    """A complete file that has the kernel at that end, or an array, which has no ends."""
    if is_array(path):
        if end != WHOLE:
            raise WidegramError(f"{path}: is an array, it has no depths and no heads")
        return ArrayFile(path)
    file = GramFile(path)
    with ClosedOnFailure(file):
        file.require_complete()
        file.dataset(kernel, *end)  # refuses what it has not
        return file


def _kernel(
    file: GramFile | ArrayFile, kernel: str, end: End, memory: int, unit: bool, part: MatrixPart
) -> GramKernel:
    kernel = OWN if isinstance(file, ArrayFile) else kernel
    scales = unit_scales(file, kernel, end) if unit else None
    operator = _operator(file, kernel, end, memory, scales, part)
    return GramKernel(file, kernel, end, operator, scales, part)


def _operator(
    file: GramFile | ArrayFile,
    kernel: str,
    end: End,
    memory: int,
    scales: Scales | None,
    part: MatrixPart,
) -> GramOperator:
    matrix: StoredMatrix
    if isinstance(file, ArrayFile):
        matrix = file.matrix
    else:
        matrix = CheckedMatrix(file, kernel, end.depth, end.head)
    name = str(file.path) if isinstance(file, ArrayFile) else f"{file.path}:{matrix.name}"
    if scales is not None:
        matrix = UnitDiagonalMatrix(matrix, scales)
    if part != MatrixPart():
        both = (None if one is None else one.ascending for one in (part.rows, part.columns))
        matrix = ChosenMatrix(matrix, *both)
    symmetric = file.symmetric and part.rows is part.columns
    return GramOperator(matrix, symmetric=symmetric, memory=memory, name=name)
