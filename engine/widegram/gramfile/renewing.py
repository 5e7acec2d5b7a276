"""A gram file that another program has changed gets its own layout back."""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np

from widegram.durable import LiveFile
from widegram.gramfile.header import CHECKSUMS, STATE, Header
from widegram.gramfile.opening import new_gram
from widegram.gramfile.reserved import SIZES
from widegram.machine import interrupts
from widegram.tiling import LARGEST_TILE


def renew(live: LiveFile, header: Header) -> None:
    """Replace a locked gram file by one of the same data with every attribute at its own place.

    Tiles, checksums, flags and the names of devices are copied; ``complete`` becomes false, and
    true again once a run has found every tile finished. Raises ValueError where a dataset is
    stored in another way than this program stores it.
    """
    names = [STATE, *(f"{CHECKSUMS}/{key}" for key in header.keys)]
    names += [one.path for key in header.keys for one in header.layout.stored(key)]
    diagonals = [name for name, _, _ in header.places.datasets()]
    if missing := [name for name in (*names, *diagonals) if name not in live.extents]:
        raise ValueError(f"dataset {missing[0]} is stored in another way than by this program")
    with new_gram(live.target, header, live.inspect(_texts), overwrite=True, ours=True) as new:
        for name in diagonals:
            new.write(name, live.read(name))
        for name in names:
            extent = live.extents[name]
            for start, shape in _blocks(extent.shape, _block(extent.chunk)):
                interrupts.check()
                new.write(name, live.read(name, start, shape), start)


def _texts(file: h5py.File) -> dict[str, str]:
    return {name: str(file.attrs.get(name, "")) for name in SIZES}


def _block(chunk: tuple[int, ...]) -> tuple[int, int]:
    """What is copied at once: a chunk, of a contiguous dataset some rows and columns."""
    return min(chunk[0], LARGEST_TILE), min(chunk[1], LARGEST_TILE)


def _blocks(
    shape: tuple[int, ...], block: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(start, shape) of the blocks of a matrix; whole ones lie in one chunk each."""
    for row in np.arange(0, shape[0], block[0]).tolist():
        for col in np.arange(0, shape[1], block[1]).tolist():
            yield (row, col), (min(block[0], shape[0] - row), min(block[1], shape[1] - col))
