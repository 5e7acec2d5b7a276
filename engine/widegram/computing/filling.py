"""Filling a gram file: batches of tiles, what a stop or a failure leaves, and the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from widegram.backends.evaluator import Evaluator
from widegram.computing.order import in_order
from widegram.computing.saving import BATCHES, Saver, Stretches
from widegram.computing.supply import Found, LocalSupply, Supply, Tiles
from widegram.errors import Interrupted, WidegramError
from widegram.gramfile.batches import Batch
from widegram.gramfile.diagonals import Stretch
from widegram.gramfile.writing import GramWriter, TileResult
from widegram.machine import interrupts
from widegram.machine.clock import NO_CLOCK, Clock, Spent
from widegram.machine.progress import Meter, ProgressCallback, StopRequest

BATCH_TILES = 32
_PARTS = {
    "computing": ("compute", "wait for workers", "diagonals", "wait for disk", "other"),
    "writing": ("check", "mirror", "checksums", "write", "flush", "wait for tiles"),
}
Supplying = Callable[[Evaluator, Saver, Tiles, Meter], Supply]


class GramResult(NamedTuple):
    """What one run did.

    * ``entries``: of each matrix, settled in this run, mirror images included
    * ``seconds``: its wall time; ``entries_per_second``: their quotient
    * ``resumed_tiles``: found finished at the start, out of ``tiles``
    * ``tile``: the side of a tile
    * ``complete``: whether the file is
    * ``series_error``: the relative error of activations without a closed form (of E[phi^2] or
      E[phi'^2], in one layer), None for networks without one
    * ``damaged_tiles``: of an earlier run that had lost their checksums, and were computed again
    * ``copied_entries``: of each matrix, that were in the file that this one grew from; they are
      not among ``entries``
    * ``profile``: where the seconds went, None unless it was asked for
    """

    entries: int
    seconds: float
    entries_per_second: float
    resumed_tiles: int
    tiles: int
    tile: int
    complete: bool
    series_error: float | None = None
    damaged_tiles: int = 0
    copied_entries: int = 0
    profile: tuple[Spent, ...] | None = None


def fill(
    writer: GramWriter,
    evaluator: Evaluator,
    device: str,
    memory: int,
    progress: ProgressCallback | None = None,
    recheck_data: Callable[[], None] | None = None,
    supplying: Supplying = LocalSupply,
    profile: bool = False,
) -> GramResult:
    """Compute and store every pending tile of an open file on ``device``, the evaluator's.

    A batch ends after five seconds, 32 tiles or a 24th of ``memory`` bytes, and is written while
    the next ones are computed. Raises :class:`Interrupted` after a signal and what the
    evaluator raises, with every tile computed so far stored. ``recheck_data`` raises where the
    inputs were changed meanwhile: then the tiles of this run are taken back. ``supplying`` makes
    what the tiles come from. ``profile``: measure where the time goes.
    """
    grid, tiles = writer.grid, writer.layout.tiles()
    lacking = set(writer.pending())
    pending = [tile for tile in in_order(grid, evaluator) if tile in lacking]
    lacking_stretches = writer.pending_stretches()
    total, missing = (sum(grid.entries(i, j) for i, j in some) for some in (tiles, pending))
    meter = Meter(total, total - missing, progress)
    writer.clock = Clock() if profile else NO_CLOCK
    with (
        StopRequest() as stop,
        Saver(writer, evaluator, device, writer.clock) as saver,
        interrupts.keeping(lambda: _kept(saver, tiles)),
        supplying(evaluator, saver, pending, meter) as supply,
        interrupts.finishing(supply.what, supply.seconds_left, supply.stoppable),
    ):
        while supply.left and not (stop.requested or supply.cut):
            batch = Batch(meter, BATCH_TILES, memory // BATCHES)
            stretches: Stretches = {}
            try:
                _compute(batch, stretches, supply, stop)
            except interrupts.Stopped:
                pass  # The tile in work is lost, those before it are not.
            except BaseException:  # Whatever ends the run: finished tiles are saved first.
                with suppress(Exception):  # The first error is the one to show.
                    _save(saver, supply.unasked(), batch.tiles, stretches)
                    saver.wait()
                raise
            saver.save(batch.tiles, stretches)
        _save(saver, supply.unasked(), [], {})
        saver.wait()
        with suppress(interrupts.Stopped):
            while not (stop.requested or supply.cut) and (rest := writer.pending_stretches()):
                saver.save([], saver.stretches(rest[:1]))
                saver.wait()
    if writer.pending() or writer.pending_stretches():
        raise Interrupted(_kept(saver, tiles, supply.cut))
    _settle(writer, pending, lacking_stretches, recheck_data)
    seconds = meter.seconds
    return GramResult(
        entries=meter.entries,
        seconds=seconds,
        entries_per_second=meter.entries / seconds if meter.entries else 0.0,
        resumed_tiles=len(tiles) - len(pending),
        tiles=len(tiles),
        tile=grid.tile,
        complete=True,
        series_error=evaluator.series_error,
        profile=writer.clock.parts(seconds, _PARTS) if profile else None,
    )


def _compute(batch: Batch, stretches: Stretches, supply: Supply, stop: StopRequest) -> None:
    """Compute the next tiles into the empty ``batch``, at least one, until it is full or a stop,
    and the ``stretches`` of diagonals that are cheapest beside them."""
    while supply.left and not stop.requested:
        found = supply.next(stretches)
        if found is None:
            return
        batch.add(found.tile)
        stretches.update(found.stretches)
        if batch.full:
            break


def _save(
    saver: Saver, found: list[Found], batch: list[TileResult], stretches: Stretches
) -> None:
    """Write a batch, and with it what was ``found`` beyond it."""
    for one in found:
        stretches.update(one.stretches)
    saver.save(batch + [one.tile for one in found], stretches)


def _settle(
    writer: GramWriter,
    made: list[tuple[int, int]],
    stretches: list[Stretch],
    recheck_data: Callable[[], None] | None,
) -> None:
    """Mark the file as complete, if the tiles ``made`` by this run, and the ``stretches`` of
    diagonals, may be trusted."""
    try:
        if recheck_data is not None and (made or stretches):
            recheck_data()
    except WidegramError as error:
        writer.take_back(made, stretches)
        raise WidegramError(
            f"{writer.path}: is not complete: {error}; the {len(made)} tiles of this run are not "
            "kept; put the data back and run the same command again, or pass --overwrite"
        ) from error
    writer.finish()


def _kept(saver: Saver, tiles: Tiles, why: str = "") -> str:
    """What an interrupted run leaves, said without a look into the file."""
    return (
        f"{saver.path}: {why or 'interrupted'}, {saver.finished} of {len(tiles)} tiles are saved; "
        "run the same command again to resume"
    )
