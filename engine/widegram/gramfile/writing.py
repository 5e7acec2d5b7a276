"""Filling a gram file batch by batch: a kill at any moment loses the batch in flight only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from widegram.closing import ClosedOnFailure, Closing
from widegram.durable import LiveFile
from widegram.durable.contents import checksum
from widegram.durable.hdf5 import check_readable, hdf5_errors
from widegram.errors import Interrupted, WidegramError, WriteFailed
from widegram.gramfile.diagonals import Diagonals, Stretch
from widegram.gramfile.header import CHECKSUMS, STATE, Header, read_header
from widegram.gramfile.renewing import renew
from widegram.gramfile.reserved import Moved, Reserved
from widegram.machine import interrupts
from widegram.machine.budgets import free_memory
from widegram.machine.clock import NO_CLOCK, Clock
from widegram.machine.log import logger
from widegram.tiling import transposed
from widegram.validation.finite import check_finite

Tile = tuple[int, int]
Arrays = Mapping[str, np.ndarray]
TileResult = tuple[int, int, Arrays]

# Largest relative difference of a recomputed block. On the device that wrote the file images agree
# to the bit; another block size lets the matrix product of vectors round differently, and another
# device sums in another order (measured tolerances of the contract: 1e-10 and, near c = 1, 1e-4).
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
_DEVICE_NOTE = "tiles come from {}: they differ by rounding, within {:g} of the largest entry"
# What a resumed run reads to compare checksums, unless it is asked to read everything.
_SAMPLE_BYTES = 1 << 28
_SAMPLE_TILES = 1 << 13
# The disk begins with so many bytes of a batch while the next ones are written.
_BEGIN_BYTES = 1 << 24
_NONE: Mapping[Stretch, Arrays] = {}


class GramWriter(Closing):
    """The one writer of a gram file; opened by :func:`open_for_resume`, closed by ``close``.

    It writes at known offsets and adds nothing to the file's metadata, which HDF5 only reads.
    ``renewed``: the metadata had been changed or damaged, and was made again. ``clock``: tells
    where the time of :meth:`write` goes.
    """

    def __init__(self, live: LiveFile, header: Header, reserved: Reserved, renewed: bool) -> None:
        self.renewed = renewed
        self.clock: Clock = NO_CLOCK
        # A file that memory cannot hold would take it, page by page, from everybody else.
        self._passing = live.size() > free_memory() // 2
        self.path = live.path
        self.header = header
        self.grid, self.layout = header.grid, header.layout
        self._live = live
        self._reserved = reserved
        self._state = live.read(STATE)
        self._diagonals = Diagonals(live, header.places)
        self.untouched = True  # until a tile is marked as finished here

    @property
    def complete(self) -> bool:
        """Whether the file says that every tile is finished."""
        return bool(self._reserved["complete"])

    def note_device(self, device: str, name: str) -> None:
        """Record in the file what computes the tiles from now on.

        Attribute ``device`` becomes ``device``; ``name`` (such as a card's) is added to
        ``device_name``, where it is not empty. Where several kinds of devices have filled the file,
        ``device_note`` says how far their values may differ.
        """
        noted = self._reserved["device_name"]
        names = dict.fromkeys(part for part in (*noted.split("; "), name) if part)
        wanted = {"device": device, "device_name": "; ".join(names)}
        if "," in device:
            wanted["device_note"] = _DEVICE_NOTE.format(
                device.replace(",", ", then "), TOLERANCES[self.header.dtype]
            )
        for attribute, value in wanted.items():
            if value != self._reserved[attribute]:
                self._reserved.set(attribute, value)
        self._live.sync()

    def pending(self) -> list[Tile]:
        """Tiles still to compute, in the order of :meth:`TileGrid.tiles`."""
        return self.layout.unfinished(self._state)

    def pending_stretches(self, tile: Tile | None = None) -> list[Stretch]:
        """Stretches of the diagonals still to compute; with ``tile`` those that are cheapest while
        it is computed."""
        if tile is None:
            return self._diagonals.pending()
        return [p for p in self.header.places.beside(*tile) if not self._diagonals.has(p)]

    def recheck(self, everything: bool = False) -> list[Tile]:
        """Compare finished tiles with their checksums, and take back those that are damaged.

        Returns the damaged ones (on and above the diagonal of a symmetric matrix), which are
        pending from then on; flags other than 0 and 1 count as damage. Without ``everything`` a
        random sample of 256 MB, at most 8,192 tiles, is read, all of what is smaller and of a file
        whose metadata had to be made again. Damaged stretches of the diagonals are pending too.
        """
        pending = set(self.pending())
        finished = [tile for tile in self.layout.tiles() if tile not in pending]
        if not (everything or self.renewed):
            size = self.grid.tile**2 * np.dtype(self.header.dtype).itemsize * len(self.header.keys)
            most = min(_SAMPLE_TILES, max(1, _SAMPLE_BYTES // (2 * size)))
            order = np.random.default_rng(len(finished)).permutation(len(finished))
            finished = [finished[k] for k in sorted(order[:most].tolist())]
        sums = {key: self._live.read(f"{CHECKSUMS}/{key}") for key in self.header.keys}
        damaged = set()
        for tile in finished:
            interrupts.check()
            if not self._intact(tile, sums):
                damaged.add(tile)
        odd = [(min(t), max(t)) if self.grid.symmetric else t for t in self._odd_flags()]
        found = sorted(damaged | set(odd))
        self.take_back(found, self._diagonals.damaged())
        return found

    def _odd_flags(self) -> list[Tile]:
        return [(i, j) for i, j in np.argwhere(self.layout.on_grid(self._state) > 1).tolist()]

    def _intact(self, tile: Tile, sums: dict[str, np.ndarray]) -> bool:
        for i, j in self.layout.both(tile):
            shape = len(self.grid.rows(i)), len(self.grid.cols(j))
            for key in self.header.keys:
                block = self._live.read(*self.layout.place(key, (i, j)), shape)
                if checksum(block) != sums[key][self.layout.at((i, j))]:
                    return False
        return True

    def take_back(self, tiles: Sequence[Tile], stretches: Sequence[Stretch] = ()) -> None:
        """Make tiles (and mirror images) and stretches of the diagonals pending again, and the file
        incomplete; on disk before the return."""
        if not tiles and not stretches:
            return
        self._reserved.set("complete", False)
        self._flag(tiles, stretches, 0)

    def _flag(self, tiles: Iterable[Tile], stretches: Sequence[Stretch], value: int) -> None:
        self._diagonals.flag(stretches, value)
        for tile in tiles:
            for place in map(self.layout.at, self.layout.both(tile)):
                self._live.write(STATE, np.full((1, 1), value, np.uint8), place)
                self._state[place] = value
        self._live.sync()

    def write(
        self, batch: Iterable[TileResult], stretches: Mapping[Stretch, Arrays] = _NONE
    ) -> None:
        """Store tiles ``(i, j, {key: array})`` and, in a symmetric matrix, their mirror images, and
        ``stretches`` of the diagonals.

        The data and checksums reach the disk before any tile is marked as finished. Raises
        :class:`WidegramError` for values that are not finite and :class:`WriteFailed` for write
        errors and for a file that has lost its name; the tiles marked before stay good.
        """
        finished, size, begun = [], 0, 0
        for i, j, arrays in batch:
            size += sum(self._store(key, i, j, arrays[key]) for key in self.header.keys)
            finished.append((i, j))
            if size - begun >= _BEGIN_BYTES:
                begun = size
                with self.clock.part("writing", "write", unit="bytes"):
                    self._live.begin_sync()
        for stretch, arrays in stretches.items():
            self._diagonals.store(stretch, arrays)
        with self.clock.part("writing", "flush", size, "bytes"):
            self._live.sync()
            if self._passing:
                self._forget(finished)
            self.untouched = False
            self._flag(finished, list(stretches), 1)
        self.check_place()

    def _forget(self, tiles: Iterable[Tile]) -> None:
        """Drop tiles, and mirror images, that are on the disk from memory."""
        for place in (place for tile in tiles for place in self.layout.both(tile)):
            shape = len(self.grid.rows(place[0])), len(self.grid.cols(place[1]))
            for key in self.header.keys:
                self._live.forget(*self.layout.place(key, place), shape)

    def check_place(self) -> None:
        """Raise :class:`WriteFailed` where the file was deleted, replaced or moved."""
        self._live.check_place()

    def _store(self, key: str, i: int, j: int, block: np.ndarray) -> int:
        """Write a tile of a dataset, and its mirror image; their bytes."""
        with self.clock.part("writing", "check", block.nbytes, "bytes"):
            self._check(key, i, j, block)
        places = self.layout.both((i, j))
        for tile in places:
            stored = block
            if tile != (i, j):
                with self.clock.part("writing", "mirror", block.nbytes, "bytes"):
                    stored = transposed(block)
            path, start = self.layout.place(key, tile)
            with self.clock.part("writing", "write", block.nbytes, "bytes"):
                self._live.write(path, stored, start)
            with self.clock.part("writing", "checksums", block.nbytes, "bytes"):
                digest = np.full((1, 1), checksum(stored), np.uint64)
            self._live.write(f"{CHECKSUMS}/{key}", digest, self.layout.at(tile))
        return len(places) * block.nbytes

    def _check(self, key: str, i: int, j: int, block: np.ndarray) -> None:
        rows, cols = self.grid.rows(i), self.grid.cols(j)
        if block.shape != (len(rows), len(cols)) or block.dtype != np.dtype(self.header.dtype):
            raise TypeError(f"tile {i},{j} of {key}: {block.dtype} {block.shape}")
        check_finite(key, block, rows.start, cols.start)

    def finish(self) -> None:
        """Mark the file as complete; RuntimeError while a tile or a stretch is missing."""
        if self.pending() or self.pending_stretches():
            raise RuntimeError("tiles or stretches are missing")
        self.check_place()
        if not self.complete:
            self._reserved.set("complete", True)
            self._live.sync()
        self.check_place()
        with hdf5_errors(self.path):
            self._reserved.check()

    def close(self) -> None:
        """Close the file and give up its lock."""
        self._live.close()


def open_for_resume(path: Path, header: Header) -> GramWriter:
    """Open an existing gram file for the run that ``header`` describes.

    A file whose metadata another program has changed, or that is damaged there, gets its own
    layout back first. Raises :class:`WidegramError` if the file comes from another run (saying
    what differs), is foreign or damaged beyond that, or has another writer.
    """
    check_readable(path, write=True)
    for renewed in (False, True):
        live = _live(path)
        with ClosedOnFailure(live), hdf5_errors(path):
            found: Header = live.inspect(lambda file: read_header(file, path))
            refuse_other_run(path, found, header)
            try:
                writer = _writer(live, found, renewed)
                _say_of_another_version(path, writer, header)
                return writer
            except Moved:
                if renewed:
                    raise ValueError("its metadata cannot be made again") from None
            logger.warning("%s: its metadata was changed or damaged; it is made again", path)
            renew(live, found)
        live.close()
    raise AssertionError


@contextmanager
def opened(path: Path, header: Header, new: bool) -> Iterator[GramWriter]:
    """A file that is written. A ``new`` one whose first tile already is refused goes again: it
    holds nothing."""
    untouched = False
    try:
        with open_for_resume(path, header) as writer:
            try:
                yield writer
            finally:
                untouched = writer.untouched
    except (Interrupted, WriteFailed):
        raise
    except WidegramError:
        if new and untouched:
            with suppress(OSError):
                path.unlink()
        raise


def _writer(live: LiveFile, header: Header, renewed: bool) -> GramWriter:
    writer = GramWriter(live, header, Reserved(live), renewed)
    if writer.complete:
        # None, unless a flag is damaged.
        writer.take_back(writer.pending(), writer.pending_stretches())
    return writer


def _say_of_another_version(path: Path, writer: GramWriter, wanted: Header) -> None:
    """Warn of an unfinished file that another version of the program began."""
    began = writer.header.program_version
    if not writer.complete and began != wanted.program_version:
        logger.warning(
            "%s: widegram %s began it, and %s goes on: last digits may differ between their tiles",
            path, began, wanted.program_version,
        )  # fmt: skip


def _live(path: Path) -> LiveFile:
    with hdf5_errors(path):
        return LiveFile(path)


def refuse_other_run(path: Path, found: Header, wanted: Header) -> None:
    """Raise if the file's header and the wanted one differ in what decides the values."""
    if differences := found.differences(wanted):
        raise WidegramError(
            f"{path}: is the output of another run: {'; '.join(differences)}; "
            "choose another --out or pass --overwrite"
        )
