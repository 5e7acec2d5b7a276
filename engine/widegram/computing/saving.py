"""What a run puts into its gram file: batches of tiles, and the diagonals beside them."""

from __future__ import annotations

from widegram.backends.evaluator import Evaluator
from widegram.computing.devices import joined, kind_of
from widegram.computing.in_memory import diagonal_within
from widegram.gramfile.diagonals import Stretch
from widegram.gramfile.writing import Arrays, GramWriter, TileResult
from widegram.machine import interrupts

Stretches = dict[Stretch, Arrays]


class Saver:
    """Computes diagonals, and writes batches of tiles that ``device`` computed.

    ``finished``: tiles so far. The file names the device right before its first tile is marked as
    finished: a kill between the two leaves a name too many, never one too few.
    """

    def __init__(self, writer: GramWriter, evaluator: Evaluator, device: str) -> None:
        tiles = len(writer.layout.tiles())
        self.path, self.finished = writer.path, tiles - len(writer.pending())
        begun = self.finished > 0
        self._writer, self._evaluator, self._noted = writer, evaluator, False
        self.grid, self.keys, self.dtype = writer.grid, writer.header.keys, writer.header.dtype
        self._device = joined(writer.header.device, device) if begun else kind_of(device)
        self._name = evaluator.device_name

    def save(self, batch: list[TileResult], stretches: Stretches | None = None) -> None:
        """Write tiles and stretches of diagonals, which then are finished."""
        if not batch and not stretches:
            return
        if not self._noted:
            self._writer.note_device(self._device, self._name)
            self._noted = True
        with interrupts.saving():
            self._writer.write(batch, stretches or {})
        self.finished += len(batch)

    def computed_by(self, device: str) -> None:
        """What is saved from now on may come from this kind of device too."""
        kinds = joined(self._device, device)
        if kinds != self._device:
            self._device, self._noted = kinds, False

    def beside(self, tile: tuple[int, int], unsaved: Stretches) -> list[Stretch]:
        """Stretches of the diagonals to compute with a tile, but for those that are ``unsaved``."""
        return [one for one in self._writer.pending_stretches(tile) if one not in unsaved]

    def stretches(self, wanted: list[Stretch]) -> Stretches:
        """Compute stretches of the diagonals."""
        return {
            stretch: diagonal_within(self._evaluator, stretch.span(self.grid), stretch.second)
            for stretch in wanted
        }
