"""Arrays in files of several formats, read a block of rows at a time, of any dtype.

``file.npy``, ``file.npz:key`` and ``file.h5:path/to/dataset`` become a :class:`Table`; nothing is
held in memory, and a compressed member of an .npz file is unpacked into an anonymous file.
"""

from __future__ import annotations

import math
import re
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from widegram.errors import WidegramError, reason, shown
from widegram.validation.reading import existing_file

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_SPEC = re.compile(
    r"(?P<path>.*\.(?:npy|npz|h5|hdf5|hdf|mat))(?::(?P<key>.*))?", re.IGNORECASE | re.DOTALL
)
_UNREADABLE = (
    OSError, ValueError, TypeError, RuntimeError, KeyError, EOFError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
_BLOCK = 1 << 20
_MOST_AXES = 32


@dataclass(frozen=True)
class Table:
    """An array of ``shape`` and ``dtype`` in a file; ``rows(lo, hi)`` reads a block of it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Callable[[int, int], np.ndarray]


def split_spec(spec: str) -> tuple[Path, str | None]:
    """``'dir/f.h5:train/x'`` -> ``(Path('dir/f.h5'), 'train/x')``; no key -> None.

    The same of .mat files, which only ``data prepare`` reads.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        return Path(spec), None
    key = match["key"]
    return Path(match["path"]), key.strip("/") if key is not None else None


def located(spec: str) -> str:
    """Where the same array is found from any directory: the absolute path, and the key if any."""
    path, key = split_spec(spec)
    place = str(path.resolve())
    return place if key is None else f"{place}:{key}"


def nearest(wanted: str, names: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` or the list of what there is, for the end of a message."""
    import difflib

    names = list(names)
    # Beyond some hundred characters nothing is near, and the search would take long.
    close = difflib.get_close_matches(wanted[:300], names[:1000], n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"it holds: {shown}" if names else "it holds none"


def array_table(array: np.ndarray, name: str = "array") -> Table:
    """A table over an array in memory."""
    return Table(name, array.shape, array.dtype, lambda lo, hi: array[lo:hi])


def open_table(spec: str | Path) -> Table:
    """The array that ``spec`` names (.npy, .npz:key, .h5:path).

    A file with a single array needs no key. Raises :class:`WidegramError` where the file, key or
    dataset is missing (naming the nearest), or the file is damaged or of an unknown format.
    """
    path, key = split_spec(str(spec))
    existing_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            if key:
                raise WidegramError(f"{path}: an .npy file has no key {key!r}; leave it out")
            return _npy_table(path)
        if suffix == ".npz":
            return _npz_table(path, key)
        if suffix in HDF5_SUFFIXES:
            return _h5_table(path, key)
    except WidegramError:
        raise
    except _UNREADABLE as error:
        raise WidegramError(f"{spec}: cannot be read: {reason(error)}") from error
    raise WidegramError(
        f"{path}: unknown kind of file; give file.npy, file.npz:key or file.h5:path"
    )


def list_arrays(path: Path) -> list[str]:
    """Names of the arrays inside an .npz or HDF5 file.

    Raises WidegramError for a file that cannot be read.
    """
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        return _datasets(path)
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        if isinstance(error, WidegramError):
            raise
        raise WidegramError(f"{path}: cannot be read: {reason(error)}") from error


def _datasets(path: Path) -> list[str]:
    import h5py

    from widegram.durable.hdf5 import hdf5_errors, open_file

    names: list[str] = []
    with open_file(path, foreign=True) as file, hdf5_errors(path):
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
    return names


def _choose(path: Path, key: str | None, names: list[str], what: str) -> str:
    if key is None:
        if len(names) == 1:
            return names[0]
        raise WidegramError(f"{path}: which {what}? write {path}:NAME; {nearest('', names)}")
    if key not in names:
        raise WidegramError(f"{path}: no {what} {shown(key)}; {nearest(key, names)}")
    return key


@dataclass(frozen=True)
class NpyArray:
    """An array of ``shape`` and ``dtype`` in an .npy file, whose numbers begin at ``offset``."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    order: Any

    def mapped(self) -> np.ndarray:
        """The array, mapped for one use: a lasting map would count its touched pages as resident
        memory."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


def npy_array(path: Path) -> NpyArray:
    """The array of an .npy file; raises as :func:`open_table`."""
    existing_file(path)
    try:
        return _npy_array(path, 0)
    except WidegramError:
        raise
    except _UNREADABLE as error:
        raise WidegramError(f"{path}: cannot be read: {reason(error)}") from error


def _npy_array(path: Path, start: int) -> NpyArray:
    with open(path, "rb") as file:
        file.seek(start)
        shape, order, dtype = _npy_header(file)
        offset = file.tell()
        size = file.seek(0, 2)
    if dtype.hasobject:
        raise WidegramError(f"{path}: holds Python objects, not numbers")
    missing = offset + math.prod(shape) * dtype.itemsize - size
    if missing > 0:
        raise WidegramError(f"{path}: is truncated, {missing} bytes are missing")
    return NpyArray(path, shape, dtype, offset, order)


def _npy_table(path: Path, name: str | None = None, start: int = 0) -> Table:
    """An .npy file, or one stored at byte ``start`` of another."""
    array = _npy_array(path, start)

    def rows(lo: int, hi: int) -> np.ndarray:
        if 0 in array.shape:
            return np.empty((max(hi - lo, 0), *array.shape[1:]), array.dtype)
        return np.array(array.mapped()[lo:hi])

    return Table(name or str(path), array.shape, array.dtype, rows)


def _npy_header(file: Any) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise WidegramError(f"{file.name}: .npy version {version} is not supported; save it again")
    try:
        shape, fortran, dtype = read(file)
    except (tokenize.TokenError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"its header is damaged: {reason(error)}") from error
    # A boolean is an integer for NumPy's own check, and -1 a size.
    if len(shape) > _MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise WidegramError(f"{file.name}: is damaged, its shape is {shown(shape)}")
    return shape, "F" if fortran else "C", dtype


def _npz_table(path: Path, key: str | None) -> Table:
    key = _choose(path, key, list_arrays(path), "key")
    name = f"{path}:{key}"
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(key + ".npy")
        with archive.open(info) as member:
            _check_member(name, member, info.file_size)
        if info.compress_type == zipfile.ZIP_STORED:
            with archive.open(info) as member:
                while member.read(_BLOCK):  # compares the archive's checksum, at the end
                    pass
            return _npy_table(path, name, _member_start(path, info))
        unpacked = _unpacked(archive, info, name)
    table = _npy_table(Path(unpacked.name), name)

    def rows(lo: int, hi: int, _keep: Any = unpacked) -> np.ndarray:
        return table.rows(lo, hi)

    return Table(name, table.shape, table.dtype, rows)


def _check_member(name: str, member: Any, size: int) -> None:
    """Refuse a member whose header promises more than it holds, before it is unpacked."""
    shape, _, dtype = _npy_header(member)
    wanted = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise WidegramError(f"{name}: holds Python objects, not numbers")
    if wanted > size:
        raise WidegramError(f"{name}: is truncated, {wanted - size:,} bytes are missing")


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Any:
    """A compressed member in an anonymous file, which lives as long as the object."""
    unpacked = tempfile.NamedTemporaryFile(suffix=".npy")  # noqa: SIM115 (lives with the table)
    free = shutil.disk_usage(unpacked.name).free
    if info.file_size > free:
        raise WidegramError(
            f"{name}: unpacks to {info.file_size:,} bytes, {free:,} are free in "
            f"{tempfile.gettempdir()}; set TMPDIR, or save it as .npy"
        )
    with archive.open(info) as member:
        shutil.copyfileobj(member, unpacked, _BLOCK)
    unpacked.flush()
    return unpacked


def _member_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Offset of a stored member's bytes: its local header is 30 bytes, a name and extra fields."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    if len(header) < 30 or not header.startswith(b"PK\3\4"):
        raise WidegramError(f"{path}: is damaged, its directory points nowhere")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + 30 + name_length + extra_length)


def _h5_table(path: Path, key: str | None) -> Table:
    # h5py takes long to import, which arrays in memory do without.
    from widegram.durable.hdf5 import open_file, stored_dataset
    from widegram.durable.sealed import checked_rows

    if not key:
        key = _choose(path, key, list_arrays(path), "dataset")
    file = open_file(path, foreign=True)
    try:
        dataset = stored_dataset(file, key)
    except KeyError:
        file.close()
        raise WidegramError(
            f"{path}: no dataset {shown(key)}; {nearest(key, list_arrays(path))}"
        ) from None
    name = f"{path}:{key}"
    return Table(name, dataset.shape, dataset.dtype, checked_rows(dataset, name))
