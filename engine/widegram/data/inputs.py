"""The inputs of a kernel: floating point rows, checked and fingerprinted, read block by block."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from widegram.data.formats import Table, array_table, located, open_table, split_spec
from widegram.data.masked import equals, marked
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.validation.arrays import file_path, integer, plain

_BLOCK_BYTES = 8 << 20
# Suffixes of files that ``data prepare`` alone reads.
_RAW = (".csv", ".tsv", ".parquet", ".pq", ".mat")


class Source:
    """Inputs of shape ``(n, *input_shape)``: ``(n, D)`` vectors, ``(n, L, C)`` sequences or
    ``(n, H, W, C)`` images.

    Built by :func:`open_source`. ``name`` is for messages; ``location`` (an absolute
    ``file:key``) finds the same data again, None for an array in memory. ``marked``: masked numbers
    are marked (see :mod:`widegram.data.masked`), which equal ``mask`` or came marked.
    """

    def __init__(
        self, table: Table, rows: int, location: str | None, mask: float | None = None,
        marked: bool = False,
    ) -> None:  # fmt: skip
        self.table, self.mask = table, mask
        self.marked = marked or mask is not None
        self.name = table.name
        self.location = location
        self.shape: tuple[int, ...] = (rows, *table.shape[1:])
        wide = table.dtype.itemsize > 4
        self.dtype: np.dtype[Any] = np.dtype(np.float64 if wide else np.float32)

    @property
    def expects(self) -> Any:
        """The shape of one input; of a list of inputs, that of each."""
        return self.shape[1:]

    @property
    def place(self) -> str | None:
        """What :func:`widegram.data.patterns.reopened` finds the same data by, its patterns
        included; None for arrays in memory."""
        return self.location

    def __len__(self) -> int:
        return self.shape[0]

    def first(self, rows: int) -> Source:
        """The first ``rows`` of them."""
        return Source(self.table, rows, self.location, self.mask, self.marked)

    def as_marked(self) -> Source:
        """The same inputs, which came marked."""
        return Source(self.table, len(self), self.location, marked=True)

    def masked(self, constant: Any) -> Source:
        """The same inputs, of which numbers that equal ``constant`` (which may be NaN) are masked;
        of lists of inputs it has one for each.

        Their fingerprint stays that of the numbers as they are."""
        return Source(self.table, len(self), self.location, constant)

    def read(self, lo: int, hi: int) -> np.ndarray:
        """Rows ``[lo, hi)``, shape ``(hi - lo, *input_shape)``, C-contiguous, of ``dtype``.

        float16 and float32 files give float32, wider ones float64. Raises
        :class:`WidegramError` naming the first row that holds NaN or an infinity, unless masked.
        """
        return self._read(lo, hi)[1]

    def _read(self, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows as they are, and with masked numbers marked."""
        if not 0 <= lo <= hi <= len(self):
            raise IndexError(f"rows [{lo}, {hi}) of {len(self)}")
        try:
            with np.errstate(over="ignore"):  # what float64 cannot hold is found below
                found = self.table.rows(lo, hi)
                block = raw = np.ascontiguousarray(found, self.dtype)
                if self.mask is not None:
                    block = marked(raw, equals(found, self.mask))
        except (OSError, ValueError, RuntimeError) as error:
            raise WidegramError(
                f"{self.name}: rows {lo} to {hi - 1} cannot be read: {error}"
            ) from error
        finite = np.isfinite(block.reshape(hi - lo, -1))
        if not finite.all():
            row = int(np.flatnonzero(~finite.all(axis=1))[0])
            kind = "NaN" if np.isnan(block[row]).any() else "an infinite value"
            raise WidegramError(
                f"{self.name}: row {lo + row} holds {kind}; every input must be finite"
            )
        return raw, block

    def fingerprint(self) -> str:
        """xxh3-128 (hex) of shape, dtype and little-endian bytes; reads and checks every row."""
        return self._fingerprint

    def check_unchanged(self) -> None:
        """Raise :class:`WidegramError` where the rows are not those of :meth:`fingerprint` now.

        Reads every row once more.
        """
        if self._digest() != self._fingerprint:
            raise WidegramError(f"{self.name}: was changed while it was read")

    @cached_property
    def _fingerprint(self) -> str:
        return self._digest()

    def _digest(self) -> str:
        little = self.dtype.newbyteorder("<")
        digest = xxhash.xxh3_128(f"{self.shape}{little.str}".encode())
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        step = max(1, _BLOCK_BYTES // row_bytes)
        for lo in range(0, len(self), step):
            interrupts.check()
            block, _ = self._read(lo, min(lo + step, len(self)))
            digest.update(block.astype(little, copy=False).tobytes())
        return digest.hexdigest()


def open_source(spec: str | Path | np.ndarray | Source, limit: int | None = None) -> Source:
    """Open inputs: ``'file.npy'``, ``'file.npz:key'``, ``'file.h5:path'`` or an array.

    ``limit`` takes the first rows only. Raises :class:`WidegramError` for a missing file, key or
    dataset, for integers (naming the command that prepares them), a rank other than 2 to 4,
    empty data; NaN and infinities are found when their rows are read.
    """
    if isinstance(spec, Source):
        return spec if limit is None else spec.first(_limited(spec.name, len(spec), limit))
    if isinstance(spec, str | Path):
        table, location = _open_file(str(file_path(spec, "data")))
    else:
        table, location = array_table(plain(spec, "array")), None
    _check_dtype(table, None if location is None else str(spec))
    _check_shape(table)
    return Source(table, _limited(table.name, table.shape[0], limit), location)


def _limited(name: str, rows: int, limit: int | None) -> int:
    return rows if limit is None else min(rows, integer(limit, f"{name}: limit", 1))


def _open_file(spec: str) -> tuple[Table, str]:
    path, _ = split_spec(spec)
    raw = path.name.removesuffix(".gz").endswith(("-ubyte", ".idx"))
    if raw or path.is_dir() or (path.is_file() and path.suffix.lower() in _RAW):
        raise WidegramError(f"{path}: is raw data; run: {prepare_command(spec)}")
    return open_table(spec), located(spec)


def prepare_command(spec: str) -> str:
    """The shell command that turns a raw data set into floating point inputs."""
    path, _ = split_spec(spec)
    stem = (path.name or path.resolve().name).split(".")[0]
    out = path.parent / f"{stem}-prepared.h5"
    return f"widegram data prepare {shlex.quote(spec)} --out {shlex.quote(str(out))}"


def _check_dtype(table: Table, spec: str | None) -> None:
    if table.dtype.kind == "f":
        return
    if table.dtype.kind in "iub":
        command = prepare_command(spec or "FILE.npy")
        raise WidegramError(
            f"{table.name}: holds integers ({table.dtype}), floating point inputs are needed; "
            f"run: {command}"
        )
    raise WidegramError(f"{table.name}: holds {table.dtype}, real floating point inputs are needed")


def _check_shape(table: Table) -> None:
    if len(table.shape) not in (2, 3, 4):
        raise WidegramError(
            f"{table.name}: has shape {table.shape}; expected (n, D) vectors, (n, L, C) sequences "
            "or (n, H, W, C) images"
        )
    if 0 in table.shape:
        raise WidegramError(f"{table.name}: is empty, its shape is {table.shape}")
