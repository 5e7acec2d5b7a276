"""The IDX format of the MNIST family, plain or gzipped.

Format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type code, the rank, the sizes as
big-endian 32-bit integers, then the values, big-endian.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from widegram.data.formats import array_table
from widegram.data.raw import RawData, Split
from widegram.errors import WidegramError
from widegram.validation.arrays import as_int64

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES = re.compile(
    r"(?P<family>.*?)(?P<split>train|t10k|test)-images[-.]idx\d-ubyte(?:\.gz)?", re.IGNORECASE
)
_GZIP = b"\x1f\x8b"
_MOST_AXES = 8
_LARGEST_RATIO = 1032  # bytes that deflate makes of one (zlib's documentation)


def is_idx(path: Path) -> bool:
    """Whether a file starts like IDX, once unzipped."""
    try:
        with open(path, "rb") as file:
            head = file.read(2)
        with gzip.open(path) if head == _GZIP else open(path, "rb") as file:
            magic = file.read(4)
    except (OSError, EOFError, zlib.error):
        return "idx" in path.name
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _DTYPES and magic[3] > 0


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, in native byte order.

    Raises :class:`WidegramError` for a damaged gzip stream, a header that is not IDX, and a size
    other than the header's.
    """
    with _errors(path), _stream(path) as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
            raise WidegramError(f"{path}: is not an IDX file (its first bytes are {head.hex(' ')})")
        rank = head[3]
        if not 1 <= rank <= _MOST_AXES:
            raise WidegramError(f"{path}: has rank {rank}, ranks 1 to {_MOST_AXES} are read")
        sizes = file.read(4 * rank)
        if len(sizes) < 4 * rank:
            raise WidegramError(f"{path}: is truncated inside its header; download it again")
        shape = struct.unpack(f">{rank}I", sizes)
        dtype = np.dtype(_DTYPES[head[2]])
        expected = dtype.itemsize * math.prod(shape)
        # A header that lies is found before memory for what it promises is asked for.
        possible = expected <= path.stat().st_size * _LARGEST_RATIO
        data = file.read(expected + 1) if possible else b""
    if len(data) != expected:
        state = "damaged" if len(data) > expected else "truncated"
        found = f"more than {expected}" if len(data) > expected else len(data)
        found = found if possible else f"at most {path.stat().st_size * _LARGEST_RATIO}"
        raise WidegramError(
            f"{path}: is {state}: {expected} bytes of data expected for shape {shape}, "
            f"{found} found; download it again"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _stream(path: Path) -> IO[bytes]:
    """The content of a file, unzipped where it is gzipped."""
    with open(path, "rb") as file:
        zipped = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path) if zipped else open(path, "rb"))


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WidegramError(
            f"{path}: is truncated or damaged ({error}); download it again"
        ) from error
    except OSError as error:
        raise WidegramError(f"{path}: cannot be read: {error.strerror or error}") from error


def open_idx(path: Path) -> RawData:
    """A directory with ``train-images-idx3-ubyte(.gz)`` and its companions, or one image file.

    Images (n, H, W) of the dtype of the file, labels (n,) int64. Raises WidegramError for
    several data sets in one directory, missing labels, and as :func:`read_idx`.
    """
    if path.is_file():
        return RawData(str(path), _split(path))
    found: dict[tuple[str, str], Path] = {}
    for file in sorted(path.iterdir()):
        if match := _IMAGES.fullmatch(file.name):
            key = match["family"], "train" if match["split"].lower() == "train" else "test"
            # A plain file is listed before its gzipped twin and stays.
            found.setdefault(key, file)
    families = sorted({family for family, _ in found})
    if len(families) != 1:
        raise WidegramError(
            f"{path}: holds several IDX data sets ({', '.join(map(repr, families))}); "
            "keep one, or give one of its image files"
        )
    if (families[0], "train") not in found:
        raise WidegramError(f"{path}: has no train-images-idx3-ubyte file beside its test images")
    test = found.get((families[0], "test"))
    return RawData(str(path), _split(found[families[0], "train"]), _split(test) if test else None)


def has_idx(folder: Path) -> bool:
    """Whether a directory holds image files of the MNIST family."""
    return any(_IMAGES.fullmatch(file.name) for file in folder.iterdir())


def _split(images: Path) -> Split:
    return Split(array_table(read_idx(images), str(images)), _labels(images))


def _labels(images: Path) -> np.ndarray | None:
    """The labels that lie beside an image file under the usual name."""
    if "images" not in images.name:
        return None
    plain = re.sub(r"idx\d", "idx1", images.name.removesuffix(".gz").replace("images", "labels"))
    for name in (plain, plain + ".gz"):
        path = images.with_name(name)
        if path.is_file():
            labels = read_idx(path)
            if labels.ndim != 1:
                raise WidegramError(f"{path}: labels of rank {labels.ndim}, rank 1 expected")
            return as_int64(labels, str(path))
    raise WidegramError(f"{images}: its labels {images.with_name(plain)} (or .gz) are missing")
