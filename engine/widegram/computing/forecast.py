"""What a gram run would take, from its sizes and a trial of some seconds; nothing is written."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.computing.choosing import make_evaluator
from widegram.computing.devices import device_for
from widegram.computing.filling import BATCH_TILES
from widegram.computing.gram import default_side, header_of
from widegram.computing.job import make_job
from widegram.computing.saving import BATCHES
from widegram.computing.tile_queue import tiles_at_once
from widegram.data import Source
from widegram.data.patterns import patterned
from widegram.durable.outputs import free_disk
from widegram.errors import WidegramError
from widegram.gramfile.batches import BATCH_SHARE
from widegram.gramfile.header import Header
from widegram.machine import budgets, interrupts
from widegram.machine.dtypes import ITEMSIZE
from widegram.network import NetworkLike
from widegram.sharding import cuts, parse_shard
from widegram.tiling import TileGrid
from widegram.validation.arrays import file_path, integer
from widegram.validation.choices import KERNELS

_SMALL = 16  # side of the first blocks
_MORE = 1.02  # step by which more workers are tried


class GramForecast(NamedTuple):
    """What a run would take, without starting it.

    * ``entries`` of each matrix, in ``tiles`` of side ``tile``
    * ``disk``: bytes of the file; ``free_disk``: those that are free where it would lie
    * ``memory``: bytes of the process at its peak
    * ``compile_seconds``: until the first entry is there, once on this machine
    * ``seconds``: of computing, on this machine and device; ``entries_per_second``
    * ``trial_seconds``: what that was measured in
    * ``device``: where
    * ``workers``: shards, or workers, of this kind that end before the ``deadline`` (seconds);
      None without one, and where even one tile each does not
    """

    entries: int
    tiles: int
    tile: int
    disk: int
    free_disk: int
    memory: int
    compile_seconds: float
    seconds: float
    entries_per_second: float
    trial_seconds: float
    device: str
    deadline: float | None
    workers: int | None


def gram_forecast(  # noqa: PLR0913 - public: by keyword, one for each option of the command
    network: NetworkLike,
    x1: str | Path | np.ndarray | Source,
    out: str | Path,
    x2: str | Path | np.ndarray | Source | None = None,
    *,
    get: str | Sequence[str] = KERNELS,
    dtype: str = "float32",
    device: str = "auto",
    depths: Sequence[int] | None = None,
    tile: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
    accept_series_error: float | None = None,
    pattern: Any = None,
    shard: str | tuple[int, int] | None = None,
    deadline: float | None = None,
) -> GramForecast:
    """What :func:`widegram.gram` with these arguments would take; no file is made.

    Blocks of the matrix are computed for about five seconds (``TRIAL_SECONDS``), of the size of
    a tile where one takes no longer. With ``deadline`` in seconds also how many shards or workers
    like this machine end in time. Raises :class:`WidegramError` as ``gram`` does.
    """
    if deadline is not None and not deadline > 0:
        raise WidegramError(f"deadline {deadline}: give a time, such as 8h")
    first, second = patterned(x1, x2, pattern)
    job = make_job(network, first, second, get, dtype, depths, threads, memory, accept_series_error)
    path = file_path(out, "out")
    share = None if shard is None else parse_shard(shard)
    device = device_for(device, job.network)
    begun = time.perf_counter()
    with make_evaluator(device, job) as evaluator:
        chosen = default_side(job, evaluator, share, memory, tiles_at_once(evaluator))
        side = integer(tile or chosen, "tile", 1)
        header = header_of(job, device, side, share, fingerprints=False)
        trial = _tried(evaluator, header.grid, begun)
        peak = _peak(job, evaluator, header)
    grid, mine = header.grid, header.layout.tiles()
    entries = sum(grid.entries(i, j) for i, j in mine)
    workers = None if deadline is None else _workers(grid, trial, deadline)
    return GramForecast(
        entries=entries,
        tiles=len(mine),
        tile=header.tile,
        disk=header.file_bytes(),
        free_disk=free_disk(path),
        memory=peak,
        compile_seconds=trial.compiling,
        seconds=trial.seconds(grid, entries),
        entries_per_second=entries / trial.seconds(grid, entries),
        trial_seconds=trial.took,
        device=device,
        deadline=deadline,
        workers=workers,
    )


class _Trial(NamedTuple):
    """Seconds until the first entry, of a pair of inputs, of K(x, x), of the whole trial."""

    compiling: float
    pair: float
    own: float
    took: float

    def seconds(self, grid: TileGrid, entries: int) -> float:
        """The time that some entries take, with their share of the diagonals."""
        whole = grid.n1 * grid.n2
        inputs = grid.n1 if grid.symmetric else grid.n1 + grid.n2
        pairs = entries / 2 if grid.symmetric else entries
        return pairs * self.pair + inputs * self.own * entries / whole


def _tried(evaluator: Evaluator, grid: TileGrid, begun: float) -> _Trial:
    """Blocks that grow up to a tile, then such tiles, for as long as a trial may take."""
    side = min(_SMALL, grid.tile)
    evaluator.tile(*_block(grid, side, 0), grid.symmetric)
    evaluator.diagonal(range(min(side, grid.n1)))
    compiling = time.perf_counter() - begun
    start, number = time.perf_counter(), 1
    rows = range(min(side, grid.n1))
    evaluator.diagonal(rows)
    own = (time.perf_counter() - start) / len(rows)
    done, spent = 0.0, 0.0
    while True:
        interrupts.check()
        block, moment = _block(grid, side, number), time.perf_counter()
        evaluator.tile(*block, grid.symmetric)
        took = time.perf_counter() - moment
        halved = grid.symmetric and block[0] == block[1]
        done += len(block[0]) * len(block[1]) / (2 if halved else 1)
        spent, number = spent + took, number + 1
        left = budgets.TRIAL_SECONDS - (time.perf_counter() - start)
        if side < grid.tile and 4 * took < left:
            side, done, spent = min(2 * side, grid.tile), 0.0, 0.0
        elif left < took:
            break
    compiling = max(0.0, compiling - own * len(rows))
    return _Trial(compiling, spent / done, own, time.perf_counter() - start)


def _block(grid: TileGrid, side: int, number: int) -> tuple[range, range]:
    """Rows and columns of one of the blocks of that side, not on the diagonal if there are more."""
    down, across = (-(-n // side) for n in (grid.n1, grid.n2))
    i, j = 0, (number + 1) % across
    if j == 0 and across > 1:
        i, j = min(1, down - 1), across - 1
    rows = range(i * side, min((i + 1) * side, grid.n1))
    return rows, range(j * side, min((j + 1) * side, grid.n2))


def _peak(job: Job, evaluator: Evaluator, header: Header) -> int:
    """Bytes: what the trial has taken, a batch of tiles being written, and images that are kept;
    no more than the run is allowed."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tile = header.tile**2 * len(header.keys) * ITEMSIZE[header.dtype]
    batch = min(BATCH_TILES * tile, job.memory // (BATCH_SHARE * BATCHES))
    batches = min(len(header.layout.tiles()) * tile, BATCHES * batch)
    images = (header.n1 + (0 if header.symmetric else header.n2)) * evaluator.cost.image_bytes
    most = max(held, job.memory + budgets.PROGRAM)
    return int(min(most, held + batches + 2 * tile + min(images, job.memory // 2)))


def _workers(grid: TileGrid, trial: _Trial, deadline: float) -> int | None:
    """The least number of shards of which each ends in time; None where none is enough."""
    left = deadline - trial.compiling
    if left <= 0:
        return None
    tiles = grid.tiles()
    cost = np.cumsum([0, *(grid.entries(i, j) for i, j in tiles)])
    number = max(1, math.ceil(trial.seconds(grid, int(cost[-1])) / left))
    while number <= len(tiles):
        edges = cuts(grid, number)
        slowest = int((cost[edges[1:]] - cost[edges[:-1]]).max())
        if trial.seconds(grid, slowest) <= left:
            return number
        if number == len(tiles):
            return None
        number = min(len(tiles), max(number + 1, int(number * _MORE)))
    return None
