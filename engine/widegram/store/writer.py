"""Filling a gram file batch by batch: a kill at any moment loses the batch in flight only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from widegram.errors import WidegramError
from widegram.files import file_system_errors
from widegram.store.layout import CHECKSUMS, STATE, Header, checksum
from widegram.store.opening import hdf5_errors, read
from widegram.store.verifying import TOLERANCES

TileResult = tuple[int, int, Mapping[str, np.ndarray]]

_DEVICE_NOTE = "tiles come from {}: they differ by rounding, within {:g} of the largest entry"


class Writer:
    """The one writer of a gram file; opened by :func:`open_for_resume`, closed by ``close``."""

    def __init__(self, path: Path, file: h5py.File, header: Header) -> None:
        self.path = path
        self.header = header
        self.grid = header.grid
        self._file = file
        self._data = {key: file[key] for key in header.keys}
        self._checksums = {key: file[f"{CHECKSUMS}/{key}"] for key in header.keys}
        self._state = file[STATE]
        self._finished: np.ndarray = self._state[...]

    @property
    def complete(self) -> bool:
        """Whether every tile is finished and the file says so."""
        return bool(self._file.attrs["complete"])

    def note_device(self, device: str, name: str) -> None:
        """Record in the file what computes the tiles from now on.

        Attribute ``device`` becomes ``device``; ``name`` (such as a card's) is added to
        ``device_name``, where it is not empty. Where several kinds of devices have filled the file,
        ``device_note`` says how far their values may differ.
        """
        noted = str(self._file.attrs.get("device_name", ""))
        names = dict.fromkeys(part for part in (*noted.split("; "), name) if part)
        with file_system_errors(self.path):
            if device != self.header.device:
                self._file.attrs["device"] = device
                if "," in device:
                    self._file.attrs["device_note"] = _DEVICE_NOTE.format(
                        device.replace(",", ", then "), TOLERANCES[self.header.dtype]
                    )
            if names and "; ".join(names) != noted:
                self._file.attrs["device_name"] = "; ".join(names)
            self._sync()

    def pending(self) -> list[tuple[int, int]]:
        """Tiles still to compute, in the order of :meth:`Grid.tiles`."""
        done = self._finished == 1
        if self.grid.symmetric:
            # A kill may fall between the flags of a tile and of its mirror image.
            done = done & done.T
        return [tile for tile in self.grid.tiles() if not done[tile]]

    def write(self, batch: Iterable[TileResult]) -> None:
        """Store tiles ``(i, j, {key: array})`` and, in a symmetric matrix, their mirror images.

        The data and checksums reach the disk before any tile is marked as finished. Raises
        :class:`WidegramError` for values that are not finite and for write errors; the tiles
        marked before stay good.
        """
        finished = []
        with file_system_errors(self.path):
            for i, j, arrays in batch:
                for key in self.header.keys:
                    self._store(key, i, j, arrays[key])
                finished += [(i, j), (j, i)] if self.grid.symmetric and i != j else [(i, j)]
            self._sync()
            for tile in finished:
                self._state[tile] = 1
            self._sync()
        for tile in finished:
            self._finished[tile] = 1

    def _store(self, key: str, i: int, j: int, block: np.ndarray) -> None:
        self._check(key, i, j, block)
        self._put(key, i, j, block)
        if self.grid.symmetric and i != j:
            self._put(key, j, i, np.ascontiguousarray(block.T))

    def _put(self, key: str, i: int, j: int, block: np.ndarray) -> None:
        rows, cols = self.grid.rows(i), self.grid.cols(j)
        self._data[key][rows.start : rows.stop, cols.start : cols.stop] = block
        self._checksums[key][i, j] = checksum(block)

    def _check(self, key: str, i: int, j: int, block: np.ndarray) -> None:
        rows, cols = self.grid.rows(i), self.grid.cols(j)
        if block.shape != (len(rows), len(cols)) or block.dtype != np.dtype(self.header.dtype):
            raise TypeError(f"tile {i},{j} of {key}: {block.dtype} {block.shape}")
        if not np.isfinite(block).all():
            row, col = np.argwhere(~np.isfinite(block))[0]
            hint = " or --dtype float64" if self.header.dtype == "float32" else ""
            raise WidegramError(
                f"{key} overflows at row {rows.start + row}, column {cols.start + col}; "
                f"use inputs or weights of smaller scale{hint}"
            )

    def finish(self) -> None:
        """Mark the file as complete; every tile must be finished."""
        if self.pending():
            raise RuntimeError("tiles are missing")
        with file_system_errors(self.path):
            self._file.attrs.modify("complete", np.bool_(True))
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.id.get_vfd_handle())

    def close(self) -> None:
        """Close the file and give up its lock."""
        self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a write error HDF5 fails again on closing; the first error is the one to show.
        with suppress(OSError, RuntimeError) if error else file_system_errors(self.path):
            self.close()


def open_for_resume(path: Path, header: Header) -> Writer:
    """Open an existing gram file for the run that ``header`` describes.

    Raises :class:`WidegramError` if the file comes from another run (saying what differs), is
    foreign or damaged, or has another writer.
    """
    file, found = read(path, "r+")
    try:
        refuse_other_run(path, found, header)
        with hdf5_errors(path):
            return Writer(path, file, found)
    except WidegramError:
        file.close()
        raise


def refuse_other_run(path: Path, found: Header, wanted: Header) -> None:
    """Raise if the file's header and the wanted one differ in what decides the values."""
    if differences := found.differences(wanted):
        raise WidegramError(
            f"{path}: is the output of another run: {'; '.join(differences)}; "
            "choose another --out or pass --overwrite"
        )
