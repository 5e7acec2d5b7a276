"""Gram matrices to files: which tiles, in which order, and what survives an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from widegram import __version__
from widegram.ahead import Ahead
from widegram.backends import Evaluator, make_evaluator, resolve_device
from widegram.data import Source, open_source
from widegram.devices import continues, joined, kind_of
from widegram.errors import Interrupted, WidegramError
from widegram.files import check_target
from widegram.memory import budget
from widegram.network import Network, load_network
from widegram.progress import Meter, ProgressCallback, StopRequest
from widegram.store.layout import KERNELS, Header, dataset_keys
from widegram.store.opening import create, read
from widegram.store.writer import TileResult, Writer, open_for_resume, refuse_other_run
from widegram.tiling import LARGEST_TILE, choose_tile

_BATCH_SECONDS = 5.0
_BATCH_TILES = 32
_BATCH_SHARE = 8
DTYPES = ("float32", "float64")


class GramResult(NamedTuple):
    """What one run did.

    ``entries`` of each matrix settled in this run (mirror images included), its wall time in
    ``seconds``, their quotient ``entries_per_second``, ``resumed_tiles`` found finished at the
    start out of ``tiles``, the ``tile`` side, and whether the file is ``complete``.
    ``series_error`` is the relative truncation error of activations computed by Hermite series
    (of E[phi^2] or E[phi'^2]), None for networks without one.
    """

    entries: int
    seconds: float
    entries_per_second: float
    resumed_tiles: int
    tiles: int
    tile: int
    complete: bool
    series_error: float | None = None


@dataclass(frozen=True)
class Job:
    """A checked request: everything that decides the values, and the budget for computing them."""

    network: Network
    x1: Source
    x2: Source | None
    kernels: tuple[str, ...]
    depths: tuple[int, ...]
    dtype: str
    threads: int | None
    memory: int

    def evaluator(self, device: str) -> Evaluator:
        """The evaluator for this job on ``device``."""
        return make_evaluator(
            device,
            self.network,
            self.x1,
            self.x2,
            self.kernels,
            self.depths,
            self.dtype,
            self.threads,
            self.memory,
        )

    def header(self, device: str, tile: int) -> Header:
        """The header of the file that this job makes; reads all data to fingerprint it."""
        x2 = self.x2
        return Header(
            network=self.network.to_json(),
            network_fingerprint=self.network.fingerprint(),
            x1_fingerprint=self.x1.fingerprint(),
            x2_fingerprint=x2.fingerprint() if x2 else "",
            x1_location=self.x1.location or "",
            x2_location=(x2.location or "") if x2 else "",
            n1=len(self.x1),
            n2=len(x2 or self.x1),
            kernels=self.kernels,
            depths=self.depths,
            dtype=self.dtype,
            symmetric=x2 is None,
            device=kind_of(device),
            program_version=__version__,
            tile=tile,
        )

    def tile(self, evaluator: Evaluator, largest: int = LARGEST_TILE) -> int:
        """The default tile side for that evaluator, at most ``largest``."""
        entry_cost: float = getattr(evaluator, "entry_cost", 0.0)
        image_bytes: int = getattr(evaluator, "image_bytes", 0)
        matrices = len(dataset_keys(self.kernels, self.depths))
        itemsize = np.dtype(self.dtype).itemsize
        n2 = len(self.x2 or self.x1)
        return choose_tile(
            len(self.x1), n2, matrices, itemsize, self.memory, entry_cost, image_bytes, largest
        )


def gram(
    network: str | Path | dict | Network,
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
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> GramResult:
    """Write the kernel matrices of an infinitely wide network to the HDF5 file ``out``.

    Datasets ``/nngp`` and ``/ntk`` of shape (n1, n2), entry [a, b] for row a of x1 and row b of
    x2; without ``x2`` the symmetric (n1, n1) matrix, of which one half is computed. With
    ``depths`` ``/depth/<l>/...``: the network read out after l repeats of its top-level Repeat.
    An unfinished ``out`` of the same run is resumed, to the same bits; a complete one is left as
    it is. What a GPU began ``device='cpu'`` may finish; the file's attribute ``device`` then names
    both, whose values differ within the tolerance of the dtype.

    ``network``: a file, JSON text, preset, dict or Network. ``x1``, ``x2``: floating point
    (n, *input_shape), an array or ``'file.npy' | 'file.npz:key' | 'file.h5:path'``. ``get``: which
    of 'nngp' and 'ntk'. ``tile``: side of the blocks written at once, None to choose.
    ``threads``: None for all cores. ``memory``: byte budget such as '500MB', None for a quarter
    of what is free. ``overwrite``: replace ``out`` whatever it is. ``progress``: called with a
    :class:`~widegram.progress.Progress`.

    Kernels are those of neural-tangents in the NTK parameterization (Novak et al. 2020,
    arXiv:1912.02803). Raises :class:`WidegramError` for bad input, before anything is written;
    :class:`Interrupted` after the first SIGINT or SIGTERM, once the tile in flight is saved.
    """
    job = make_job(network, x1, x2, get, dtype, depths, threads, memory)
    path = Path(out)
    if tile is not None and tile < 1:
        raise WidegramError(f"tile {tile}: a tile has at least one row")
    device = resolve_device(device) if device != "auto" else _device_of(path, overwrite)
    evaluator: Evaluator | None = None
    if overwrite or not path.exists():
        check_target(path, overwrite)
        evaluator = job.evaluator(device)
        header = job.header(device, tile or job.tile(evaluator))
        create(path, header, overwrite)
    else:
        header, complete = _existing(path, job, device, tile)
        if complete:
            done = len(header.grid.tiles())
            return GramResult(0, 0.0, 0.0, done, done, header.tile, True)
    with open_for_resume(path, header) as writer:
        evaluator = evaluator or job.evaluator(device)
        writer.note_device(joined(header.device, device), getattr(evaluator, "device_name", ""))
        return fill(writer, evaluator, job.memory, progress)


def _device_of(path: Path, overwrite: bool) -> str:
    """What 'auto' means: an unfinished file goes on with the device that began it."""
    if path.is_file() and not overwrite:
        file, found = read(path)
        file.close()
        return resolve_device(found.device.split(",")[0])
    return resolve_device("auto")


def _existing(path: Path, job: Job, device: str, tile: int | None) -> tuple[Header, bool]:
    """Header of a file of the same run and whether it is complete; raises if it is another's."""
    file, found = read(path)
    with file:
        wanted = job.header(device, tile or found.tile)
        if continues(found.device, device):
            wanted = replace(wanted, device=found.device)
        refuse_other_run(path, found, wanted)
        return wanted, bool(file.attrs["complete"])


def fill(
    writer: Writer, evaluator: Evaluator, memory: int, progress: ProgressCallback | None = None
) -> GramResult:
    """Compute and store every pending tile of an open file.

    A batch ends after five seconds, 32 tiles or an eighth of ``memory`` bytes. Raises
    :class:`Interrupted` after a signal, with everything computed so far stored.
    """
    grid = writer.grid
    tiles, pending = grid.tiles(), writer.pending()
    missing = sum(grid.entries(i, j) for i, j in pending)
    meter = Meter(grid.n1 * grid.n2, grid.n1 * grid.n2 - missing, progress)
    left = list(reversed(pending))
    wanted = [(grid.rows(i), grid.cols(j)) for i, j in pending]
    with StopRequest() as stop, Ahead(evaluator, wanted, grid.symmetric) as ahead:
        while left and not stop.requested:
            writer.write(_batch(left, writer, ahead, meter, stop, memory // _BATCH_SHARE))
        if not left:
            writer.finish()
    if left:
        raise Interrupted(
            f"{writer.path}: interrupted, {len(tiles) - len(left)} of {len(tiles)} tiles are "
            "saved; run the same command again to resume"
        )
    seconds = meter.seconds
    return GramResult(
        entries=meter.entries,
        seconds=seconds,
        entries_per_second=meter.entries / seconds if meter.entries else 0.0,
        resumed_tiles=len(tiles) - len(pending),
        tiles=len(tiles),
        tile=grid.tile,
        complete=True,
        series_error=getattr(evaluator, "series_error", None),
    )


def _batch(
    left: list[tuple[int, int]],
    writer: Writer,
    ahead: Ahead,
    meter: Meter,
    stop: StopRequest,
    most_bytes: int,
) -> list[TileResult]:
    """Compute the next tiles (taken from the end of ``left``): at least one, until a limit."""
    grid = writer.grid
    batch: list[TileResult] = []
    size, end = 0, meter.seconds + _BATCH_SECONDS
    while left and not stop.requested:
        i, j = left.pop()
        rows, cols = grid.rows(i), grid.cols(j)
        advance = meter.begin_tile(grid.entries(i, j), len(rows) * len(cols))
        arrays = ahead.next(advance)
        meter.end_tile(grid.entries(i, j))
        batch.append((i, j, arrays))
        size += sum(array.nbytes for array in arrays.values())
        if len(batch) == _BATCH_TILES or size >= most_bytes or meter.seconds >= end:
            break
    return batch


def make_job(
    network: str | Path | dict | Network,
    x1: str | Path | np.ndarray | Source,
    x2: str | Path | np.ndarray | Source | None,
    get: str | Sequence[str],
    dtype: str,
    depths: Sequence[int] | None,
    threads: int | None,
    memory: str | int | None,
) -> Job:
    """Check a request and open its data; raises :class:`WidegramError` saying what is wrong."""
    dtype = str(np.dtype(dtype)) if not isinstance(dtype, str) else dtype
    if dtype not in DTYPES:
        raise WidegramError(f"dtype {dtype!r} is unknown; choose float32 or float64")
    if threads is not None and threads < 1:
        raise WidegramError(f"threads {threads}: at least one is needed")
    kernels = _kernels(get)
    first = open_source(x1)
    second = None if x2 is None else open_source(x2)
    net = load_network(network, first.shape[1:])
    if second is not None and second.shape[1:] != first.shape[1:]:
        raise WidegramError(
            f"{second.name}: its rows have shape {second.shape[1:]}, those of {first.name} "
            f"{first.shape[1:]}; both must be inputs of one network"
        )
    return Job(net, first, second, kernels, _depths(net, depths), dtype, threads, budget(memory))


def _kernels(get: str | Sequence[str]) -> tuple[str, ...]:
    asked = [k.strip() for k in get.split(",")] if isinstance(get, str) else list(get)
    if not asked or set(asked) - set(KERNELS):
        raise WidegramError(
            f"get {','.join(asked)!r} is not understood; give nngp, ntk or nngp,ntk"
        )
    return tuple(k for k in KERNELS if k in asked)


def _depths(network: Network, depths: Sequence[int] | None) -> tuple[int, ...]:
    if depths is None:
        return ()
    _, _, times, _ = network.sweep()
    wrong = [d for d in depths if not 1 <= d <= times]
    if wrong or not len(depths):
        raise WidegramError(
            f"depths {','.join(map(str, wrong or depths))!r}: the network repeats its block "
            f"{times} times; give depths from 1 to {times}"
        )
    return tuple(sorted(set(depths)))
