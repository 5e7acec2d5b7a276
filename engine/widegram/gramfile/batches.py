"""When a batch of tiles is written: after some seconds, tiles or bytes."""

from __future__ import annotations

from widegram.gramfile.writing import TileResult
from widegram.machine.progress import Meter

BATCH_SECONDS = 5.0
BATCH_SHARE = 8
"""A batch has at most one part in so many of a memory budget."""


class Batch:
    """Tiles that are written together, and whether they are ``full``.

    They are after :data:`BATCH_SECONDS` on the ``meter``, as ``most`` tiles, or where their arrays
    take a share of ``memory`` bytes.
    """

    def __init__(self, meter: Meter, most: int, memory: int) -> None:
        self._meter, self._most, self._most_bytes = meter, most, memory // BATCH_SHARE
        self.begin()

    def begin(self) -> None:
        """Empty the batch."""
        self.tiles: list[TileResult] = []
        self._bytes, self._end = 0, self._meter.seconds + BATCH_SECONDS

    def add(self, tile: TileResult) -> None:
        """One more tile."""
        self.tiles.append(tile)
        self._bytes += sum(array.nbytes for array in tile[2].values())

    @property
    def full(self) -> bool:
        """Whether it is to be written."""
        return (
            len(self.tiles) >= self._most
            or self._bytes >= self._most_bytes
            or self._meter.seconds >= self._end
        )
