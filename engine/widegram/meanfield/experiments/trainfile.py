"""The file of a trainability map: one row of the grid is stored at a time, then flagged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import xxhash

from widegram.closing import Closing
from widegram.durable import LiveFile
from widegram.durable.filled import Fill, create_filled, open_filled
from widegram.durable.outputs import check_target
from widegram.durable.sealed import SEAL, SealedFile, write_sealed
from widegram.errors import WidegramError
from widegram.machine.log import logger
from widegram.meanfield.experiments.grid import Grid, MapRow
from widegram.meanfield.theory.fixedpoint import FixedPoints
from widegram.meanfield.theory.one_layer import Array

FORMAT = "widegram-trainability"
_MAPS = ("train_accuracy", "test_accuracy", "train_mse", "test_mse")
_DEPTH_MAPS = ("lambda_max", "kappa")
_FILLED = (*_MAPS, *_DEPTH_MAPS)
_ROWS, _CHECKSUMS = "state/rows", "state/checksums"
_REMEDY = "pass --overwrite to compute it again"
_AXES = ("w_var", "depths", "times", "xi_1", "xi_star")


@dataclass(frozen=True)
class MapHeader:
    """Everything that decides the values."""

    grid: Grid
    data_fingerprint: str
    n_train: int
    n_test: int

    def plain(self) -> dict[str, Any]:
        """JSON-ready, for comparison with a file's."""
        grid = self.grid
        return {
            "net": grid.net,
            "act": grid.act,
            "w_var": grid.w_var.tolist(),
            "b_var": grid.b_var,
            "depths": list(grid.depths),
            "times": list(grid.times),
            "data_fingerprint": self.data_fingerprint,
            "n_train": self.n_train,
            "n_test": self.n_test,
        }


class TrainFile(Closing):
    """HDF5: /w_var, /depths, /times; maps (w_var, depths, times) and (w_var, depths); /xi_1,
    /xi_star (w_var,); /state/rows, 1 where a row is finished; attributes run (JSON), complete.

    While rows are missing they are filled in place, each with a checksum in /state/checksums; a row
    that has another one is computed again. The complete file is written anew, and sealed
    (:mod:`widegram.durable.sealed`).
    """

    def __init__(self, path: Path, header: MapHeader, scales: FixedPoints, overwrite: bool) -> None:
        self.path = path
        if overwrite or not path.exists():
            check_target(path, overwrite)
            _create(path, header, scales, overwrite)
        else:
            _refuse_other_run(path, header)
        self._rows = len(header.grid.w_var)
        self._live: LiveFile | None = None
        self._done: Array = np.ones(self._rows, np.uint8)

    def __enter__(self) -> Self:
        with _opened(self.path) as file:
            self._attributes = file.attributes
            complete = self._attributes["complete"] is True
            names = (*_AXES, *_FILLED) if complete else _AXES
            self._fixed = {name: file.array(name) for name in names}
        if not complete:
            self._live = open_filled(self.path, _REMEDY)
            self._done = self._trusted(self._live)
        return self

    def close(self) -> None:
        """Close the file."""
        if self._live is not None:
            self._live.close()

    def _trusted(self, live: LiveFile) -> Array:
        """1 where a row is finished and has its checksum."""
        flags, sums = live.read(_ROWS), live.read(_CHECKSUMS)
        damaged = damaged_rows(flags, sums, {name: live.read(name) for name in _FILLED})
        if damaged:
            logger.warning("%s: damaged rows are computed again: %s", self.path, damaged)
        flags[damaged] = 0
        return flags

    def pending(self) -> list[int]:
        """Numbers of the rows that are not finished."""
        return np.flatnonzero(self._done == 0).tolist()

    def done(self) -> int:
        """How many rows are finished."""
        return int(self._done.sum())

    def write(self, index: int, row: MapRow) -> None:
        """Store a row, and flag it once it is on disk."""
        live = self._writable()
        values = {name: np.asarray(getattr(row, name), np.float64) for name in _FILLED}
        for name, value in values.items():
            live.write(name, value[None], index)
        live.write(_CHECKSUMS, np.array([_checksum(values)], np.uint64), index)
        live.sync()
        live.write(_ROWS, np.ones(1, np.uint8), index)
        live.sync()
        self._done[index] = 1

    def finish(self) -> None:
        """Check every row once more, and write the complete file; nothing where it is.

        Raises WidegramError where a row was damaged meanwhile.
        """
        if self._live is None:
            return
        live = self._writable()
        maps = {name: live.read(name) for name in _FILLED}
        damaged = damaged_rows(live.read(_ROWS), live.read(_CHECKSUMS), maps)
        if damaged or self.pending():
            raise WidegramError(
                f"{self.path}: rows {damaged or self.pending()} were damaged meanwhile; "
                "run the same command again"
            )
        live.check_place()
        live.close()
        whole = {**self._fixed, **maps, _ROWS: self._done}
        kept = {name: value for name, value in self._attributes.items() if name != SEAL}
        write_sealed(self.path, whole, {**kept, "complete": True}, overwrite=True)

    def _writable(self) -> LiveFile:
        if self._live is None:
            raise RuntimeError("the file is complete")
        return self._live


def damaged_rows(flags: Array, sums: Array, maps: dict[str, Array]) -> list[int]:
    """Rows whose flag is neither 0 nor 1, or whose values are not those that were flagged."""
    return [
        row
        for row, flag in enumerate(flags.tolist())
        if flag not in (0, 1)
        or (flag and _checksum({n: maps[n][row] for n in _FILLED}) != int(sums[row]))
    ]


def damaged_in(file: h5py.File) -> Iterator[str]:
    """What is wrong with the rows of an open map that is not complete."""
    maps = {name: file[name][()] for name in _FILLED}
    rows = damaged_rows(file[_ROWS][()], file[_CHECKSUMS][()], maps)
    yield from (f"row {row}: wrong checksum or flag" for row in rows)


def _checksum(values: dict[str, Array]) -> int:
    digest = xxhash.xxh3_64()
    for name in _FILLED:
        digest.update(np.ascontiguousarray(values[name], "<f8").tobytes())
    return digest.intdigest()


def _opened(path: Path) -> SealedFile:
    return SealedFile(path, FORMAT, "a trainability map; choose another name", _REMEDY)


def is_complete(path: str | Path) -> bool:
    """Whether ``path`` is a finished trainability map; False for anything else."""
    try:
        with _opened(Path(path)) as file:
            return file.attributes["complete"] is True
    except WidegramError:
        return False


def read_maps(path: str | Path) -> dict[str, Array]:
    """Every dataset of a complete map, checked; WidegramError for any other file."""
    with _opened(Path(path)) as file:
        if file.attributes["complete"] is not True:
            raise WidegramError(f"{path}: is not complete; run the same command again to finish it")
        return {name: file.array(name) for name in (*_AXES, *_FILLED)}


def _create(path: Path, header: MapHeader, scales: FixedPoints, overwrite: bool) -> None:
    rows = len(header.grid.w_var)
    shape = (rows, len(header.grid.depths), len(header.grid.times))
    maps = {**dict.fromkeys(_MAPS, shape), **dict.fromkeys(_DEPTH_MAPS, shape[:2])}
    fills = {name: Fill(size, "<f8", empty=np.nan) for name, size in maps.items()}
    fills[_ROWS], fills[_CHECKSUMS] = Fill((rows,), np.uint8), Fill((rows,), np.uint64)
    grid = header.grid
    axes = (grid.w_var, grid.depths, grid.times, scales.xi_1, scales.xi_star)
    run = {"complete": False, "run": json.dumps(header.plain())}
    attributes = {"format": FORMAT, "format_version": 1, **run}
    whole = dict(zip(_AXES, axes, strict=True))
    create_filled(path, fills, whole, attributes, overwrite=overwrite)


def _refuse_other_run(path: Path, header: MapHeader) -> None:
    wanted = json.loads(json.dumps(header.plain()))
    with _opened(path) as file, file.parsing():
        found = json.loads(file.attributes["run"])
        differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        raise WidegramError(
            f"{path}: was made with another {', '.join(differing)}; choose another name or pass "
            "--overwrite"
        )
