"""What a run puts into its gram file: batches of tiles, and the diagonals beside them."""

from __future__ import annotations

from collections import deque
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
# Batches in memory: one that is written, one that waits for it, one that is computed.
BATCHES = 3


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
        self._saving: deque[tuple[Future[None], Stretches]] = deque()
        self._failed = False

    def save(self, batch: list[TileResult], stretches: Stretches | None = None) -> None:
        """Begin to write tiles and stretches of diagonals, once there is room for the next batch;
        they are finished when :meth:`wait` returns. Raises what writing earlier ones did."""
        if not batch and not stretches:
            return
        self._wait(BATCHES - 2)
        device = None if self._noted else self._device
        self._noted, given = True, stretches or {}
        self._saving.append((self._thread.submit(self._save, batch, given, device), given))

    def wait(self) -> None:
        """Wait until all that was given to :meth:`save` is on the disk; raises what writing it
        did."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        """Wait until at most so many batches are on their way."""
        while len(self._saving) > most:
            with self.clock.part("computing", "wait for disk"):
                self._saving[0][0].result()
            self._saving.popleft()

    def _save(
        self, batch: list[TileResult], stretches: Stretches, device: str | None
    ) -> None:
        """Write a batch, unless one before it failed: that error ends the run."""
        if self._failed:
            return
        self._failed = True
        with interrupts.saving():
            if device is not None:
                self._writer.note_device(device, self._name)
            self._writer.write(batch, stretches)
        self.finished += len(batch)
        self._failed = False

    def computed_by(self, device: str) -> None:
        """What is saved from now on may come from this kind of device too."""
        kinds = joined(self._device, device)
        if kinds != self._device:
            self._device, self._noted = kinds, False

    def beside(self, tile: tuple[int, int], unsaved: Stretches) -> list[Stretch]:
        """Stretches of the diagonals to compute with a tile, but for those that are ``unsaved``."""
        pending = self._writer.pending_stretches(tile)
        elsewhere = unsaved, *(given for _, given in self._saving)
        return [s for s in pending if not any(s in some for some in elsewhere)]

    def stretches(self, wanted: list[Stretch]) -> Stretches:
        """Compute stretches of the diagonals."""
        return {
            stretch: diagonal_within(self._evaluator, stretch.span(self.grid), stretch.second)
            for stretch in wanted
        }

    def close(self) -> None:
        """Wait for what is being written, whatever becomes of it."""
        self._thread.shutdown()
