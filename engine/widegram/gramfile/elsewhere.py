"""Virtual gram files: all of a matrix but its tiles, which stay in the files of its shards.

``/nngp`` and the others are HDF5 virtual datasets over ``<name>.shard-K-of-N`` beside the file, so
that any HDF5 reader sees the matrix; NaN where a shard is missing. This program never reads
through them: it looks after every shard first, opens those itself, and compares tiles with the
checksums in the virtual file. ``/state/shards`` (N, 3), uint64, has of each shard its bytes, the
time of its last change in nanoseconds, and :meth:`ShardFile.digest`. Where size or time differ,
all tiles of the shard are compared with their checksums.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from widegram.closing import Closing
from widegram.durable import reserve
from widegram.errors import WidegramError
from widegram.gramfile.header import Header
from widegram.gramfile.layout import MatrixBlock, ShardLayout
from widegram.gramfile.shardfile import ShardFile
from widegram.machine.log import logger
from widegram.sharding import Shard

TABLE = "state/shards"
_OPEN = 32  # files at once: a cluster's shards are more than a process may open
Array = NDArray[Any]
Row = tuple[int, int, int]


def describe(file: h5py.File, header: Header) -> None:
    """Add the virtual datasets and the table of shards to a new file."""
    assert header.elsewhere is not None
    base, total = header.elsewhere
    shape, dtype = (header.n1, header.n2), np.dtype(header.dtype).newbyteorder("<")
    shards = [Shard(number, total) for number in range(1, total + 1)]
    layouts = {shard: ShardLayout(header.grid, shard) for shard in shards}
    for key in header.keys:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_fill_value(np.array(np.nan, dtype))
        plist.set_obj_track_times(False)  # two runs give the same bytes
        for shard, layout in layouts.items():
            # HDF5 counts files where a name has a % in it.
            name = os.fsencode(shard.file(Path(base))).replace(b"%", b"%%")
            shapes = {one.path: one.shape for one in layout.stored(key)}
            for path, start, rows, cols in layout.rectangles(key):
                size = len(rows), len(cols)
                target = _block(shape, (rows.start, cols.start), size)
                plist.set_virtual(target, name, path.encode(), _block(shapes[path], start, size))
        folder, _, leaf = key.rpartition("/")
        group = file.require_group(folder) if folder else file
        stored = h5py.h5t.py_create(dtype, logical=True)
        h5py.h5d.create(group.id, leaf.encode(), stored, h5py.h5s.create_simple(shape), plist)
    reserve(file, TABLE, (total, 3), "uint64")


def _block(shape: tuple[int, int], start: tuple[int, int], size: tuple[int, int]) -> Any:
    """A dataspace with one block selected."""
    space = h5py.h5s.create_simple(shape)
    space.select_hyperslab(start, size)
    return space


def row_of(shard: ShardFile) -> Row:
    """The row of a shard in the table."""
    return (*_stat(shard.path), shard.digest())


class Shards(Closing):
    """The shards of the virtual file ``path``, all of which are as they were when it was made.

    Raises :class:`WidegramError` naming one that is missing or was changed.
    """

    def __init__(self, path: Path, header: Header, table: Array) -> None:
        assert header.elsewhere is not None
        base, total = header.elsewhere
        folder = Path(os.path.realpath(path)).parent
        if os.path.basename(base) != base or table.shape != (total, 3):
            raise ValueError("its table of shards is not what was written")
        self.path, self.header = path, header
        self._files = [Shard(k, total).file(folder / base) for k in range(1, total + 1)]
        self._table: list[Row] = [(int(a), int(b), int(c)) for a, b, c in table]
        self._seen: dict[int, tuple[int, int]] = {}
        self._opened: OrderedDict[int, ShardFile] = OrderedDict()
        self._lock = threading.Lock()
        for number in range(total):
            self._check(number)

    def matrix(self, key: str) -> Assembled:
        """The matrix ``key``, read from the shards."""
        return Assembled(self, key)

    def read_into(
        self, into: Array, number: int, rectangle: MatrixBlock, rows: range, cols: range
    ) -> None:
        """Put the entries [rows, cols] of ``rectangle``, of shard ``number``, into ``into``."""
        top = rectangle.start[0] + rows.start - rectangle.rows.start
        left = rectangle.start[1] + cols.start - rectangle.cols.start
        with self._lock:
            data = self._open(number).dataset(rectangle.path)
            into[...] = data[top : top + len(rows), left : left + len(cols)]

    def layouts(self) -> list[ShardLayout]:
        """The layout of each shard."""
        total = len(self._files)
        return [ShardLayout(self.header.grid, Shard(k, total)) for k in range(1, total + 1)]

    def _check(self, number: int) -> None:
        """Raise unless a shard is there and what it was."""
        path = self._files[number]
        if not path.is_file():
            raise WidegramError(
                f"{self.path}: {path} is missing, which holds its tiles; put it back, or run its "
                "`widegram gram --shard` command and `widegram join --virtual` again"
            )
        now = _stat(path)
        if now == self._table[number][:2] or now == self._seen.get(number):
            return
        logger.info("%s: %s has another size or time: comparing its checksums", self.path, path)
        try:
            with ShardFile(path) as shard:
                if shard.digest() != self._table[number][2]:
                    raise WidegramError(f"{path}: holds something else")
                shard.check_tiles()
        except WidegramError as error:
            raise WidegramError(
                f"{self.path}: the shard {path} was changed since it was joined: {error}; "
                "put it back, or join again"
            ) from error
        self._seen[number] = now

    def _open(self, number: int) -> ShardFile:
        found = self._opened.pop(number, None)
        if found is None:
            self._check(number)
            found = ShardFile(self._files[number])
        self._opened[number] = found
        if len(self._opened) > _OPEN:
            self._opened.popitem(last=False)[1].close()
        return found

    def close(self) -> None:
        """Close all files."""
        while self._opened:
            self._opened.popitem()[1].close()


class Assembled:
    """An (n1, n2) matrix whose entries lie in shards; sliced like an h5py dataset, by slices and
    whole numbers."""

    def __init__(self, shards: Shards, key: str) -> None:
        header = shards.header
        self._shards, self.name = shards, f"/{key}"
        self.shape, self.dtype = (header.n1, header.n2), np.dtype(header.dtype)
        self._rectangles = [
            (number, rectangle)
            for number, layout in enumerate(shards.layouts())
            for rectangle in layout.rectangles(key)
        ]
        self._edges = np.array(
            [(p.rows.start, p.rows.stop, p.cols.start, p.cols.stop) for _, p in self._rectangles]
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> Any:
        """A block, a row, a column or an entry."""
        spans, squeezed = self._spans(place)
        ordered = [span if span.step > 0 else span[::-1] for span in spans]
        rows, cols = (range(s[0], s[-1] + 1) if s else range(0) for s in ordered)
        block = np.empty((len(rows), len(cols)), self.dtype)
        self._fill(block, rows, cols)
        steps = [slice(None, None, abs(span.step)) for span in spans]
        found = block[steps[0], steps[1]]
        turned = [slice(None, None, -1 if span.step < 0 else 1) for span in spans]
        return found[turned[0], turned[1]][tuple(0 if one else slice(None) for one in squeezed)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:, :], dtype)

    def read_direct(self, into: Array, place: Any) -> None:
        """The block at two slices into an array of its shape and any float dtype."""
        (rows, cols), _ = self._spans(place)
        self._fill(into, rows, cols)

    def _spans(self, place: Any) -> tuple[tuple[range, range], tuple[bool, bool]]:
        parts = list(place) if isinstance(place, tuple) else [place]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (3 - len(parts))
        parts += [slice(None)] * (2 - len(parts))
        spans, single = [], []
        for part, length in zip(parts, self.shape, strict=True):
            single.append(not isinstance(part, slice))
            if isinstance(part, slice):
                spans.append(range(*part.indices(length)))
            else:
                number = range(length)[part]
                spans.append(range(number, number + 1))
        return (spans[0], spans[1]), (single[0], single[1])

    def _fill(self, into: Array, rows: range, cols: range) -> None:
        """Put a block, whose slices have steps of 1, into an array."""
        if not rows or not cols:
            return
        top, bottom, left, right = self._edges.T
        hit = (top < rows.stop) & (bottom > rows.start) & (left < cols.stop) & (right > cols.start)
        for n in np.flatnonzero(hit).tolist():
            number, rectangle = self._rectangles[n]
            inner = _common(rows, rectangle.rows), _common(cols, rectangle.cols)
            target = tuple(
                slice(part.start - span.start, part.stop - span.start)
                for part, span in zip(inner, (rows, cols), strict=True)
            )
            self._shards.read_into(into[target], number, rectangle, *inner)


def _common(one: range, other: range) -> range:
    return range(max(one.start, other.start), min(one.stop, other.stop))


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
