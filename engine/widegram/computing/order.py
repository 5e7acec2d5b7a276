"""The order of tiles: images that an evaluator keeps serve many tiles before they are dropped."""

from __future__ import annotations

from itertools import pairwise

from widegram.backends.evaluator import Evaluator
from widegram.tiling import TileGrid


def in_order(grid: TileGrid, evaluator: Evaluator) -> list[tuple[int, int]]:
    """The tiles of ``grid``, each once, in the order that suits ``evaluator``.

    Its columns come in panels of as many as it keeps, and all rows pass by each of them, down and
    up in turn, so that an image is made once for a panel and not once for a row. Tiles of one
    chunk of the file follow one another, where their images are kept. Tiles go row by
    row where one panel of chunks as small as tiles holds all columns, and where nothing is known
    of the evaluator.

    The order may be another one whenever a run goes on: nothing depends on it.
    """
    kept = evaluator.columns_kept
    # Tiles of a chunk, down and across.
    high, wide = (-(-side // grid.tile) for side in grid.chunk())
    width = kept(grid.tile, high)
    if width < wide:
        high, wide = 1, 1
        width = kept(grid.tile, 1)
    if width < 2:
        return grid.tiles()
    return _panels(grid, width - width % wide, high, wide)


def _panels(grid: TileGrid, width: int, high: int, wide: int) -> list[tuple[int, int]]:
    """Panels of ``width`` columns, a multiple of ``wide``; ``high`` rows by ``wide`` columns follow
    one another. A narrower panel comes first: in a symmetric matrix the first has fewest rows."""
    down, across = grid.shape
    edges = [0, *reversed(range(-(-across // wide) * wide, 0, -width))]
    symmetric = grid.symmetric
    tiles = []
    for n, (left, right) in enumerate(pairwise(edges)):
        end = min(right, down) if symmetric else down
        tops = range(0, end, high)
        for top in reversed(tops) if n % 2 else tops:
            for begin in range(left, right, wide):
                tiles += [
                    (i, j)
                    for i in range(top, min(top + high, end))
                    for j in range(max(begin, i) if symmetric else begin, min(begin + wide, across))
                ]
    return tiles
