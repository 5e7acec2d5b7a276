"""What a run puts into its gram file: batches of tiles, and the diagonals beside them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from widegram.backends.evaluator import Evaluator
from widegram.closing import Closing
from widegram.computing.devices import joined, kind_of
from widegram.computing.in_memory import diagonal_within
from widegram.gramfile.diagonals import Stretch
from widegram.gramfile.writing import Arrays, GramWriter, TileResult
from widegram.machine import interrupts
from widegram.machine.clock import Clock

Stretches = dict[Stretch, Arrays]
# Batches in memory: one that is written while the next one is computed.
BATCHES = 2


class Saver(Closing):
    """Computes diagonals, and writes batches of tiles that ``device`` computed, in a thread.

    ``finished``: tiles that are on the disk. The file names the device right before its first tile
    is marked as finished: a kill between the two leaves a name too many, never one too few.
    ``clock``: of the run. The block that uses one closes it, before the writer.
    """

    def __init__(
        self, writer: GramWriter, evaluator: Evaluator, device: str, clock: Clock
    ) -> None:
        tiles = len(writer.layout.tiles())
        self.path, self.finished, self.clock = writer.path, tiles - len(writer.pending()), clock
        begun = self.finished > 0
        self._writer, self._evaluator, self._noted = writer, evaluator, False
        self.grid, self.keys, self.dtype = writer.grid, writer.header.keys, writer.header.dtype
        self._device = joined(writer.header.device, device) if begun else kind_of(device)
        self._name = evaluator.device_name
        self._thread = ThreadPoolExecutor(1, "saving")
        self._saving: Future[None] | None = None
        self._on_their_way: Mapping[Stretch, Arrays] = {}

    def save(self, batch: list[TileResult], stretches: Stretches | None = None) -> None:
        """Begin to write tiles and stretches of diagonals, once those before are on the disk; they
        are finished when :meth:`wait` returns. Raises what that does."""
        if not batch and not stretches:
            return
        self.wait()
        device = None if self._noted else self._device
        self._noted, self._on_their_way = True, stretches or {}
        self._saving = self._thread.submit(self._save, batch, self._on_their_way, device)

    def wait(self) -> None:
        """Wait until all that was given to :meth:`save` is on the disk; raises what writing it
        did."""
        if self._saving is not None:
            with self.clock.part("computing", "wait for disk"):
                self._saving.result()
            self._saving, self._on_their_way = None, {}

    def _save(
        self, batch: list[TileResult], stretches: Mapping[Stretch, Arrays], device: str | None
    ) -> None:
        with interrupts.saving():
            if device is not None:
                self._writer.note_device(device, self._name)
            self._writer.write(batch, stretches)
        self.finished += len(batch)

    def computed_by(self, device: str) -> None:
        """What is saved from now on may come from this kind of device too."""
        kinds = joined(self._device, device)
        if kinds != self._device:
            self._device, self._noted = kinds, False

    def beside(self, tile: tuple[int, int], unsaved: Stretches) -> list[Stretch]:
        """Stretches of the diagonals to compute with a tile, but for those that are ``unsaved``."""
        pending = self._writer.pending_stretches(tile)
        return [s for s in pending if s not in unsaved and s not in self._on_their_way]

    def stretches(self, wanted: list[Stretch]) -> Stretches:
        """Compute stretches of the diagonals."""
        return {
            stretch: diagonal_within(self._evaluator, stretch.span(self.grid), stretch.second)
            for stretch in wanted
        }

    def close(self) -> None:
        """Wait for what is being written, whatever becomes of it."""
        self._thread.shutdown()
