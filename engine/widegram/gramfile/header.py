"""What a gram file holds: its header, its tiles and the names of its datasets.

Datasets ``/nngp``, ``/ntk`` (or ``/depth/<l>/nngp``, ``/head/<name>/nngp``, ...) of shape (n1, n2);
root attributes as in :class:`Header`; ``/state/tiles`` (uint8, 1 where a tile is finished) and
``/state/checksums/<dataset path>`` (uint64, xxh3-64 of a tile's C-ordered little-endian bytes),
both of shape :attr:`TileGrid.shape`; ``/state/header`` (uint64, :meth:`Header.checksum`) and
``/state/reserved`` (:mod:`widegram.gramfile.reserved`). Of the inputs themselves
``/diagonal/...`` (:mod:`widegram.gramfile.diagonals`). A shard keeps its tiles alone
(:mod:`widegram.gramfile.layout`), a virtual file none (:mod:`widegram.gramfile.elsewhere`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import xxhash

from widegram.durable import reserve
from widegram.durable.contents import text_of, typed
from widegram.durable.hdf5 import stored_dataset
from widegram.errors import WidegramError
from widegram.gramfile.diagonals import FOLDER, DiagonalPlaces
from widegram.gramfile.layout import Elsewhere, ShardLayout, TileLayout, Whole, bytes_of
from widegram.gramfile.reserved import LENGTH, TABLE, reserve_texts
from widegram.sharding import Shard
from widegram.tiling import TileGrid, dataset_keys
from widegram.validation.kernel_names import in_order

FORMAT = "widegram-gram"
SHARD_FORMAT = "widegram-shard"
FORMAT_VERSION = 2
STATE = "state/tiles"
CHECKSUMS = "state/checksums"
HEADER_CHECKSUM = "state/header"


@dataclass(frozen=True, kw_only=True)
class Header:
    """Root attributes of a gram file; two runs with equal headers compute the same file.

    * ``network``: canonical JSON
    * ``network_fingerprint``, ``x1_fingerprint``, ``x2_fingerprint``: hex strings; that of x2 is
      empty for the symmetric matrix of x1 with itself, those of lists of inputs have one for each,
      with spaces between them
    * ``x1_location``, ``x2_location``: where the data was read from, so that ``verify`` can compute
      tiles again; empty for arrays in memory
    * ``n1``, ``n2``: rows and columns
    * ``kernels``, ``depths``, ``heads``: what the matrices are of
    * ``dtype``, ``symmetric``, ``tile``: how they are stored
    * ``device``, ``program_version``: what made them
    * ``diagonals``: whether the file has places for K(x, x) of its inputs
    * ``shard``: whose tiles it has; None where that is all
    * ``elsewhere``: of a virtual file, the matrix whose shards hold its tiles, and how many
    """

    network: str
    network_fingerprint: str
    x1_fingerprint: str
    x2_fingerprint: str
    x1_location: str
    x2_location: str
    n1: int
    n2: int
    kernels: tuple[str, ...]
    depths: tuple[int, ...]
    dtype: str
    symmetric: bool
    device: str
    program_version: str
    tile: int
    heads: tuple[str, ...] = ()
    diagonals: bool = False
    shard: Shard | None = None
    elsewhere: tuple[str, int] | None = None

    @property
    def grid(self) -> TileGrid:
        """The tiles of the file."""
        return TileGrid(self.n1, self.n2, self.tile, self.symmetric)

    @property
    def keys(self) -> tuple[str, ...]:
        """Paths of the datasets, without a leading slash."""
        return dataset_keys(self.kernels, self.depths, self.heads)

    @cached_property
    def layout(self) -> TileLayout:
        """Where the file keeps its tiles."""
        if self.shard is not None:
            return ShardLayout(self.grid, self.shard)
        return (Whole if self.elsewhere is None else Elsewhere)(self.grid)

    @property
    def places(self) -> DiagonalPlaces:
        """Where the file has K(x, x) of its inputs."""
        sides = ("x1",) if self.symmetric else ("x1", "x2")
        spans = self.layout.stretches()
        return DiagonalPlaces(self.grid, self.keys, sides if self.diagonals else (), spans)

    def file_bytes(self) -> int:
        """Size of the file on disk, rounded up: padded chunks, their index, and the state."""
        data = sum(bytes_of(one, self.dtype) for one in self.layout.stored("")) + 2**11
        state = (8 * len(self.keys) + 1) * int(np.prod(self.layout.shape))
        down, across = self.layout.stretches()
        inputs = (len(down) + len(across)) * self.tile
        diagonals = (inputs + len(down) + len(across)) * 8 + len(down) + len(across) + 2**11
        diagonals = len(self.keys) * diagonals if self.diagonals else 0
        return len(self.keys) * data + state + diagonals + len(self.network) + 2**17

    def checksum(self) -> int:
        """xxh3-64 of everything in it but the device, which may change, and what is no part of the
        matrices."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["device"], values["diagonals"]
        for name in ("heads", "shard", "elsewhere"):  # as files have it that are older than these
            if not values[name]:
                del values[name]
        return int(xxhash.xxh3_64_intdigest(json.dumps(values, sort_keys=True).encode()))

    def differences(self, other: Header) -> list[str]:
        """What the run ``other`` asks for that this file is not, in words."""
        found = []
        if (self.shard, self.elsewhere) != (other.shard, other.elsewhere):
            found.append(f"it is {self.kind()}, not {other.kind()}")
        if self.network_fingerprint != other.network_fingerprint:
            found.append(_of_networks(self.network, other.network))
        if self.symmetric != other.symmetric:
            kinds = {True: "the symmetric matrix of x with itself", False: "a matrix of x with x2"}
            found.append(f"it holds {kinds[self.symmetric]}, not {kinds[other.symmetric]}")
        for name in ("x1", "x2"):
            field, rows = f"{name}_fingerprint", name.replace("x", "n")
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs and self.symmetric == other.symmetric:
                counts = f"{getattr(self, rows)} rows then, {getattr(other, rows)} now"
                what = f"data as {name}{_of_list(mine, theirs)}"
                if same_but_patterns(mine, theirs):
                    what = f"patterns of the inputs {name}"
                found.append(f"it was made from other {what} ({counts})")
        for name in ("kernels", "depths", "dtype", "device", "tile"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"its {name} is {_shown(mine)}, not {_shown(theirs)}")
        return found

    def kind(self) -> str:
        """What the file is, for messages."""
        if self.shard is not None:
            return f"shard {self.shard.number} of {self.shard.total}"
        if self.elsewhere is not None:
            return f"a virtual matrix over {self.elsewhere[1]} shards of {self.elsewhere[0]}"
        return "a whole matrix"

    def write(self, file: h5py.File, complete: bool) -> None:
        """Describe a new file: root attributes, those of changing values with reserved places, and
        all datasets."""
        file.attrs["format"] = FORMAT if self.shard is None else SHARD_FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["complete"] = complete
        for name in _ATTRIBUTES:
            file.attrs[name] = getattr(self, name)
        if self.shard is not None:
            file.attrs.update(n1=self.n1, n2=self.n2)
            file.attrs.update(shard=self.shard.number, shards=self.shard.total)
        if self.elsewhere is not None:
            file.attrs.update(n1=self.n1, n2=self.n2)
            file.attrs.update(shards_of=self.elsewhere[0], shards=self.elsewhere[1])
        reserve_texts(file)
        shape = self.layout.shape
        for key in self.keys:
            for path, size, chunk in self.layout.stored(key):
                reserve(file, path, size, self.dtype, chunk)
            reserve(file, f"{CHECKSUMS}/{key}", shape, "uint64")
        self.places.describe(file)
        reserve(file, STATE, shape, "uint8")
        reserve(file, HEADER_CHECKSUM, (1,), "uint64")
        reserve(file, TABLE, (LENGTH,), "uint64")


def same_but_patterns(mine: str, theirs: str) -> bool:
    """Whether fingerprints of inputs differ by those of their patterns alone, which stand behind a
    hyphen (:class:`~widegram.data.patterns.PatternedSource`)."""
    inputs = ([one.partition("-")[0] for one in each.split()] for each in (mine, theirs))
    return mine != theirs and next(inputs) == next(inputs)


def _of_list(mine: str, theirs: str) -> str:
    """What differs of the fingerprints of lists of inputs; empty for single ones."""
    before, now = mine.split(), theirs.split()
    if len(before) != len(now):
        return f": of {len(before)} inputs, not of {len(now)}"
    if len(now) < 2:
        return ""
    if sorted(before) == sorted(now):
        return ": its inputs in another order"
    wrong = [str(n) for n, (a, b) in enumerate(zip(before, now, strict=True), 1) if a != b]
    return f": input {', '.join(wrong)} of {len(now)}"


_ATTRIBUTES: dict[str, type] = {
    "network": str, "network_fingerprint": str, "x1_fingerprint": str, "x2_fingerprint": str,
    "x1_location": str, "x2_location": str, "dtype": str, "symmetric": bool,
    "program_version": str, "tile": int,
}  # fmt: skip


def _of_networks(mine: str, theirs: str) -> str:
    """A sentence that canonical networks differ, and how where it is by masks, flips or heads."""
    one, two = json.loads(mine), json.loads(theirs)
    found = [
        f"its {name} is {_named(one.get(name))}, not {_named(two.get(name))}"
        for name in ("mask", "augment")
        if one.get(name) != two.get(name)
    ]
    heads = _heads(one), _heads(two)
    if set(heads[0]) != set(heads[1]):
        found.append(f"its heads are {_named(heads[0])}, not {_named(heads[1])}")
    more = f" ({'; '.join(found)})" if found else ""
    return f"it was made from another network{more}"


def _heads(network: dict[str, Any]) -> list[str]:
    layers = network.get("layers") or [{}]
    return sorted(layers[-1].get("heads", {}))


def _named(value: Any) -> str:
    return (",".join(map(str, value)) if isinstance(value, list) else str(value or "")) or "none"


def _shown(value: Any) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def read_header(file: h5py.File, path: Any) -> Header:
    """The header of an open file.

    Raises :class:`WidegramError` if it is not a gram file, what h5py raises or ValueError if it
    is a damaged one.
    """
    attributes = file.attrs
    if text_of(attributes.get("format")) not in (FORMAT, SHARD_FORMAT):
        raise WidegramError(
            f"{path}: is an HDF5 file, but not a widegram gram file; `widegram data info` lists "
            "what it holds"
        )
    version = typed(attributes.get("format_version", 0), int)
    if version != FORMAT_VERSION:
        raise WidegramError(
            f"{path}: has format version {version}; this program reads {FORMAT_VERSION}; "
            "read it with the version that wrote it, or compute it again with --overwrite"
        )
    sums = file[CHECKSUMS]
    depths = tuple(sorted(int(d) for d in sums["depth"])) if "depth" in sums else ()
    inside = sums[f"depth/{depths[0]}"] if depths else sums
    heads = tuple(sorted(inside["head"])) if "head" in inside else ()
    inside = inside[f"head/{heads[0]}"] if heads else inside
    kernels = in_order(inside)
    shared = _shared(file)
    if not shared:
        n1, n2 = stored_dataset(file, dataset_keys(kernels, depths, heads)[0]).shape
        shared = {"n1": n1, "n2": n2}
    values: dict[str, Any] = {
        name: typed(attributes[name], kind) for name, kind in _ATTRIBUTES.items()
    }
    device = str(text_of(attributes["device"]))
    header = Header(
        kernels=kernels, depths=depths, heads=heads, device=device, diagonals=FOLDER in file,
        **shared, **values
    )  # fmt: skip
    if header.checksum() != int(stored_dataset(file, HEADER_CHECKSUM)[0]):
        raise ValueError("its root attributes have another checksum")
    _check_datasets(file, header)
    return header


def is_virtual(file: h5py.File) -> bool:
    """Whether an open file says that the tiles of its matrices lie in shards."""
    return text_of(file.attrs.get("format")) == FORMAT and "shards_of" in file.attrs


def _shared(file: h5py.File) -> dict[str, Any]:
    """The fields of a header that only shards and virtual files have as attributes; empty for whole
    files."""
    attributes = file.attrs
    if "shards" not in attributes:
        return {}
    found: dict[str, Any] = {name: typed(attributes[name], int) for name in ("n1", "n2")}
    count = typed(attributes["shards"], int)
    if text_of(attributes["format"]) == SHARD_FORMAT:
        shard = Shard(typed(attributes["shard"], int), count)
        if not 1 <= shard.number <= count:
            raise ValueError(f"it says that it is shard {shard}")
        return {**found, "shard": shard}
    return {**found, "elsewhere": (typed(attributes["shards_of"], str), count)}


def _check_datasets(file: h5py.File, header: Header) -> None:
    json.loads(header.network)
    if header.tile < 1:
        raise ValueError(f"its tile is {header.tile}")
    for path, shape, _ in (one for key in header.keys for one in header.layout.stored(key)):
        dataset = stored_dataset(file, path)
        if dataset.shape != shape or dataset.dtype != np.dtype(header.dtype):
            raise ValueError(f"dataset {path} has a wrong shape or dtype")
    for name in (STATE, *(f"{CHECKSUMS}/{key}" for key in header.keys)):
        if stored_dataset(file, name).shape != header.layout.shape:
            raise ValueError(f"dataset {name} has a wrong shape")
    header.places.check(file)
