"""The file of a trainability map: one row of the grid is stored at a time, then flagged."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from widegram.errors import WidegramError
from widegram.files import check_target, new_file
from widegram.meanfield.fixedpoint import FixedPoints
from widegram.meanfield.maps import Array

if TYPE_CHECKING:
    from widegram.meanfield.training import Row

FORMAT = "widegram-trainability"
_MAPS = ("train_accuracy", "test_accuracy", "train_mse", "test_mse")
_DEPTH_MAPS = ("lambda_max", "kappa")


@dataclass(frozen=True)
class Header:
    """Everything that decides the values."""

    net: str
    act: str
    w_var: Array
    b_var: float
    depths: tuple[int, ...]
    times: tuple[float, ...]
    data_fingerprint: str
    n_train: int
    n_test: int

    def plain(self) -> dict[str, Any]:
        """JSON-ready, for comparison with a file's."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "w_var": self.w_var.tolist(),
            "depths": list(self.depths),
            "times": list(self.times),
        }


class TrainFile:
    """HDF5: /w_var, /depths, /times; maps (w_var, depths, times) and (w_var, depths); /xi_1,
    /xi_star (w_var,); /state/rows, 1 where a row is finished; attributes run (JSON), complete.
    """

    def __init__(self, path: Path, header: Header, scales: FixedPoints, overwrite: bool) -> None:
        self.path, self._header = path, header
        if overwrite or not path.exists():
            check_target(path, overwrite)
            _create(path, header, scales, overwrite)
        else:
            _refuse_other_run(path, header)

    def __enter__(self) -> TrainFile:
        self._file = h5py.File(self.path, "r+")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def pending(self) -> list[int]:
        """Numbers of the rows that are not finished."""
        return np.flatnonzero(self._file["state/rows"][()] == 0).tolist()

    def done(self) -> int:
        """How many rows are finished."""
        return int(self._file["state/rows"][()].sum())

    def write(self, index: int, row: Row) -> None:
        """Store a row, and flag it once it is on disk."""
        for name in (*_MAPS, *_DEPTH_MAPS):
            self._file[name][index] = getattr(row, name)
        self._sync()
        self._file["state/rows"][index] = 1
        self._sync()

    def finish(self) -> None:
        """Mark the file complete."""
        self._file.attrs["complete"] = True
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.id.get_vfd_handle())


def is_complete(path: str | Path) -> bool:
    """Whether ``path`` is a finished trainability map; False for anything else."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("format") == FORMAT and bool(file.attrs["complete"])
    except OSError:
        return False


def _create(path: Path, header: Header, scales: FixedPoints, overwrite: bool) -> None:
    shape = (len(header.w_var), len(header.depths), len(header.times))
    # The part is locked by new_file itself.
    with (
        new_file(path, overwrite=overwrite) as part,
        h5py.File(part, "w", locking=False) as file,
    ):
        file.attrs.update(
            {"format": FORMAT, "format_version": 1, "complete": False,
             "run": json.dumps(header.plain())}
        )
        file["w_var"], file["depths"], file["times"] = header.w_var, header.depths, header.times
        for name in _MAPS:
            file[name] = np.full(shape, np.nan)
        for name in _DEPTH_MAPS:
            file[name] = np.full(shape[:2], np.nan)
        file["xi_1"], file["xi_star"] = scales.xi_1, scales.xi_star
        file["state/rows"] = np.zeros(shape[0], np.uint8)


def _refuse_other_run(path: Path, header: Header) -> None:
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise WidegramError(f"{path}: exists and is no trainability map; choose another")
            found = json.loads(file.attrs["run"])
    except OSError as error:
        raise WidegramError(
            f"{path}: exists and cannot be read as HDF5; choose another name"
        ) from error
    wanted = json.loads(json.dumps(header.plain()))
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        raise WidegramError(
            f"{path}: was made with another {', '.join(differing)}; choose another name or pass "
            "--overwrite"
        )
