"""Copying one kernel out of a gram file, panel by panel."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from widegram.data.chosen_rows import ChosenRows, RowsLike, open_rows
from widegram.data.distinct import check_distinct
from widegram.data.formats import HDF5_SUFFIXES
from widegram.durable import Part, new_file, reserve
from widegram.durable.outputs import check_disk, check_target
from widegram.durable.sealed import NewSealed
from widegram.errors import WidegramError
from widegram.gramfile.checked import CheckedMatrix
from widegram.gramfile.chosen import ChosenMatrix, StoredMatrix
from widegram.gramfile.unitdiagonal import UnitDiagonalMatrix, unit_scales
from widegram.gramfile.view import GramFile
from widegram.machine import interrupts
from widegram.machine.budgets import budget
from widegram.machine.progress import ProgressCallback, counting
from widegram.tiling import End
from widegram.validation.arrays import choice, file_path
from widegram.validation.choices import EXPORT_DTYPES

_PANEL_SHARE = 8
_OVERHEAD = 2**16
FORMAT = "widegram-matrix"
Put = Callable[[np.ndarray], None]


def export(  # noqa: PLR0913 - public: by keyword, one for each option of the command
    path: str | Path,
    kernel: str,
    to: str | Path,
    *,
    dtype: str | None = None,
    depth: int | None = None,
    head: str | None = None,
    unit_diagonal: bool = False,
    rows: RowsLike | None = None,
    columns: RowsLike | None = None,
    overwrite: bool = False,
    memory: str | int | None = None,
    progress: ProgressCallback | None = None,
) -> int:
    """Write the (n1, n2) matrix ``kernel`` to ``to`` (.npy, .npz or .h5); returns bytes written.

    The array is called ``kernel`` inside an .npz or HDF5 file, and an HDF5 file carries the
    fingerprints of what it came from. With ``unit_diagonal`` entries are
    K_ij / sqrt(K_ii K_jj). With ``rows`` and ``columns``, as
    :func:`widegram.data.chosen_rows.open_rows` takes them, only those; of a symmetric matrix
    ``columns`` are by default ``rows``. Row panels of an eighth of ``memory`` are read at once.
    ``progress`` counts rows. The target appears only when whole. Raises
    :class:`WidegramError` for an incomplete gram file, an unknown kernel, depth, head or format, a
    target that exists (without ``overwrite``), too little disk, values beyond ``dtype``, and a row
    of which nothing is left in it.
    """
    target = file_path(to, "to")
    suffix = target.suffix.lower()
    if suffix not in (".npy", ".npz", *HDF5_SUFFIXES):
        raise WidegramError(f"{target}: unknown format; give a name ending in .npy, .npz or .h5")
    dtype = None if dtype is None else choice(dtype, "dtype", EXPORT_DTYPES)
    check_distinct([target], [path, rows, columns])
    panel_bytes = budget(memory) // _PANEL_SHARE
    with GramFile(path) as file:
        matrix: StoredMatrix = CheckedMatrix(file, kernel, depth, head)
        file.require_complete()
        if unit_diagonal:
            matrix = UnitDiagonalMatrix(matrix, unit_scales(file, kernel, End(depth, head)))
        part = _part(file, rows, columns)
        stored = np.dtype(dtype or file.dtype).newbyteorder("<")
        shape = part.shape
        size = shape[0] * shape[1] * stored.itemsize
        check_target(target, overwrite)
        check_disk(target, size + _OVERHEAD)
        with (
            new_file(target, overwrite=overwrite) as new,
            _sink(new, suffix, kernel, file, part, stored) as put,
        ):
            tell = counting(progress, shape[0], "rows")
            for lo, block in _panels(file, matrix, part, stored, panel_bytes):
                put(block)
                tell(lo + len(block))
    return size


class _Exported(NamedTuple):
    """Which rows and columns of a matrix (n1, n2) are written, None for all."""

    whole: tuple[int, int]
    rows: ChosenRows | None
    columns: ChosenRows | None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of what is written."""
        n1, n2 = self.whole
        rows, columns = self.rows, self.columns
        return n1 if rows is None else len(rows), n2 if columns is None else len(columns)

    def panel(self, matrix: StoredMatrix, lo: int, hi: int) -> np.ndarray:
        """Rows [lo, hi) of what is written."""
        rows, columns = self.rows, self.columns
        if rows is None and columns is None:
            return matrix[lo:hi]
        numbers = np.arange(lo, hi) if rows is None else rows.numbers[lo:hi]
        down = ChosenRows(numbers, self.whole[0])
        across = None if columns is None else columns.ascending
        block = down.as_given(ChosenMatrix(matrix, down.ascending, across)[:])
        return block if columns is None else columns.as_given(block.T).T

    def named(self) -> dict[str, ChosenRows]:
        """The rows and the columns that are chosen, by name."""
        both = {"rows": self.rows, "columns": self.columns}
        return {name: one for name, one in both.items() if one is not None}


def _part(file: GramFile, rows: RowsLike | None, columns: RowsLike | None) -> _Exported:
    """What is asked for of a file."""
    name = str(file.path)
    down = open_rows(rows, file.n1, name)
    both = file.symmetric and columns is None
    across = down if both else open_rows(columns, file.n2, name, "column")
    return _Exported((file.n1, file.n2), down, across)


def _panels(
    file: GramFile,
    matrix: StoredMatrix,
    part: _Exported,
    dtype: np.dtype[Any],
    panel_bytes: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Row panels converted to ``dtype``; whole chunks high where the budget allows it."""
    n1, n2 = part.shape
    row_bytes = n2 * (file.dtype.itemsize + dtype.itemsize)
    height = max(1, panel_bytes // row_bytes)
    chunk = file.header.grid.chunk()[0]
    height = height - height % chunk if height >= chunk else height
    for lo in range(0, n1, height):
        interrupts.check()
        panel = part.panel(matrix, lo, min(n1, lo + height))
        with np.errstate(over="ignore", under="ignore"):
            block = np.ascontiguousarray(panel, dtype)
        lost = _lost(panel, block)
        if lost.any():
            row = lo + int(np.flatnonzero(lost)[0])
            row = row if part.rows is None else int(part.rows.numbers[row])
            raise WidegramError(
                f"{file.path}: row {row} does not fit into {dtype.name}; export a wider dtype"
            )
        yield lo, block


def _lost(panel: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Which rows (n,) of a panel another dtype cannot hold: a number of them is too large, or all
    but zeros are too small for its full precision."""
    large = ~np.isfinite(block).all(axis=1)
    if block.dtype.itemsize >= panel.dtype.itemsize:
        return large
    largest = np.maximum(panel.max(axis=1), -panel.min(axis=1))
    return large | ((largest > 0) & (largest < np.finfo(block.dtype).tiny))


@contextmanager
def _sink(
    target: Part, suffix: str, kernel: str, file: GramFile, part: _Exported, dtype: np.dtype[Any]
) -> Iterator[Put]:
    """A function that stores one panel after the other in the file ``target``."""
    shape, chosen = part.shape, part.named()
    if suffix in HDF5_SUFFIXES:
        new = NewSealed(target, lambda file: reserve(file, kernel, shape, dtype))
        yield lambda block: new.append(kernel, block)
        ends = ("network", "fingerprint", "program_version")
        kept = {name: value for name, value in file.attributes.items() if name.endswith(ends)}
        kept |= {f"{side}_fingerprint": one.fingerprint for side, one in chosen.items()}
        numbers = {side: one.numbers for side, one in chosen.items()}
        new.finish(numbers, {"format": FORMAT, "format_version": 1, **kept})
    elif suffix == ".npz":
        with (
            zipfile.ZipFile(cast(IO[bytes], target.stream()), "w", zipfile.ZIP_STORED) as archive,
            archive.open(f"{kernel}.npy", "w", force_zip64=True) as stream,
        ):
            yield _npy(stream, shape, dtype)
    else:
        yield _npy(cast(IO[bytes], target.stream()), shape, dtype)


def _npy(stream: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any]) -> Put:
    """Write the .npy header of the whole matrix; panels follow in order."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)

    def put(block: np.ndarray) -> None:
        stream.write(block.data.cast("B"))

    return put
