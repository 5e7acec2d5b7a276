"""Reading a gram file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from widegram.closing import ClosedOnFailure, Closing
from widegram.data.formats import nearest
from widegram.durable import being_written
from widegram.durable.contents import plain
from widegram.durable.hdf5 import hdf5_errors, stored_dataset
from widegram.errors import WidegramError, shown
from widegram.gramfile.diagonals import values_path
from widegram.gramfile.elsewhere import TABLE, Assembled, Shards
from widegram.gramfile.header import CHECKSUMS, STATE, Header
from widegram.gramfile.opening import read
from widegram.gramfile.reserved import damaged, intact
from widegram.tiling import WHOLE, End, dataset_keys
from widegram.validation.arrays import file_path


class GramFile(Closing):
    """A read-only view of a gram file, cheap to open; also a context manager.

    * ``n1``, ``n2``: the shape of every matrix
    * ``symmetric``, ``dtype``, ``complete``
    * ``network``: as a dict
    * ``kernels``: ``('nngp', 'ntk')`` or one of them
    * ``depths``: empty without a depth sweep; ``heads``: empty without Readouts
    * ``fingerprints``: hex of 'network', 'x1', 'x2'; x2's is x1's for a symmetric matrix
    * ``writer``: whether one was at work

    ``snapshot`` opens also what a writer is filling, which then goes on changing; ``shard`` also
    one share of a matrix, which has no :meth:`dataset`. Raises :class:`WidegramError` for a
    missing, foreign or damaged file, one whose tiles lie in shards that are missing or were
    changed, and without ``snapshot`` for one that is being written.
    """

    def __init__(self, path: str | Path, *, snapshot: bool = False, shard: bool = False) -> None:
        self.path = file_path(path, "path")
        self.writer = snapshot and being_written(self.path)
        self._file, self.header = read(self.path, snapshot=snapshot, shard=shard)
        header: Header = self.header
        self.n1, self.n2 = header.n1, header.n2
        self.symmetric = header.symmetric
        self.dtype = np.dtype(header.dtype)
        self.kernels = header.kernels
        self.depths = header.depths
        self.heads = header.heads
        self.network: dict[str, Any] = json.loads(header.network)
        self.fingerprints = {
            "network": header.network_fingerprint,
            "x1": header.x1_fingerprint,
            "x2": header.x2_fingerprint or header.x1_fingerprint,
        }
        self._shards: Shards | None = None
        with ClosedOnFailure(self), hdf5_errors(self.path):
            self.complete = _flag(self._file, "complete")
            if header.elsewhere is not None:
                self._shards = Shards(self.path, header, self.raw(TABLE)[...])

    @property
    def attributes(self) -> dict[str, Any]:
        """All root attributes as plain Python values."""
        with hdf5_errors(self.path):
            values = dict(self._file.attrs.items())
        return {name: plain(value) for name, value in values.items()}

    def dataset(
        self, kernel: str, depth: int | None = None, head: str | None = None
    ) -> h5py.Dataset | Assembled:
        """The (n1, n2) matrix of ``kernel``, of a depth sweep after ``depth`` repeats, of Readouts
        that of ``head``. Where its tiles lie in shards it is sliced like a dataset.

        Raises :class:`WidegramError` naming the kernels, depths or heads there are.
        """
        if not isinstance(kernel, str) or kernel not in self.kernels:
            hint = nearest(str(kernel), self.kernels)
            raise WidegramError(f"{self.path}: has no kernel {shown(kernel)}; {hint}")
        self.check_end(depth, head)
        return self._matrix(End(depth, head).path(kernel))

    def block(self, key: str, rows: range, cols: range) -> np.ndarray:
        """Entries of one tile, or of a part of it, of the matrix ``key``."""
        grid = self.header.grid
        tile = rows.start // grid.tile, cols.start // grid.tile
        path, (top, left) = self.header.layout.place(key, tile)
        top += rows.start - grid.rows(tile[0]).start
        left += cols.start - grid.cols(tile[1]).start
        with hdf5_errors(self.path):
            found = self._matrix(path)[top : top + len(rows), left : left + len(cols)]
        return np.asarray(found)

    def _matrix(self, path: str) -> h5py.Dataset | Assembled:
        """What has the tiles of a dataset."""
        return self.raw(path) if self._shards is None else self._shards.matrix(path)

    def sums(self, key: str) -> np.ndarray:
        """Checksums (uint64) of the tiles of the matrix ``key``, where the layout has them."""
        sums: np.ndarray = self.raw(f"{CHECKSUMS}/{key}")[...]
        return sums

    def has_diagonal(self, kernel: str) -> bool:
        """Whether there is a place for K(x, x) of every input; older files have none."""
        return self.header.diagonals and kernel in self.kernels

    def diagonal(self, kernel: str, end: End = WHOLE, second: bool = False) -> np.ndarray | None:
        """K(x, x) of every input of x1, or of x2, (n,) float64; None where the file does not hold
        it: one is outside of the range, or it has no place for them.

        Raises :class:`WidegramError` for a depth or head that there is not, and for damage.
        """
        self.check_end(*end)
        if not self.has_diagonal(kernel):
            return None
        values = self.stored_diagonal(end.path(kernel), second)
        return None if np.isnan(values).any() else values

    def stored_diagonal(self, key: str, second: bool) -> np.ndarray:
        """As :meth:`diagonal` of the dataset ``key``, of a file that has places for it; NaN where
        a number is outside of the range."""
        side = "x2" if second and not self.symmetric else "x1"
        places = self.header.places._replace(keys=(key,), sides=(side,))
        with hdf5_errors(self.path):
            for _, damage in places.damage(lambda path: self.raw(path)[...], complete=True):
                raise WidegramError(
                    f"{self.path}: is damaged: {damage}; `widegram verify --repair` computes it "
                    "again"
                )
            values: np.ndarray = self.raw(values_path(side, key))[...]
        return values

    def keys(self, depth: int | None = None, head: str | None = None) -> tuple[str, ...]:
        """Paths of all datasets, or of those that are read out at a depth, by a head or at both.

        Raises :class:`WidegramError` naming the depths or heads there are.
        """
        first = (self.depths or (None,))[0], (self.heads or (None,))[0]
        self.check_end(first[0] if depth is None else depth, first[1] if head is None else head)
        depths = self.depths if depth is None else (depth,)
        heads = self.heads if head is None else (head,)
        return dataset_keys(self.kernels, depths, heads)

    def check_end(self, depth: int | None, head: str | None) -> None:
        """Raise :class:`WidegramError` unless kernels are read out there, once and no more."""
        if depth not in (self.depths or (None,)):
            there = ", ".join(map(str, self.depths)) or "none: it is not a depth sweep"
            asked = "give a depth" if depth is None else f"has no depth {depth}"
            raise WidegramError(f"{self.path}: {asked}; its depths: {there}")
        if head not in (self.heads or (None,)):
            there = ", ".join(self.heads) or "none: its network has no Readouts"
            asked = "give a head" if head is None else f"has no head {shown(head)}"
            raise WidegramError(f"{self.path}: {asked}; its heads: {there}")

    def raw(self, path: str) -> h5py.Dataset:
        """Any dataset by its path inside the file."""
        with hdf5_errors(self.path):
            return stored_dataset(self._file, path)

    def flags(self) -> np.ndarray:
        """Array (uint8) of :attr:`TileGrid.shape`: 1 where a tile is finished, else 0."""
        with hdf5_errors(self.path):
            return self.header.layout.on_grid(self._file[STATE][...])

    def finished(self) -> np.ndarray:
        """Boolean array of :attr:`TileGrid.shape`: which tiles are finished."""
        return self.flags() == 1

    def metadata_intact(self) -> bool:
        """Whether nothing, another program or damage, has changed the metadata."""
        with hdf5_errors(self.path):
            return intact(self._file)

    def metadata_damaged(self) -> bool:
        """Whether bits of the metadata have changed, by no program that HDF5 writes for."""
        with hdf5_errors(self.path):
            return damaged(self._file)

    def tiles(self) -> tuple[int, int]:
        """Tiles finished and tiles in all, as ``gram`` counts them: a mirror image with its own."""
        done, layout = self.finished(), self.header.layout
        if self.symmetric:
            done = np.triu(done & done.T)
        return int(done.sum()), len(layout.tiles())

    def require_complete(self) -> None:
        """Raise :class:`WidegramError` while tiles are missing."""
        if not self.complete:
            done, total = self.tiles()
            raise WidegramError(
                f"{self.path}: is not complete ({done} of {total} tiles); "
                "run the same `widegram gram` command again to finish it"
            )

    def close(self) -> None:
        """Close the file."""
        if self._shards is not None:
            self._shards.close()
        self._file.close()


def _flag(file: h5py.File, name: str) -> bool:
    """A root attribute that must be true or false; ValueError where its byte is neither."""
    stored = h5py.h5a.open(file.id, name.encode())
    number = np.zeros((), np.uint8)
    stored.read(number, mtype=stored.get_type())  # as a bool h5py would hide other numbers
    if number not in (0, 1):
        raise ValueError(f"attribute {name} is {number}")
    return bool(number)
