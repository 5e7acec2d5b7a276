"""A matrix shared out among runs that know nothing of one another: which tiles are whose.

The tiles row by row are cut into N stretches of nearly the same cost. That follows from the sizes
alone, so that every run finds the same cut.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.tiling import TileGrid
from widegram.validation.arrays import with_ending

_NAME = re.compile(r"(.+)\.shard-([1-9][0-9]*)-of-([1-9][0-9]*)")
_MOST = 10**6


class Shard(NamedTuple):
    """The share ``number`` (from 1 on) of ``total``."""

    number: int
    total: int

    def file(self, out: Path) -> Path:
        """The file of this shard of the matrix ``out``."""
        return with_ending(out, f".shard-{self.number}-of-{self.total}")

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


class TileRow(NamedTuple):
    """The tiles (``row``, ``first``) to (``row``, ``stop`` - 1), of which the first is number
    ``at`` of its shard."""

    row: int
    first: int
    stop: int
    at: int


def parse_shard(value: Any) -> Shard:
    """A shard from '3/8' or (3, 8); raises :class:`WidegramError` for what is none."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,18})\s*/\s*([0-9]{1,18})\s*", value)
        numbers = None if match is None else (int(match[1]), int(match[2]))
    else:
        pair = isinstance(value, tuple) and len(value) == 2
        numbers = value if pair and all(type(n) is int for n in value) else None
    if numbers is None:
        raise WidegramError(f"shard {shown(value)} is not understood; give K/N, such as 3/8")
    number, count = numbers
    if not 1 <= number <= count:
        raise WidegramError(
            f"shard {number}/{count}: shards are numbered from 1 to {max(count, 1)}; give K/N with "
            "K from 1 to N"
        )
    if count > _MOST:
        raise WidegramError(f"shard {number}/{count}: give at most {_MOST:,} shards")
    return Shard(number, count)


def shard_of(file: Path) -> tuple[Path, Shard] | None:
    """The matrix and the shard that a file's name says it is; None for other names."""
    match = _NAME.fullmatch(file.name)
    if match is None or len(match[3]) > 7 or int(match[2]) > int(match[3]):
        return None
    return file.with_name(match[1]), Shard(int(match[2]), int(match[3]))


def cuts(grid: TileGrid, count: int) -> NDArray[np.int64]:
    """Numbers (count + 1,) of tiles, row by row, at which shards begin and end; none is empty.

    Raises :class:`WidegramError` where there are fewer tiles than shards.
    """
    first, entries = _rows(grid)
    tiles = int(first[-1])
    if count > tiles:
        raise WidegramError(
            f"{count} shards: the matrix has {tiles} tiles of side {grid.tile}; give at most "
            f"{tiles} shards, or a smaller --tile"
        )
    wanted = [_nearest(grid, first, entries, k, count) for k in range(1, count)]
    found = np.array([0, *wanted, tiles], np.int64)
    numbers = np.arange(count + 1)
    found = np.maximum.accumulate(found - numbers) + numbers
    return np.minimum(found, tiles - (count - numbers))


def tile_rows(grid: TileGrid, shard: Shard) -> tuple[TileRow, ...]:
    """The tiles of a shard."""
    edges = cuts(grid, shard.total)
    begin, end = int(edges[shard.number - 1]), int(edges[shard.number])
    first, _ = _rows(grid)
    found, at = [], 0
    row = int(np.searchsorted(first, begin, "right")) - 1
    while begin + at < end:
        left = row if grid.symmetric else 0
        lo = begin + at - int(first[row]) + left
        hi = min(end, int(first[row + 1])) - int(first[row]) + left
        found.append(TileRow(row, lo, hi, at))
        at, row = at + hi - lo, row + 1
    return tuple(found)


def _rows(grid: TileGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each tile row the number of its first tile, and the entries settled before it; one more
    than there are rows."""
    down, across = grid.shape
    tiles = [across - i if grid.symmetric else across for i in range(down)]
    entries = [int(_in_row(grid, i)[-1]) for i in range(down)]
    return np.cumsum([0, *tiles]), np.cumsum([0, *entries])


def _in_row(grid: TileGrid, i: int) -> NDArray[np.int64]:
    """Entries settled by the first k tiles of a tile row, for every k."""
    across = grid.shape[1]
    left = i if grid.symmetric else 0
    widths = np.full(across - left, grid.tile, np.int64)
    widths[-1] = len(grid.cols(across - 1))
    widths[1 if grid.symmetric else across :] *= 2
    return np.concatenate([[0], np.cumsum(widths * len(grid.rows(i)))])


def _nearest(
    grid: TileGrid, first: NDArray[np.int64], entries: NDArray[np.int64], k: int, count: int
) -> int:
    """The number of tiles that settle nearly k / count of all entries."""
    wanted = int(entries[-1]) * k // count
    row = int(np.searchsorted(entries, wanted, "right")) - 1
    if row == len(entries) - 1:
        return int(first[-1])
    within = _in_row(grid, row)
    return int(first[row]) + int(np.argmin(np.abs(within + entries[row] - wanted)))
