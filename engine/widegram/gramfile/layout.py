"""Where a gram file keeps its tiles: all of them in matrices, or those of a shard side by side.

A shard has, for each dataset ``key`` of the whole matrix, ``tiles/<key>`` (side, tiles * side), its
tiles from left to right in the order of :meth:`TileGrid.tiles`, and of a symmetric matrix
``mirrors/<key>`` (tiles * side, side), their mirror images from top to bottom: rows and columns
of tiles are blocks of both, so that a virtual dataset needs few rectangles. Flags and checksums are
(tiles, 1), or (tiles, 2) with those of the mirror images; a tile on the diagonal has none. A tile
at the matrix's edge fills a part of its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.sharding import Shard, tile_rows
from widegram.tiling import TileGrid

Tile = tuple[int, int]
Place = tuple[int, int]
Flags = NDArray[np.uint8]


class Stored(NamedTuple):
    """A dataset with tiles."""

    path: str
    shape: tuple[int, int]
    chunk: tuple[int, int]


class MatrixBlock(NamedTuple):
    """A block of the matrix that is a block of a shard's dataset: where that begins, and which
    entries it has."""

    path: str
    start: Place
    rows: range
    cols: range


class TileLayout(ABC):
    """What a file has of the tiles of ``grid``."""

    def __init__(self, grid: TileGrid) -> None:
        self.grid = grid

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The shape of flags and of checksums."""

    @abstractmethod
    def tiles(self) -> list[Tile]:
        """The tiles to compute, row by row."""

    @abstractmethod
    def at(self, tile: Tile) -> Place:
        """The index of a tile, or of a mirror image, in flags and checksums."""

    @abstractmethod
    def unfinished(self, flags: Flags) -> list[Tile]:
        """The :meth:`tiles` that are not flagged, or whose mirror images are not."""

    @abstractmethod
    def on_grid(self, flags: NDArray[Any]) -> NDArray[Any]:
        """Flags, or checksums, of the whole grid: those of the file, 0 elsewhere."""

    @abstractmethod
    def stretches(self) -> tuple[range, range]:
        """Tile rows, and tile columns, whose diagonals the file has."""

    @abstractmethod
    def stored(self, key: str) -> list[Stored]:
        """The datasets with tiles of the matrix ``key``."""

    @abstractmethod
    def place(self, key: str, tile: Tile) -> tuple[str, Place]:
        """The dataset of a tile or mirror image, and the index of its first entry there."""

    def both(self, tile: Tile) -> list[Tile]:
        """A tile and, in a symmetric matrix, its mirror image."""
        i, j = tile
        return [(i, j), (j, i)] if self.grid.symmetric and i != j else [(i, j)]


class Whole(TileLayout):
    """All tiles, at their places in (n1, n2) matrices."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.shape

    def tiles(self) -> list[Tile]:
        return self.grid.tiles()

    def at(self, tile: Tile) -> Place:
        return tile

    def unfinished(self, flags: Flags) -> list[Tile]:
        done = flags == 1
        if self.grid.symmetric:
            # A kill may fall between the flags of a tile and of its mirror image.
            done = done & done.T
        return [tile for tile in self.grid.tiles() if not done[tile]]

    def on_grid(self, flags: NDArray[Any]) -> NDArray[Any]:
        return flags

    def stretches(self) -> tuple[range, range]:
        down, across = self.grid.shape
        return range(down), range(across)

    def stored(self, key: str) -> list[Stored]:
        return [Stored(key, (self.grid.n1, self.grid.n2), self.grid.chunk())]

    def place(self, key: str, tile: Tile) -> tuple[str, Place]:
        i, j = tile
        return key, (self.grid.rows(i).start, self.grid.cols(j).start)


class Elsewhere(Whole):
    """All tiles, in other files (:mod:`widegram.gramfile.elsewhere`): here flags and checksums."""

    def stored(self, key: str) -> list[Stored]:
        return []


class ShardLayout(TileLayout):
    """The tiles of one shard."""

    def __init__(self, grid: TileGrid, shard: Shard) -> None:
        super().__init__(grid)
        self.shard = shard
        self.tile_rows = tile_rows(grid, shard)
        self._rows = {row.row: row for row in self.tile_rows}

    @property
    def count(self) -> int:
        """How many tiles there are."""
        last = self.tile_rows[-1]
        return last.at + last.stop - last.first

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, 2 if self.grid.symmetric else 1

    def tiles(self) -> list[Tile]:
        return [(s.row, j) for s in self.tile_rows for j in range(s.first, s.stop)]

    def at(self, tile: Tile) -> Place:
        mirrored = self.grid.symmetric and tile[0] > tile[1]
        i, j = (tile[1], tile[0]) if mirrored else tile
        row = self._rows.get(i)
        if row is None or not row.first <= j < row.stop:
            raise KeyError(f"tile {i},{j} is in another shard than {self.shard}")
        return row.at + j - row.first, int(mirrored)

    @cached_property
    def _lone(self) -> NDArray[np.bool_]:
        """Which tiles have no mirror image."""
        lone = np.zeros(self.count, bool)
        lone[[s.at for s in self.tile_rows if s.first == s.row]] = True
        return lone

    def unfinished(self, flags: Flags) -> list[Tile]:
        done = flags[:, 0] == 1
        if self.grid.symmetric:
            done &= (flags[:, 1] == 1) | self._lone
        return [tile for tile, good in zip(self.tiles(), done.tolist(), strict=True) if not good]

    def on_grid(self, flags: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros(self.grid.shape, flags.dtype)
        for s in self.tile_rows:
            part = flags[s.at : s.at + s.stop - s.first]
            whole[s.row, s.first : s.stop] = part[:, 0]
            if self.grid.symmetric:
                skip = int(s.first == s.row)
                whole[s.first + skip : s.stop, s.row] = part[skip:, 1]
        return whole

    def stretches(self) -> tuple[range, range]:
        left = [s.row for s in self.tile_rows if s.first == (s.row if self.grid.symmetric else 0)]
        rows = range(left[0], left[-1] + 1) if left else range(0)
        top = self.tile_rows[0]
        return rows, range(top.first, top.stop) if top.row == 0 else range(0)

    def stored(self, key: str) -> list[Stored]:
        grid, long = self.grid, self.count * self.grid.tile
        high, wide = min(grid.tile, grid.n1), min(grid.tile, grid.n2)
        beside = TileGrid(high, long, grid.tile, False)
        found = [Stored(f"tiles/{key}", (high, long), beside.chunk())]
        if grid.symmetric:
            below = TileGrid(long, wide, grid.tile, False)
            found.append(Stored(f"mirrors/{key}", (long, wide), below.chunk()))
        return found

    def place(self, key: str, tile: Tile) -> tuple[str, Place]:
        number, mirrored = self.at(tile)
        along = number * self.grid.tile
        return (f"mirrors/{key}", (along, 0)) if mirrored else (f"tiles/{key}", (0, along))

    def rectangles(self, key: str) -> Iterator[MatrixBlock]:
        """Blocks that hold each entry of the shard once: rows of tiles, columns of mirror
        images."""
        grid = self.grid
        for s in self.tile_rows:
            rows = grid.rows(s.row)
            cols = range(grid.cols(s.first).start, grid.cols(s.stop - 1).stop)
            yield MatrixBlock(f"tiles/{key}", (0, s.at * grid.tile), rows, cols)
            skip = int(s.first == s.row)
            if grid.symmetric and s.first + skip < s.stop:
                below = range(grid.rows(s.first + skip).start, grid.rows(s.stop - 1).stop)
                yield MatrixBlock(f"mirrors/{key}", ((s.at + skip) * grid.tile, 0), below, rows)


def bytes_of(stored: Stored, dtype: Any) -> int:
    """Bytes of a dataset on the disk, rounded up: padded chunks and their index."""
    chunks = np.prod([-(-n // c) for n, c in zip(stored.shape, stored.chunk, strict=True)])
    return int(chunks) * (int(np.prod(stored.chunk)) * np.dtype(dtype).itemsize + 128)
