"""The kinds of files that this program writes and seals, and looking for damage in any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py

from widegram.durable.contents import text_of
from widegram.durable.filled import check_guard
from widegram.durable.hdf5 import (
    Unreadable,
    check_readable,
    hdf5_errors,
    open_file,
    stored_dataset,
)
from widegram.durable.sealed import (
    SEAL,
    Broken,
    check_dataset,
    check_seal,
    sealed_datasets,
)
from widegram.errors import Damaged, WidegramError
from widegram.linalg.factorfile import damaged_columns
from widegram.meanfield.experiments.trainfile import damaged_in

_SHOWN = 8


@dataclass(frozen=True)
class FileKind:
    """What a file is called, what mends a damaged one, and damage of what is filled in place."""

    name: str
    remedy: str
    filled: Callable[[h5py.File], Iterator[str]] | None = None


KINDS = {
    "widegram-solution": FileKind("solution", "solve again"),
    "widegram-prediction": FileKind("prediction", "predict again"),
    "widegram-spectrum": FileKind("spectrum", "compute it again"),
    "widegram-sweep": FileKind("sweep of spectra", "compute it again"),
    "widegram-phase": FileKind("phase diagram", "compute it again"),
    "widegram-trainability": FileKind("trainability map", "compute it again", damaged_in),
    "widegram-tuning": FileKind("table of networks", "tune again"),
    "widegram-data": FileKind("prepared data", "prepare it again"),
    "widegram-matrix": FileKind("exported matrix", "export it again"),
    "widegram-restart": FileKind("restart of conjugate gradients", "remove it and solve again"),
    "widegram-sums": FileKind("unfinished sums of a solution", "remove it and solve again"),
    "widegram-factor": FileKind("unfinished factor", "run the same command again", damaged_columns),
}
_UNFINISHED = ("widegram-restart", "widegram-sums", "widegram-factor")


@dataclass(frozen=True)
class SealReport:
    """What a check of ``file``, a ``kind``, found.

    ``checked`` datasets had their checksums compared; ``damage`` has one line for each problem and
    is empty for a good file; ``remedy`` is what to do about it.
    """

    file: str
    kind: str
    complete: bool
    checked: int
    damage: tuple[str, ...]
    remedy: str

    @property
    def ok(self) -> bool:
        """Whether no damage was found."""
        return not self.damage

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form, with ``ok``."""
        return {**asdict(self), "ok": self.ok}

    def raise_if_damaged(self) -> None:
        """Raise :class:`Damaged` with the problems in one line."""
        if self.damage:
            more = len(self.damage) - _SHOWN
            raise Damaged(
                f"{self.file}: is damaged or was changed ({self.kind}): "
                + "; ".join(self.damage[:_SHOWN])
                + (f"; and {more} more" if more > 0 else "")
                + f"; {self.remedy}"
            )


def is_sealed(path: str | Path) -> bool:
    """Whether a file is of one of the kinds that are sealed, or claims to be.

    False too where it cannot be read. Raises :class:`WidegramError` where it is missing, or no
    HDF5 file.
    """
    check_readable(Path(path))
    try:
        with open_file(Path(path), snapshot=True, foreign=True) as file, hdf5_errors(Path(path)):
            return SEAL in file.attrs or text_of(file.attrs.get("format")) in KINDS
    except Unreadable:
        return False


def verify_sealed(path: str | Path) -> SealReport:
    """Compare every checksum of a sealed file, block by block.

    Raises :class:`Damaged` where HDF5 cannot read it, :class:`WidegramError` where it is being
    written.
    """
    try:
        with open_file(Path(path)) as file, hdf5_errors(Path(path)):
            format_ = text_of(file.attrs.get("format"))
            kind = KINDS.get(format_ or "")
            if kind is None:
                raise Damaged(f"{path}: is damaged: {format_!r} is no kind of file; make it again")
            damage = list(_damage(file, kind))
            complete = bool(file.attrs.get("complete", format_ not in _UNFINISHED))
            checked = len(sealed_datasets(file))
    except Unreadable as error:
        raise Damaged(f"{error}; make it again") from error
    return SealReport(str(path), kind.name, complete, checked, tuple(damage), kind.remedy)


def _damage(file: h5py.File, kind: FileKind) -> Iterator[str]:
    try:
        check_seal(file)
    except Broken as error:
        yield str(error)
        return  # shapes and names mean nothing now
    for name in sealed_datasets(file):
        try:
            check_dataset(stored_dataset(file, name))
        except WidegramError as error:
            yield str(error)
    if kind.filled is not None and not file.attrs.get("complete", False):
        try:
            check_guard(file)
        except Broken as error:
            yield str(error)
        else:
            yield from kind.filled(file)
