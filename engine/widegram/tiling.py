"""How large a tile of the matrix should be: a pure function of sizes and budgets."""

from __future__ import annotations

import math

LARGEST_TILE = 512
LARGEST_IN_MEMORY = 4096
LANES = 16
_TILE_SHARE = 16
_TILE_ELEMENT_LAYERS = 5e9


def choose_tile(
    n1: int,
    n2: int,
    matrices: int,
    itemsize: int,
    memory: int,
    entry_cost: float = 0.0,
    image_bytes: int = 0,
    largest: int = LARGEST_TILE,
) -> int:
    """Side of a tile of an (n1, n2) run that writes ``matrices`` matrices.

    At most ``largest``; the tile's matrices take at most a sixteenth of ``memory`` bytes (a batch,
    its mirror images and the evaluator need the rest), the images of its rows and columns, with
    ``image_bytes`` each, at most a quarter, and ``entry_cost`` element-layers per entry add up
    to some seconds of work, so that an interrupted run loses little. Never less than 16, the
    pairs computed side by side. A matrix that fits is one tile; others are cut evenly into
    multiples of 16.
    """
    largest = min(largest, math.isqrt(memory // (_TILE_SHARE * matrices * itemsize)))
    if image_bytes > 0:
        largest = min(largest, memory // (8 * image_bytes))
    if entry_cost > 0:
        largest = min(largest, math.isqrt(int(_TILE_ELEMENT_LAYERS / entry_cost)))
    largest = max(LANES, largest - largest % LANES)
    n = max(n1, n2)
    if n <= largest:
        return n
    even = -(-n // -(-n // largest))
    return min(largest, -(-even // LANES) * LANES)
