"""Copying one kernel out of a gram file, panel by panel."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from widegram.data.distinct import check_distinct
from widegram.data.formats import HDF5_SUFFIXES
from widegram.durable import Part, new_file, reserve
from widegram.durable.outputs import check_disk, check_target
from widegram.durable.sealed import NewSealed
from widegram.errors import WidegramError
from widegram.gramfile.checked import CheckedMatrix
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


def export(
    path: str | Path,
    kernel: str,
    to: str | Path,
    *,
    dtype: str | None = None,
    depth: int | None = None,
    head: str | None = None,
    unit_diagonal: bool = False,
    overwrite: bool = False,
    memory: str | int | None = None,
    progress: ProgressCallback | None = None,
) -> int:
    """Write the (n1, n2) matrix ``kernel`` to ``to`` (.npy, .npz or .h5); returns bytes written.

    The array is called ``kernel`` inside an .npz or HDF5 file, and an HDF5 file carries the
    fingerprints of what it came from. With ``unit_diagonal`` entries are
    K_ij / sqrt(K_ii K_jj). Row panels of an eighth of ``memory`` are read at once.
    ``progress`` counts rows. The target appears only when whole. Raises
    :class:`WidegramError` for an incomplete gram file, an unknown kernel, depth, head or format, a
    target that exists (without ``overwrite``), too little disk, and values beyond ``dtype``.
    """
    target = file_path(to, "to")
    suffix = target.suffix.lower()
    if suffix not in (".npy", ".npz", *HDF5_SUFFIXES):
        raise WidegramError(f"{target}: unknown format; give a name ending in .npy, .npz or .h5")
    dtype = None if dtype is None else choice(dtype, "dtype", EXPORT_DTYPES)
    check_distinct([target], [path])
    panel_bytes = budget(memory) // _PANEL_SHARE
    with GramFile(path) as file:
        matrix: CheckedMatrix | UnitDiagonalMatrix = CheckedMatrix(file, kernel, depth, head)
        file.require_complete()
        if isinstance(matrix, CheckedMatrix) and unit_diagonal:
            matrix = UnitDiagonalMatrix(matrix, unit_scales(file, kernel, End(depth, head)))
        stored = np.dtype(dtype or file.dtype).newbyteorder("<")
        size = file.n1 * file.n2 * stored.itemsize
        check_target(target, overwrite)
        check_disk(target, size + _OVERHEAD)
        with (
            new_file(target, overwrite=overwrite) as part,
            _sink(part, suffix, kernel, file, stored) as put,
        ):
            tell = counting(progress, file.n1, "rows")
            for lo, block in _panels(file, matrix, stored, panel_bytes):
                put(block)
                tell(lo + len(block))
    return size


def _panels(
    file: GramFile,
    matrix: CheckedMatrix | UnitDiagonalMatrix,
    dtype: np.dtype[Any],
    panel_bytes: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """Row panels converted to ``dtype``; whole chunks high where the budget allows it."""
    row_bytes = file.n2 * (file.dtype.itemsize + dtype.itemsize)
    height = max(1, panel_bytes // row_bytes)
    chunk = file.header.grid.chunk()[0]
    height = height - height % chunk if height >= chunk else height
    for lo in range(0, file.n1, height):
        interrupts.check()
        panel = matrix[lo : lo + height]
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(panel, dtype)
        if not np.isfinite(block).all():
            row = lo + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise WidegramError(
                f"{file.path}: row {row} does not fit into {dtype.name}; export a wider dtype"
            )
        yield lo, block


@contextmanager
def _sink(
    part: Part, suffix: str, kernel: str, file: GramFile, dtype: np.dtype[Any]
) -> Iterator[Put]:
    """A function that stores one panel after the other in the file ``part``."""
    if suffix in HDF5_SUFFIXES:
        shape = (file.n1, file.n2)
        new = NewSealed(part, lambda target: reserve(target, kernel, shape, dtype))
        yield lambda block: new.append(kernel, block)
        ends = ("network", "fingerprint", "program_version")
        kept = {name: value for name, value in file.attributes.items() if name.endswith(ends)}
        new.finish({}, {"format": FORMAT, "format_version": 1, **kept})
    elif suffix == ".npz":
        with (
            zipfile.ZipFile(cast(IO[bytes], part.stream()), "w", zipfile.ZIP_STORED) as archive,
            archive.open(f"{kernel}.npy", "w", force_zip64=True) as stream,
        ):
            yield _npy(stream, file, dtype)
    else:
        yield _npy(cast(IO[bytes], part.stream()), file, dtype)


def _npy(stream: IO[bytes], file: GramFile, dtype: np.dtype[Any]) -> Put:
    """Write the .npy header of the whole matrix; panels follow in order."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": (file.n1, file.n2)}
    np.lib.format.write_array_header_1_0(stream, header)

    def put(block: np.ndarray) -> None:
        stream.write(block.data.cast("B"))

    return put
