"""Reading the file of one shard, which has to be finished, with its checksums compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xxhash
from numpy.typing import NDArray

from widegram.closing import ClosedOnFailure, Closing
from widegram.durable.contents import checksum, octets
from widegram.durable.hdf5 import hdf5_errors, stored_dataset
from widegram.errors import WidegramError
from widegram.gramfile.diagonals import Stretch, flags_path, sums_path, values_path
from widegram.gramfile.header import CHECKSUMS, STATE
from widegram.gramfile.layout import ShardLayout, Tile
from widegram.gramfile.opening import read
from widegram.gramfile.reserved import damaged
from widegram.machine import interrupts

Array = NDArray[Any]


class ShardFile(Closing):
    """The complete file of a shard; a context manager that closes it.

    Raises :class:`WidegramError` where it is missing, foreign, damaged, being written, or not
    complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self.header = read(path, shard=True)
        with ClosedOnFailure(self):
            if self.header.shard is None:
                raise WidegramError(f"{path}: is no shard but {self.header.kind()}; remove it")
            self.layout = ShardLayout(self.header.grid, self.header.shard)
            self._check()
            with hdf5_errors(path):
                self._sums = {key: self.raw(f"{CHECKSUMS}/{key}") for key in self.header.keys}

    def _check(self) -> None:
        with hdf5_errors(self.path):
            if damaged(self._file):
                raise WidegramError(f"{self.path}: {_damage('its metadata', self.path)}")
            missing = len(self.layout.unfinished(self.raw(STATE)))
            complete = bool(self._file.attrs["complete"])
        if missing or not complete:
            total = self.layout.count
            raise WidegramError(
                f"{self.path}: is not complete ({total - missing} of {total} tiles); run its "
                "`widegram gram` command again to finish it"
            )
        for _, text in self.header.places.damage(self.raw, complete=True):
            raise WidegramError(f"{self.path}: {_damage(text, self.path)}")

    def raw(self, name: str) -> Array:
        """A whole dataset."""
        with hdf5_errors(self.path):
            found: Array = stored_dataset(self._file, name)[...]
        return found

    def dataset(self, name: str) -> Any:
        """A dataset to be sliced."""
        with hdf5_errors(self.path):
            return stored_dataset(self._file, name)

    @property
    def texts(self) -> dict[str, str]:
        """The attributes that name devices."""
        with hdf5_errors(self.path):
            return {name: str(self._file.attrs[name]) for name in ("device_name", "device_note")}

    def digest(self) -> int:
        """One number of all that the file says it holds: header, flags and checksums."""
        names = [STATE, *(f"{CHECKSUMS}/{key}" for key in self.header.keys)]
        for side in self.header.places.sides:
            names += [flags_path(side), *(sums_path(side, key) for key in self.header.keys)]
        found = xxhash.xxh3_64(self.header.checksum().to_bytes(8, "little"))
        for name in names:
            found.update(octets(self.raw(name)))
        return int(found.intdigest())

    def tile(self, key: str, tile: Tile) -> Array:
        """A tile, or a mirror image, of the matrix ``key``; raises :class:`WidegramError` where it
        is not what was written."""
        grid = self.header.grid
        rows, cols = grid.rows(tile[0]), grid.cols(tile[1])
        path, (top, left) = self.layout.place(key, tile)
        with hdf5_errors(self.path):
            block: Array = stored_dataset(self._file, path)[
                top : top + len(rows), left : left + len(cols)
            ]
        if checksum(block) != self.sum(key, tile):
            where = f"{key} rows {rows.start}-{rows.stop - 1}, columns {cols.start}-{cols.stop - 1}"
            raise WidegramError(f"{self.path}: {_damage(where, self.path)}")
        return block

    def sum(self, key: str, tile: Tile) -> int:
        """The checksum of a tile or a mirror image."""
        return int(self._sums[key][self.layout.at(tile)])

    def sums(self, key: str) -> Array:
        """All checksums of the matrix ``key``, of the shape of the layout."""
        return self._sums[key]

    def check_tiles(self) -> None:
        """Compare the checksums of everything."""
        for tile in self.layout.tiles():
            interrupts.check()
            for one in self.layout.both(tile):
                for key in self.header.keys:
                    self.tile(key, one)

    def diagonal(self, stretch: Stretch) -> dict[str, Array]:
        """K(x, x) of a stretch of inputs, by dataset."""
        span = self.header.places.inputs(stretch)
        return {
            key: self.raw(values_path(stretch.side, key))[span.start : span.stop]
            for key in self.header.keys
        }

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _damage(what: str, path: Path) -> str:
    return (
        f"is damaged: {what.removesuffix(': wrong checksum')}: not what was written; "
        f"`widegram verify --repair {path}` computes it again"
    )
