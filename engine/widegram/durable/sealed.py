"""HDF5 files that say by themselves whether they are whole: a checksum for each dataset, a seal.

Each dataset has the attribute ``checksum`` (uint64), the xxh3-64 of its C-ordered little-endian
bytes; the root has ``seal`` (uint64), the xxh3-64 of all other attributes of the root, of groups
and of these datasets, their names, dtypes and shapes. Checksums are attributes and so part of the
seal: whoever compares the seal and the checksums of what he reads has compared everything that he
reads. Datasets without the attribute, which a user may have added, are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.closing import ClosedOnFailure, Closing
from widegram.durable import (
    Part,
    Skeleton,
    build,
    metadata_checksum,
    new_file,
    reserve,
    with_trailer,
)
from widegram.durable.contents import checksum, little, octets, plain, text_of
from widegram.durable.hdf5 import Unreadable, hdf5_errors, open_file, stored_dataset
from widegram.errors import WidegramError

Array = NDArray[Any]
Attributes = Mapping[str, Any]
CHECKSUM, SEAL = "checksum", "seal"
GUARD = "guard"  # see widegram.durable.filled
_BLOCK_BYTES = 1 << 24


class Broken(WidegramError):
    """A sealed file that is not what was written; the message says which part of it."""


def write_sealed(
    path: str | Path,
    datasets: Mapping[str, Any],
    attributes: Attributes,
    *,
    of: Mapping[str, Attributes] | None = None,
    overwrite: bool = False,
) -> None:
    """Write arrays of numbers (by their paths) and root attributes; whole or not at all.

    ``of`` has the attributes of datasets. Errors as :func:`widegram.durable.new_file`'s.
    """
    with new_file(path, overwrite=overwrite) as part:
        NewSealed(part, _nothing).finish(datasets, attributes, of=of)


@contextmanager
def new_sealed(
    path: str | Path,
    describe: Callable[[h5py.File], None],
    *,
    live: Collection[str] = (),
    overwrite: bool = False,
) -> Iterator[NewSealed]:
    """Yield a :class:`NewSealed`; its ``finish`` must be called in the block."""
    with new_file(path, overwrite=overwrite) as part:
        yield NewSealed(part, describe, live)


class NewSealed:
    """A sealed file in the making: large datasets come piece by piece, the rest at the end.

    ``describe(file)`` reserves the large ones (see :func:`widegram.durable.reserve`) in a file in
    memory. Their places depend on nothing that is added later, so that data is written at once and
    metadata when all checksums are known. The datasets ``live`` are filled later, in place: they
    need not be written now and have no checksum of this kind.
    """

    def __init__(
        self, part: Part, describe: Callable[[h5py.File], None], live: Collection[str] = ()
    ) -> None:
        self._part, self._describe = part, describe
        self._skeleton = build(describe)
        self._part.allocate(self._skeleton.size)
        fixed = self._skeleton.extents.keys() - set(live)
        self._sums = {name: xxhash.xxh3_64() for name in fixed}
        self._rows = dict.fromkeys(self._skeleton.extents, 0)

    def append(self, name: str, block: Array) -> None:
        """The next rows of a reserved dataset, converted to its dtype."""
        self._put(self._skeleton, name, block, self._rows[name])
        self._rows[name] += len(block)

    def finish(
        self,
        datasets: Mapping[str, Any],
        attributes: Attributes,
        *,
        of: Mapping[str, Attributes] | None = None,
    ) -> None:
        """Add datasets held in memory, attributes of the root and ``of`` datasets, and the seal.

        Raises RuntimeError where rows of a reserved dataset are missing.
        """
        arrays = {name: little(array) for name, array in datasets.items()}
        for name in self._sums:
            if self._rows[name] != self._skeleton.extents[name].shape[0]:
                raise RuntimeError(f"rows of {name} are missing")
        sums = {name: digest.intdigest() for name, digest in self._sums.items()}
        sums |= {name: checksum(array) for name, array in arrays.items()}

        def describe(file: h5py.File) -> None:
            self._describe(file)
            for name, array in arrays.items():
                reserve(file, name, array.shape, array.dtype)
            for name, digest in sums.items():
                file[name].attrs.update((of or {}).get(name, {}))
                file[name].attrs[CHECKSUM] = np.uint64(digest)
            file.attrs.update({name: _plain(value) for name, value in attributes.items()})
            seal(file)

        bare = build(describe)
        skeleton = with_trailer(bare)
        for name, extent in self._skeleton.extents.items():
            if not np.array_equal(extent.offsets, skeleton.extents[name].offsets):
                raise RuntimeError(f"the place of {name} has changed")
        self._part.allocate(skeleton.size)
        for name, array in arrays.items():
            self._put(skeleton, name, array, 0)
        for offset, data in skeleton.segments:
            self._part.write(offset, data)
        if GUARD in skeleton.extents:
            guard = metadata_checksum(bare.extents.values(), bare.size, bare.read)
            self._put(skeleton, GUARD, np.array([guard], np.uint64), 0)

    def _put(self, skeleton: Skeleton, name: str, block: Array, row: int) -> None:
        extent = skeleton.extents[name]
        if name in self._sums:
            self._sums[name].update(octets(np.asarray(block, extent.dtype)))
        for offset, data in extent.pieces(block, row):
            self._part.write(offset, data)


def seal(file: h5py.File) -> None:
    """Seal a file that is being made, once everything else is in it."""
    file.attrs[SEAL] = np.uint64(_seal_of(file))


class SealedFile(Closing):
    """A sealed file opened for reading, its seal compared; a context manager that closes it.

    * ``format_``: the attribute ``format`` that it has to have
    * ``what``: what it has to be, for messages: 'a solution; `widegram solve` writes them'
    * ``remedy``: what to do about a damaged one

    Raises :class:`WidegramError` for a missing or foreign file, :class:`Broken` for a damaged one.
    """

    def __init__(self, path: str | Path, format_: str, what: str, remedy: str) -> None:
        self.path, self._remedy = Path(path), remedy
        self._file = open_file(self.path)
        with ClosedOnFailure(self), self._trusting():
            if text_of(self._file.attrs.get("format")) != format_:
                raise WidegramError(f"{path}: is not {what}")
            check_seal(self._file)

    @property
    def attributes(self) -> dict[str, Any]:
        """Root attributes as plain Python values (arrays as arrays)."""
        with self._trusting():
            return {name: plain(value) for name, value in self._file.attrs.items()}

    def __contains__(self, name: str) -> bool:
        with self._trusting():
            return name in self._file and CHECKSUM in self._file[name].attrs

    def array(self, name: str) -> Array:
        """A whole dataset; :class:`Broken` where its checksum is not the one that was written."""
        with self._trusting():
            dataset = stored_dataset(self._file, name)
            found: Array = dataset[()]
            if checksum(found) != _stored_checksum(dataset):
                raise Broken(f"its /{name} has another checksum than was written")
            return found

    @contextmanager
    def parsing(self) -> Iterator[None]:
        """Whatever goes wrong with values that are not what was written, though their checksums are
        right, as one line that names the file and the remedy."""
        try:
            yield
        except WidegramError:
            raise
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            OverflowError,
            RecursionError,
        ) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise Broken(f"{self.path}: is damaged ({reason}); {self._remedy}") from error

    @contextmanager
    def _trusting(self) -> Iterator[None]:
        """Whatever HDF5 makes of damage, as one line that names the file and the remedy."""
        try:
            with hdf5_errors(self.path):
                yield
        except Unreadable as error:
            raise Broken(f"{error}; {self._remedy}") from error
        except Broken as error:
            raise Broken(f"{self.path}: is damaged or was changed: {error}; {self._remedy}") from (
                error
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_sealed(file: h5py.File) -> bool:
    """Whether an open file claims to be one of ours that is sealed."""
    return SEAL in file.attrs and (text_of(file.attrs.get("format")) or "").startswith("widegram-")


def check_seal(file: h5py.File) -> None:
    """Raise :class:`Broken` unless attributes, names, dtypes and shapes are as they were sealed."""
    if SEAL not in file.attrs:
        raise Broken("it has no seal (an older version wrote it, or it is damaged)")
    if int(file.attrs[SEAL]) != _seal_of(file):
        raise Broken("its attributes or names are not those that were written")


def check_dataset(dataset: h5py.Dataset) -> None:
    """Raise :class:`Broken` unless a dataset has its checksum; read block by block."""
    digest = xxhash.xxh3_64()
    if dataset.ndim == 0 or dataset.size == 0:
        digest.update(octets(dataset[()]))
    else:
        row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
        step = max(1, _BLOCK_BYTES // row_bytes)
        for lo in range(0, dataset.shape[0], step):
            digest.update(octets(dataset[lo : lo + step]))
    if CHECKSUM not in dataset.attrs or digest.intdigest() != _stored_checksum(dataset):
        raise Broken(f"its {dataset.name} has another checksum than was written")


def checked_rows(dataset: h5py.Dataset, name: str) -> Callable[[int, int], Array]:
    """What reads rows [lo, hi) of any dataset; of a sealed file's once it has been checked.

    The reader raises :class:`Broken`, calling the dataset ``name``.
    """
    trusted = not is_sealed(dataset.file)

    def rows(lo: int, hi: int) -> Array:
        nonlocal trusted
        if not trusted:
            try:
                with hdf5_errors(Path(name)):
                    check_seal(dataset.file)
                    check_dataset(dataset)
            except (Broken, Unreadable) as error:
                line = f"{name}: is damaged or was changed: {error}; make it again"
                raise Broken(line) from error
            trusted = True
        found: Array = dataset[lo:hi]
        return found

    return rows


def sealed_datasets(file: h5py.File) -> list[str]:
    """Paths of the datasets that have a checksum, in order."""
    return sorted(
        name
        for name, item in _items(file)
        if isinstance(item, h5py.Dataset) and CHECKSUM in item.attrs
    )


def _plain(value: Any) -> Any:
    """An attribute's value; of a text NumPy's type, which HDF5 does not store, is taken off."""
    return str(value) if isinstance(value, str) else value


def _nothing(file: h5py.File) -> None:
    """The description of a file whose datasets all come at the end."""


def _items(file: h5py.File) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: found.append((name, item)))
    return found


def _seal_of(file: h5py.File) -> int:
    digest = xxhash.xxh3_64()

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)

    for name, item in [("", file), *sorted(_items(file), key=lambda pair: pair[0])]:
        if isinstance(item, h5py.Dataset):
            if CHECKSUM not in item.attrs:
                continue
            add(b"dataset", name.encode(errors="surrogateescape"), *_kind(item))
        for attribute in sorted(item.attrs):
            if name or attribute != SEAL:
                value = item.attrs[attribute]
                add(b"attribute", name.encode(errors="surrogateescape"))
                add(attribute.encode(errors="surrogateescape"), *_encoded(value))
    return digest.intdigest()


def _kind(array: Any) -> tuple[bytes, bytes]:
    shape = None if array.shape is None else tuple(map(int, array.shape))  # None: a null dataspace
    return array.dtype.newbyteorder("<").str.encode(), repr(shape).encode()


def _encoded(value: Any) -> tuple[bytes, ...]:
    """An attribute's value, so that different ones differ."""
    if isinstance(value, str):
        return (b"text", value.encode(errors="surrogateescape"))
    if isinstance(value, bytes):
        return (b"bytes", value)
    if isinstance(value, h5py.Empty):
        return (b"empty",)
    array = np.asarray(value)
    if array.dtype.hasobject:
        texts = [part for one in array.reshape(-1) for part in _encoded(one)]
        return (b"texts", repr(array.shape).encode(), *texts)
    return (b"numbers", *_kind(array), bytes(octets(array)))


def _stored_checksum(dataset: h5py.Dataset) -> int:
    return int(dataset.attrs[CHECKSUM])
