"""The matrix of shards: copied into a gram file, or seen through a virtual one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from widegram.durable.outputs import check_disk, check_target
from widegram.errors import Interrupted, WidegramError
from widegram.gramfile import elsewhere
from widegram.gramfile.batches import BATCH_SECONDS, Batch
from widegram.gramfile.diagonals import Stretch, flags_path, sums_path, values_path
from widegram.gramfile.header import CHECKSUMS, STATE, Header
from widegram.gramfile.opening import create, new_gram, read
from widegram.gramfile.shardfile import ShardFile
from widegram.gramfile.writing import GramWriter, opened, refuse_other_run
from widegram.machine import interrupts
from widegram.machine.budgets import kernel_budget
from widegram.machine.progress import Meter, ProgressCallback, StopRequest, counting
from widegram.sharding import Shard, shard_of
from widegram.validation.arrays import file_path

_BATCH_TILES = 256
_SHOWN = 5


class JoinResult(NamedTuple):
    """What one run of :func:`join` did.

    * ``shards``: how many there are
    * ``entries``: of each matrix that were copied in this run, in ``seconds``
    * ``tiles``: in all; ``resumed_tiles`` of them were there at the start
    * ``complete``, ``virtual``: what the file is
    """

    shards: int
    entries: int
    seconds: float
    resumed_tiles: int
    tiles: int
    complete: bool
    virtual: bool


class SeenShard(NamedTuple):
    """A shard that was looked at: where it lies, its header, its digest."""

    path: Path
    header: Header
    digest: int


def join(
    out: str | Path,
    *,
    virtual: bool = False,
    memory: str | int | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> JoinResult:
    """Make the gram file ``out`` of ``<out>.shard-K-of-N``, which :func:`widegram.gram` wrote.

    All shards have to be there, complete, undamaged and of one run: network, data, kernels, dtype,
    kind of device, tile and program version. They are copied tile by tile within ``memory``, each
    tile compared with its checksum; the file has the bits that one run would have given it. An
    unfinished ``out`` is gone on with, a complete one of the same run is left as it is. With
    ``virtual`` nothing is copied: the matrices of ``out`` are HDF5 virtual datasets over the
    shards, which have to stay where they are; opening it with this program compares them with what
    they were. ``overwrite``: replace ``out`` whatever it is. ``progress`` counts entries.

    Raises :class:`WidegramError` naming a shard that is missing, of another run, unfinished,
    damaged or being written, and for an ``out`` that is something else; :class:`Interrupted` after
    the first SIGINT or SIGTERM, with what was copied kept.
    """
    path = file_path(out, "out")
    shards = _known(path)
    whole = replace(shards[0].header, shard=None)
    budget = kernel_budget(memory)
    if overwrite or not path.exists():
        check_target(path, overwrite)
        if virtual:
            return _seen_through(path, whole, shards, overwrite, progress)
        create(path, whole, overwrite)
        return _filled(path, whole, shards, budget, progress, new=True)
    wanted = replace(whole, elsewhere=(path.name, len(shards))) if virtual else whole
    if _is_complete(path, wanted):
        tiles = len(whole.grid.tiles())
        return JoinResult(len(shards), 0, 0.0, tiles, tiles, True, virtual)
    return _filled(path, whole, shards, budget, progress, new=False)


def _known(out: Path) -> list[SeenShard]:
    """The shards of ``out``, looked at: all there, and of one run."""
    known = []
    for path in _files(out):
        interrupts.check()
        with ShardFile(path) as shard:
            known.append(SeenShard(path, shard.header, shard.digest()))
    total = len(known)
    common = Counter(map(_run, known)).most_common(1)[0][0]
    model = next(one for one in known if _run(one) == common)
    for number, one in enumerate(known, 1):
        differences = one.header.differences(replace(model.header, shard=Shard(number, total)))
        version, wanted = one.header.program_version, model.header.program_version
        if version != wanted:
            differences.append(f"version {version} of the program wrote it, not {wanted}")
        if differences:
            raise WidegramError(
                f"{one.path}: is of another run than {model.path.name}: {'; '.join(differences)}; "
                "compute it again"
            )
    return known


def _run(one: SeenShard) -> int:
    """What shards of one run have in common."""
    header = replace(one.header, shard=None, x1_location="", x2_location="")
    return hash((header.checksum(), header.device, header.diagonals))


def _files(out: Path) -> list[Path]:
    """The files of all shards of a matrix, the first first."""
    if (itself := shard_of(out)) is not None:
        raise WidegramError(f"{out}: is the name of a shard; name the matrix, {itself[0]}")
    folder = out.parent
    there = folder.iterdir() if folder.is_dir() else iter(())
    named = [found for path in there if (found := shard_of(path)) and found[0].name == out.name]
    totals = sorted({shard.total for _, shard in named})
    if not totals:
        raise WidegramError(
            f"{out}: no shard of it is in {folder}; `widegram gram --shard K/N --out {out}` writes "
            f"{out.name}.shard-K-of-N"
        )
    if len(totals) > 1:
        raise WidegramError(
            f"{out}: shards of {' and of '.join(map(str, totals))} are there; remove those that "
            "are not to be joined"
        )
    total = totals[0]
    missing = sorted({*range(1, total + 1)} - {shard.number for _, shard in named})
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if missing[_SHOWN:] else "")
        raise WidegramError(
            f"{out}: {len(missing)} of {total} shards are missing: {shown}; run `widegram gram "
            f"--shard {missing[0]}/{total}` and put {Shard(missing[0], total).file(out).name} there"
        )
    return [Shard(number, total).file(out) for number in range(1, total + 1)]


def _is_complete(path: Path, wanted: Header) -> bool:
    """Whether an existing file of the same run is complete; raises if it is another's."""
    file, found = read(path)
    with file:
        refuse_other_run(path, found, wanted)
        return bool(file.attrs["complete"])


def _filled(
    path: Path,
    whole: Header,
    shards: list[SeenShard],
    memory: int,
    progress: ProgressCallback | None,
    new: bool,
) -> JoinResult:
    """Copy what ``path`` lacks from the shards."""
    with opened(path, whole, new) as writer:
        if not new:
            writer.recheck()
        pending = set(writer.pending())
        tiles, grid = len(writer.layout.tiles()), writer.grid
        missing = sum(grid.entries(*tile) for tile in pending)
        meter = Meter(grid.n1 * grid.n2, grid.n1 * grid.n2 - missing, progress)
        copy = _Joiner(writer, pending, meter, memory)
        with (
            StopRequest() as stop,
            interrupts.keeping(partial(_kept, path, copy, tiles)),
            interrupts.finishing("the batch in work", lambda: BATCH_SECONDS),
        ):
            for known in shards:
                if stop.requested:
                    break
                copy.take(known, stop)
        if writer.pending() or writer.pending_stretches():
            raise Interrupted(_kept(path, copy, tiles))
        writer.finish()
    return JoinResult(
        shards=len(shards),
        entries=meter.entries,
        seconds=meter.seconds,
        resumed_tiles=tiles - copy.asked,
        tiles=tiles,
        complete=True,
        virtual=False,
    )


def _kept(path: Path, copy: _Joiner, tiles: int) -> str:
    """What an interrupted run leaves."""
    done = tiles - len(copy.pending)
    return (
        f"{path}: interrupted, {done} of {tiles} tiles are joined; run the same command again to "
        "go on"
    )


class _Joiner:
    """Copies the ``pending`` tiles of a file out of one shard after another, in batches of a
    share of ``memory``."""

    def __init__(
        self, writer: GramWriter, pending: set[tuple[int, int]], meter: Meter, memory: int
    ) -> None:
        self.pending, self.asked = pending, len(pending)
        self._writer, self._meter = writer, meter
        self._batch = Batch(meter, _BATCH_TILES, memory)
        self._stretches = set(writer.pending_stretches())

    def take(self, known: SeenShard, stop: StopRequest) -> None:
        """Copy what one shard has, until a stop; WidegramError where it was changed meanwhile."""
        with ShardFile(known.path) as shard:
            if shard.digest() != known.digest:
                raise WidegramError(f"{known.path}: was changed meanwhile; run again")
            texts = shard.texts
            self._writer.note_device(shard.header.device, texts["device_name"])
            for tile in (tile for tile in shard.layout.tiles() if tile in self.pending):
                if stop.requested:
                    break
                interrupts.check()
                self._batch.add((*tile, self._tile(shard, tile)))
                if self._batch.full:
                    self._write()
            self._write()
            if not stop.requested:
                here = [one for one in shard.header.places.stretches() if one in self._stretches]
                self._diagonals(shard, here)

    def _tile(self, shard: ShardFile, tile: tuple[int, int]) -> dict[str, np.ndarray]:
        """A tile of every matrix; its mirror images are compared with their checksums too."""
        grid = self._writer.grid
        advance = self._meter.begin_tile(grid.entries(*tile), 1)
        found = {}
        for key in shard.header.keys:
            found[key], *mirrors = (shard.tile(key, one) for one in shard.layout.both(tile))
            if any(not np.array_equal(mirror.T, found[key]) for mirror in mirrors):
                raise WidegramError(f"{shard.path}: is damaged: {key} is not symmetric there")
        advance(1)
        self._meter.end_tile(grid.entries(*tile))
        return found

    def _write(self) -> None:
        tiles = self._batch.tiles
        if tiles:
            with interrupts.saving():
                self._writer.write(tiles)
            self.pending.difference_update((i, j) for i, j, _ in tiles)
        self._batch.begin()

    def _diagonals(self, shard: ShardFile, stretches: list[Stretch]) -> None:
        if stretches:
            with interrupts.saving():
                self._writer.write([], {one: shard.diagonal(one) for one in stretches})


def _seen_through(
    path: Path,
    whole: Header,
    shards: list[SeenShard],
    overwrite: bool,
    progress: ProgressCallback | None,
) -> JoinResult:
    """Write the virtual file; every tile of every shard is compared with its checksum."""
    if path.is_symlink():
        raise WidegramError(f"{path}: is a link; a virtual file lies beside its shards")
    header = replace(whole, elsewhere=(path.name, len(shards)))
    check_disk(path, header.file_bytes())
    table, names, done = [], list[str](), 0
    total = len(whole.grid.tiles())
    tell = counting(progress, total, "tiles")
    for known in shards:
        with ShardFile(known.path) as shard:
            shard.check_tiles()
            table.append(elsewhere.row_of(shard))
            texts = shard.texts
            names += texts["device_name"].split("; ")
            done += shard.layout.count
            tell(done)
    texts["device_name"] = "; ".join(name for name in dict.fromkeys(names) if name)
    describe = partial(elsewhere.describe, header=header)
    with new_gram(path, header, texts, overwrite=overwrite, virtual=describe) as new:
        new.write(STATE, np.ones(whole.grid.shape, np.uint8))
        new.write(elsewhere.TABLE, np.array(table, np.uint64))
        for key in whole.keys:
            sums = np.zeros(whole.grid.shape, np.uint64)
            for known in shards:
                with ShardFile(known.path) as shard:
                    sums += shard.layout.on_grid(shard.sums(key))
            new.write(f"{CHECKSUMS}/{key}", sums)
        for known in shards:
            with ShardFile(known.path) as shard:
                for stretch in shard.header.places.stretches():
                    number, span = stretch.number, stretch.span(whole.grid)
                    for key, values in shard.diagonal(stretch).items():
                        new.write(values_path(stretch.side, key), values, span.start)
                        stored = shard.raw(sums_path(stretch.side, key))
                        at = shard.header.places.at(stretch)
                        new.write(sums_path(stretch.side, key), stored[at : at + 1], number)
                    new.write(flags_path(stretch.side), np.ones(1, np.uint8), number)
    return JoinResult(len(shards), 0, 0.0, 0, total, True, True)
