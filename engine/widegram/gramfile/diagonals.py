"""K(x, x) of the inputs of a gram file: ``/diagonal/x1/<dataset path>``, of cross files x2 too.

Float64 (n,), whatever the matrix is stored in; NaN where float64, or the run's dtype, cannot hold
it. Filled in stretches, the inputs of one tile row or tile column: ``/state/diagonal/<side>``
(uint8, 1 where a stretch is finished) and ``/state/checksums/diagonal/<side>/<dataset path>``
(uint64). Files that are older than this have none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.durable import LiveFile, reserve
from widegram.durable.contents import checksum
from widegram.durable.hdf5 import stored_dataset
from widegram.tiling import TileGrid

FOLDER = "diagonal"
DTYPE = "float64"
Read = Callable[[str], NDArray[np.generic]]


class Stretch(NamedTuple):
    """The inputs of tile row ``number``, of ``side`` 'x1', or of that tile column, of 'x2'."""

    side: str
    number: int

    @property
    def second(self) -> bool:
        """Whether they are of x2."""
        return self.side == "x2"

    def span(self, grid: TileGrid) -> range:
        """Their numbers."""
        return grid.cols(self.number) if self.second else grid.rows(self.number)

    def text(self, key: str, grid: TileGrid) -> str:
        """The subject of a message."""
        span = self.span(grid)
        return f"{values_path(self.side, key)} {span.start}-{span.stop - 1}"


def values_path(side: str, key: str) -> str:
    """Where K(x, x) of one side lies, for the dataset ``key``."""
    return f"{FOLDER}/{side}/{key}"


def flags_path(side: str) -> str:
    """Where the flags of one side lie."""
    return f"state/{FOLDER}/{side}"


def sums_path(side: str, key: str) -> str:
    """Where the checksums of :func:`values_path` lie."""
    return f"state/checksums/{FOLDER}/{side}/{key}"


class DiagonalPlaces(NamedTuple):
    """What a file has of this.

    * ``grid``: its tiles
    * ``keys``: its datasets
    * ``sides``: 'x1' and, of a cross file, 'x2'; none of an older file
    * ``spans``: the tile rows and the tile columns whose inputs it has
    """

    grid: TileGrid
    keys: tuple[str, ...]
    sides: tuple[str, ...]
    spans: tuple[range, range]

    def span(self, side: str) -> range:
        """The numbers of the stretches of a side."""
        return self.spans[side == "x2"]

    def at(self, stretch: Stretch) -> int:
        """The index of a stretch in flags and checksums."""
        return stretch.number - self.span(stretch.side).start

    def inputs(self, stretch: Stretch) -> range:
        """The indices of its inputs in the values of its side."""
        first = self.span(stretch.side).start * self.grid.tile
        span = stretch.span(self.grid)
        return range(span.start - first, span.stop - first)

    def stretches(self) -> list[Stretch]:
        """The stretches of all sides."""
        return [Stretch(side, k) for side in self.sides for k in self.span(side)]

    def beside(self, row: int, column: int) -> list[Stretch]:
        """The stretches that are cheapest while a tile is computed: of a symmetric matrix the
        tile's own diagonal, of others what has the tile's inputs."""
        if self.grid.symmetric and row != column:
            return []
        numbers = zip(self.sides, (row, column), strict=False)
        return [Stretch(side, n) for side, n in numbers if n in self.span(side)]

    def datasets(self) -> Iterator[tuple[str, tuple[int], str]]:
        """(path, shape, dtype) of all datasets."""
        for side in self.sides:
            stretches = [Stretch(side, k) for k in self.span(side)]
            n = self.inputs(stretches[-1]).stop if stretches else 0
            for key in self.keys:
                yield values_path(side, key), (n,), DTYPE
                yield sums_path(side, key), (len(stretches),), "uint64"
            yield flags_path(side), (len(stretches),), "uint8"

    def describe(self, file: h5py.File) -> None:
        """Add the datasets to a new file."""
        for path, shape, dtype in self.datasets():
            reserve(file, path, shape, dtype)

    def check(self, file: h5py.File) -> None:
        """Raise ValueError where a dataset is not what :meth:`describe` makes."""
        for path, shape, dtype in self.datasets():
            found = stored_dataset(file, path)
            if found.shape != shape or found.dtype != np.dtype(dtype):
                raise ValueError(f"dataset {path} has a wrong shape or dtype")

    def damage(self, read: Read, complete: bool = False) -> Iterator[tuple[Stretch, str]]:
        """Stretches that are damaged, and how; ``read(path)`` gives a whole dataset. Of a
        ``complete`` file those that are not finished too."""
        for side in self.sides:
            flags = read(flags_path(side))
            values = {key: read(values_path(side, key)) for key in self.keys}
            sums = {key: read(sums_path(side, key)) for key in self.keys}
            for stretch in (stretch for stretch in self.stretches() if stretch.side == side):
                at, span = self.at(stretch), self.inputs(stretch)
                flag = int(flags[at])
                name = f"{FOLDER} {side} {stretch.number}"
                if flag > 1:
                    yield stretch, f"the flag of {name} is {flag}, not 0 or 1"
                elif flag == 0 and complete:
                    yield stretch, f"it says complete, but {name} is missing"
                for key in self.keys if flag == 1 else ():
                    block = values[key][span.start : span.stop]
                    if checksum(block) != int(sums[key][at]):
                        yield stretch, f"{stretch.text(key, self.grid)}: wrong checksum"
                    elif np.isinf(block).any():
                        yield stretch, f"{stretch.text(key, self.grid)}: not finite"


class Diagonals:
    """The writer's side: what is finished in a live file, and putting more into it."""

    def __init__(self, live: LiveFile, places: DiagonalPlaces) -> None:
        self.places, self._live = places, live
        self._flags = {side: live.read(flags_path(side)) for side in places.sides}

    def pending(self) -> list[Stretch]:
        """Stretches still to compute."""
        return [stretch for stretch in self.places.stretches() if not self.has(stretch)]

    def has(self, stretch: Stretch) -> bool:
        """Whether a stretch is finished."""
        return bool(self._flags[stretch.side][self.places.at(stretch)] == 1)

    def damaged(self) -> list[Stretch]:
        """Finished stretches whose values are not those that were written."""
        return list(dict.fromkeys(stretch for stretch, _ in self.places.damage(self._live.read)))

    def store(self, stretch: Stretch, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Write the values of a stretch, (inputs,) by dataset; on the disk after a sync.

        Raises TypeError for values of another shape.
        """
        span, at = self.places.inputs(stretch), self.places.at(stretch)
        for key in self.places.keys:
            values = np.ascontiguousarray(arrays[key], DTYPE)
            if values.shape != (len(span),):
                raise TypeError(f"{stretch.text(key, self.places.grid)}: {values.shape}")
            self._live.write(values_path(stretch.side, key), values, span.start)
            digest = np.array([checksum(values)], np.uint64)
            self._live.write(sums_path(stretch.side, key), digest, at)

    def flag(self, stretches: Sequence[Stretch], value: int) -> None:
        """Mark stretches as finished (1) or not (0); on the disk after a sync."""
        for stretch in stretches:
            side, at = stretch.side, self.places.at(stretch)
            self._live.write(flags_path(side), np.array([value], np.uint8), at)
            self._flags[side][at] = value
