"""A second opinion on a gram file: a few of its entries computed by another method.

A fault of the method that filled the file repeats when the same method computes a tile again. The
dense reference shares neither the plan nor the kernels, so that it can disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from widegram.gramfile.view import GramFile

# Largest difference relative to the values around an entry. Both methods turn roundings near c = 1
# into angles, their square roots: 1e-8 per layer in float64; in float32 a chaotic network of a
# hundred layers was seen to differ by 1e-2.
TOLERANCES = {"float64": 1e-6, "float32": 2e-2}


class TileComputer(Protocol):
    """What computes blocks; :class:`widegram.backends.evaluator.Evaluator` without its progress."""

    def tile(self, rows: range, cols: range, symmetric: bool) -> dict[str, np.ndarray]:
        """Arrays (len(rows), len(cols)), one for each dataset."""
        ...


class Opinion(NamedTuple):
    """What another method says of a file.

    * ``entries``: that were computed, of each dataset
    * ``difference``: the largest relative one
    * ``damage``: a line for each that is wrong
    """

    entries: int
    difference: float
    damage: list[str]


def second_opinion(
    file: GramFile,
    finished: np.ndarray,
    keys: tuple[str, ...],
    dense: TileComputer,
    most: int,
    generator: np.random.Generator,
) -> Opinion:
    """Compare at most ``most`` entries of finished tiles of the datasets ``keys`` with what
    ``dense`` (float64) computes.

    Entries that float64 cannot hold by the dense method, which does not scale, are left out.
    """
    entries, worst, damage = 0, 0.0, []
    for i, j in _chosen(file, finished, most, generator):
        values = dense.tile(range(i, i + 1), range(j, j + 1), file.symmetric)
        wanted = {key: float(values[key][0, 0]) for key in keys}
        if not all(np.isfinite(value) for value in wanted.values()):
            continue
        entries += 1
        for key, value in wanted.items():
            found, around = _around(file, key, i, j)
            scale = max(abs(value), around, np.finfo(np.float64).tiny)
            difference = abs(value - found) / scale
            worst = max(worst, difference)
            # Written so that NaN counts as damage.
            if not difference <= TOLERANCES[file.header.dtype]:
                damage.append(
                    f"{key} row {i}, column {j}: differs from the dense reference by "
                    f"{difference:.1e}"
                )
    return Opinion(entries, worst, damage)


def _chosen(
    file: GramFile, finished: np.ndarray, most: int, generator: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Different entries at random, of a symmetric matrix one of the diagonal first."""
    grid = file.header.grid
    tiles = [tile for tile in file.header.layout.tiles() if finished[tile]]
    found: set[tuple[int, int]] = set()
    own = [i for i, j in tiles if i == j] if grid.symmetric else []
    if own and most:
        n = int(generator.choice(grid.rows(int(generator.choice(own)))))
        found.add((n, n))
        yield n, n
    for _ in range(4 * most if tiles else 0):
        if len(found) == most:
            return
        i, j = tiles[int(generator.integers(len(tiles)))]
        entry = int(generator.choice(grid.rows(i))), int(generator.choice(grid.cols(j)))
        if entry not in found:
            found.add(entry)
            yield entry


def _around(file: GramFile, key: str, row: int, col: int) -> tuple[float, float]:
    """An entry, and the largest magnitude beside it in its row and column of the same tile."""
    grid = file.header.grid
    rows, cols = grid.rows(row // grid.tile), grid.cols(col // grid.tile)
    along = file.block(key, range(row, row + 1), cols)[0].astype(np.float64)
    down = file.block(key, rows, range(col, col + 1))[:, 0].astype(np.float64)
    largest = max(float(np.nanmax(np.abs(along))), float(np.nanmax(np.abs(down))))
    return float(along[col - cols.start]), largest if np.isfinite(largest) else 0.0
