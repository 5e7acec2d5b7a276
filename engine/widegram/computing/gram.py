"""Gram matrices to files: which tiles, in which order, and what survives an interruption."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from widegram import __version__
from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.computing.devices import continues, device_for, joined, kind_of, resolve_device
from widegram.computing.filling import GramResult, fill
from widegram.computing.job import make_job, tile_side
from widegram.computing.sites import Site, site
from widegram.data.distinct import check_distinct
from widegram.data.patterns import patterned
from widegram.data.several import Inputs
from widegram.durable.hdf5 import hdf5_errors
from widegram.durable.outputs import check_target
from widegram.durable.taking import take_name
from widegram.errors import WidegramError
from widegram.gramfile.diagonals import flags_path
from widegram.gramfile.header import STATE, Header
from widegram.gramfile.opening import create, read
from widegram.gramfile.writing import GramWriter, opened, refuse_other_run
from widegram.machine.log import logger
from widegram.machine.progress import ProgressCallback
from widegram.network import Network, NetworkLike
from widegram.sharding import Shard, parse_shard
from widegram.validation.arrays import file_path, integer
from widegram.validation.choices import KERNELS

__all__ = ["GramResult", "gram"]

# What the tiles of shards are chosen by: each node of a cluster has other memory free.
_SHARD_MEMORY = 10**9
_SHARD_TILES = 4


def gram(  # noqa: PLR0913 - public: by keyword, one for each option of the command
    network: NetworkLike,
    x1: Inputs,
    out: str | Path,
    x2: Inputs | None = None,
    *,
    get: str | Sequence[str] = KERNELS,
    dtype: str = "float32",
    device: str = "auto",
    depths: Sequence[int] | None = None,
    tile: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
    overwrite: bool = False,
    check: bool = False,
    progress: ProgressCallback | None = None,
    accept_series_error: float | None = None,
    pattern: Any = None,
    dask: str | None = None,
    mixed_workers: bool = False,
    shard: str | tuple[int, int] | None = None,
    append: bool = False,
    profile: bool = False,
) -> GramResult:
    """Write the kernel matrices of an infinitely wide network to the HDF5 file ``out``.

    Datasets ``/nngp`` and ``/ntk`` of shape (n1, n2), entry [a, b] for row a of x1 and row b of
    x2; without ``x2`` the symmetric (n1, n1) matrix, of which one half is computed. With
    ``depths`` ``/depth/<l>/...``: the network read out after l repeats of its top-level Repeat. Of
    a network that ends with Readouts ``/head/<name>/...``, below the depths: every head.
    An unfinished ``out`` of the same run is resumed, to the same bits; a complete one is left as
    it is. Finished tiles are compared with their checksums first, a sample of 256 MB or with
    ``check`` all, of a complete file too; damaged ones are computed again. What a GPU began
    ``device='cpu'`` may finish; the file's attribute ``device`` then names both, whose values
    differ within the tolerance of the dtype. The data is read once more at the end: where it was
    changed meanwhile, the tiles of this run are taken back. K(x, x) of every input of x1 stands in
    ``/diagonal/x1/...``, of a cross matrix that of x2 in ``/diagonal/x2/...``, float64.

    * ``network``: a file, JSON text, preset, dict or Network
    * ``x1``, ``x2``: floating point (n, *input_shape), an array or ``'file.npy' | 'file.npz:key' |
      'file.h5:path'``, or a list of such for a network whose input is a list
    * ``get``: which of 'nngp' and 'ntk'
    * ``dtype``: 'float32' or 'float64', of the file
    * ``device``: 'auto', 'cpu', 'cuda', or cards such as 'cuda:0,1'
    * ``tile``: side of the blocks written at once, None to choose
    * ``threads``: None for all cores
    * ``memory``: byte budget such as '500MB', None for a quarter of what is free
    * ``overwrite``: replace ``out`` whatever it is
    * ``progress``: called with a :class:`~widegram.machine.progress.Progress`
    * ``accept_series_error``: the relative error of an activation's Hermite series that is
      accepted, 1e-3 by default, and of all that is announced, 0.1 by default; more is refused
    * ``pattern``: of graphs, for Aggregate layers, that of x1 or a pair for x1 and x2, arrays or
      files as these
    * ``dask``: the address of a Dask scheduler whose workers compute the tiles, or 'local:N';
      ``device``, ``threads`` and ``memory`` then hold for each worker, and ``mixed_workers`` lets
      them differ in what decides the last bits
    * ``shard``: 'K/N' or (K, N) computes the K-th of N shares alone, into
      ``<out>.shard-K-of-N``; :func:`widegram.join` makes the file of all. Their tiles are chosen
      without a look at this machine
    * ``append``: ``out`` is a finished file of the first rows of x1 (and of x2); only what is new
      of the whole matrix is computed, into ``<out>.append``, which becomes ``out`` when it is
      complete, to the bits of a run of the whole
    * ``profile``: measure where the seconds go, :attr:`GramResult.profile`; a run that finds its
      file complete has none

    A float32 run whose activations need more digits at these variances is computed in float64 and
    rounded. Kernels are those of neural-tangents in the NTK parameterization (Novak et al. 2020,
    arXiv:1912.02803). Raises WidegramError for bad input, before anything is written;
    Interrupted after the first SIGINT or SIGTERM, once the tile in flight is saved;
    WriteFailed where the file system fails, or ``out`` was deleted, replaced or moved.
    """
    x1, x2 = patterned(x1, x2, pattern)
    job = make_job(network, x1, x2, get, dtype, depths, threads, memory, accept_series_error)
    path = file_path(out, "out")
    share = None if shard is None else parse_shard(shard)
    if append and (overwrite or dask is not None or share is not None):
        raise WidegramError(
            "append goes neither with overwrite nor with dask nor with a shard; leave these out"
        )
    path = path if share is None else share.file(path)
    patterns = pattern if isinstance(pattern, tuple) else (pattern,)
    check_distinct([path], [network, x1, x2, *patterns])
    tile = None if tile is None else integer(tile, "tile", 1)
    device = _device_of(path, overwrite, job.network, device, dask is not None)
    where = site(dask, device, memory, mixed_workers)
    if append:
        return _appended(path, job, where, tile, progress, profile=profile, check=check)
    new = overwrite or not path.exists()
    with ExitStack() as held:
        evaluator: Evaluator | None = None
        if new:
            check_target(path, overwrite)
            evaluator = held.enter_context(where.evaluator(job))
            side = tile or default_side(job, evaluator, share, memory, where.at_once())
            header = header_of(job, where.device, side, share)
            create(path, header, overwrite)
        else:
            header, complete = _existing(path, job, device, tile, share)
            if complete and not check:
                return nothing_to_do(header)
        writer = held.enter_context(opened(path, header, new))
        damaged = [] if new else rechecked(writer, check)
        if writer.complete:
            return nothing_to_do(header)
        evaluator = evaluator or held.enter_context(where.evaluator(job))
        result = fill(
            writer, evaluator, where.device, job.memory, progress, partial(_recheck_data, job),
            where.supplying(), profile,
        )  # fmt: skip
    return result._replace(damaged_tiles=len(damaged))


def _appended(
    path: Path, job: Job, where: Site, tile: int | None, progress: ProgressCallback | None, *,
    profile: bool, check: bool,
) -> GramResult:  # fmt: skip
    """Grow the finished file ``path`` to the inputs of ``job``."""
    from widegram.computing.appending import GrowingEvaluator, growing, growing_header, opened_old

    place = Path(os.path.realpath(path))
    grown = growing(place)
    with ExitStack() as held:
        evaluator = held.enter_context(where.evaluator(job))
        side = tile or tile_side(job, evaluator, at_once=where.at_once())
        header = header_of(job, where.device, side, None)
        old = held.enter_context(opened_old(place, header, where.device, job))
        if old.is_all_of(header):
            if check:
                raise WidegramError(
                    f"{path}: has all of these rows, and append (--append) reads none; for check "
                    "(--check) leave append out"
                )
            return nothing_to_do(old.file.header)
        new = not os.path.lexists(grown)
        if new:
            create(grown, header)
        else:
            header = growing_header(grown, header, tile)
        source = held.enter_context(GrowingEvaluator(evaluator, old))
        with opened(grown, header, new) as writer:
            damaged = [] if new else rechecked(writer, check)
            device = joined(old.file.header.device, where.device)
            result = fill(
                writer, source, device, job.memory, progress, partial(_recheck_data, job),
                profile=profile,
            )  # fmt: skip
        old.check_place()
        take_name(grown, place)
    entries = result.entries - source.copied
    return result._replace(
        entries=entries,
        entries_per_second=entries / result.seconds if entries else 0.0,
        copied_entries=source.copied,
        damaged_tiles=len(damaged),
    )


def default_side(
    job: Job, evaluator: Evaluator, share: Shard | None, memory: str | int | None, at_once: int
) -> int:
    """The default side of a tile, ``at_once`` of which are in memory. Those of a shard are the same
    on every machine, unless it is given other ``memory``."""
    if share is None:
        return tile_side(job, evaluator, at_once=at_once)
    if memory is None:
        job = replace(job, memory=_SHARD_MEMORY)
    return tile_side(job, evaluator, at_once=_SHARD_TILES)


def nothing_to_do(header: Header) -> GramResult:
    """The result of a run that finds its file complete."""
    done = len(header.layout.tiles())
    return GramResult(
        entries=0,
        seconds=0.0,
        entries_per_second=0.0,
        resumed_tiles=done,
        tiles=done,
        tile=header.tile,
        complete=True,
    )


def rechecked(writer: GramWriter, everything: bool) -> list[tuple[int, int]]:
    """Finished tiles that had lost their checksums, said to the user; they are pending now."""
    damaged = writer.recheck(everything)
    if damaged:
        logger.warning(
            "%s: is damaged: %d finished tiles have not their checksums any more and are computed "
            "again; check the disk", writer.path, len(damaged)
        )  # fmt: skip
    return damaged


def _recheck_data(job: Job) -> None:
    """Raise where the data of a job has changed since its fingerprints were taken."""
    for source in (job.x1, job.x2):
        if source is not None:
            source.check_unchanged()


def _device_of(
    path: Path, overwrite: bool, network: Network, device: str, at_workers: bool
) -> str:
    """What ``device`` means. 'auto': an unfinished file goes on with the device that began it; at
    workers each finds out."""
    if not isinstance(device, str) or device != "auto":
        return device if at_workers else resolve_device(device)
    if path.is_file() and not overwrite:
        file, found = read(path, shard=True)
        file.close()
        kinds = found.device.split(",")
        if at_workers:
            return kinds[0] if len(kinds) == 1 else "auto"
        return resolve_device(kinds[0])
    return "auto" if at_workers else device_for("auto", network)


def _existing(
    path: Path, job: Job, device: str, tile: int | None, share: Shard | None
) -> tuple[Header, bool]:
    """Header of a file of the same run and whether it is complete; raises if it is another's."""
    file, found = read(path, shard=share is not None)
    with file:
        wanted = header_of(job, device, tile or found.tile, share)
        if device == "auto" or continues(found.device, device):
            wanted = replace(wanted, device=found.device)
        refuse_other_run(path, found, wanted)
        with hdf5_errors(path):
            flags = STATE, *map(flags_path, found.places.sides)
            finished = all((file[name][...] == 1).all() for name in flags)
            return wanted, bool(file.attrs["complete"]) and finished


def header_of(
    job: Job, device: str, tile: int, shard: Shard | None, fingerprints: bool = True
) -> Header:
    """The header of the file that a job makes. Its ``fingerprints`` read all data; the size of the
    file follows without them."""
    x2 = job.x2
    return Header(
        network=job.network.to_json(),
        network_fingerprint=job.network.fingerprint(),
        x1_fingerprint=job.x1.fingerprint() if fingerprints else "",
        x2_fingerprint=x2.fingerprint() if x2 and fingerprints else "",
        x1_location=job.x1.place or "",
        x2_location=(x2.place or "") if x2 else "",
        n1=len(job.x1),
        n2=len(x2 or job.x1),
        kernels=job.kernels,
        depths=job.depths,
        heads=job.network.heads,
        diagonals=True,
        dtype=job.dtype,
        symmetric=x2 is None,
        device=kind_of(device),
        program_version=__version__,
        tile=tile,
        shard=shard,
    )
