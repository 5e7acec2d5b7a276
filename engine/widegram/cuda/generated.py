"""What a generated kernel is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]

# Arguments of every kernel of planes. n pairs (rows of x and y), listed in ``pairs``, or only the
# first, whose successors walk the rows of a tile of so many columns; x, y (images, C, h, w), x
# divided by C; fx, fy: factors (images, F); table: a row per displacement; index: plane numbers;
# stores, sums, scratch: per pair; out (outputs, fields, n). Where inputs are vectors, x holds all
# their inner products, ``columns`` in a row.
SIGNATURE = "n, columns, pairs, x, y, fx, fy, table, index, stores, sums, scratch, out"


# Threads that run in step.
WARP = 32
# All of them, as shuffles want it.
FULL = "0xffffffff"
# Registers of a multiprocessor, which bounds those of a block.
MULTIPROCESSOR = 1 << 16
# Row and column of a block's pair, in shared memory.
PAIR_BYTES = 8
# Shared memory that every card gives a block without being asked.
SHARED_BYTES = 48 * 1024


@dataclass(frozen=True)
class KernelText:
    """The source of one kernel and how it is launched.

    ``form``: 'block', 'strip' and 'patch' have a thread block per pair, 'point' a thread.
    ``threads``: (x, y) of a block. ``scratch``: numbers of global memory that a pair's planes take.
    ``dynamic``: bytes of shared memory that are asked for at launch, beyond what every card gives.
    ``registers``: the most that a thread may use, 0 for no limit. ``pixels``: how many pixels of a
    plane a thread keeps in registers, 0 in forms that keep them elsewhere. ``held``: doubles of
    global memory, behind all sums of a launch, that a pair's accumulators take.
    """

    name: str
    form: str
    text: str
    threads: tuple[int, int]
    table: Ints
    scratch: int = 0
    dynamic: int = 0
    registers: int = 0
    pixels: int = 0
    held: int = 0

    def grid(self, pairs: int) -> int:
        """Blocks for that many pairs."""
        return -(-pairs // self.threads[0]) if self.form == "point" else pairs
