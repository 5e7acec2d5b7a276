"""The IDX format of the MNIST family, plain or gzipped.

Format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type code, the rank, the sizes as
big-endian 32-bit integers, then the values, big-endian.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from widegram.data.raw import RawData, Split
from widegram.data.tables import array_table
from widegram.errors import WidegramError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES = re.compile(
    r"(?P<family>.*?)(?P<split>train|t10k|test)-images[-.]idx\d-ubyte(?:\.gz)?", re.IGNORECASE
)
_GZIP = b"\x1f\x8b"


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
    data = _content(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES:
        raise WidegramError(f"{path}: is not an IDX file (its first bytes are {data[:4].hex(' ')})")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise WidegramError(f"{path}: is truncated inside its header; download it again")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    dtype = np.dtype(_DTYPES[data[2]])
    expected = dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(data) - start != expected:
        state = "truncated" if len(data) - start < expected else "damaged"
        raise WidegramError(
            f"{path}: is {state}: {expected} bytes of data expected for shape {shape}, "
            f"{len(data) - start} found; download it again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == _GZIP else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WidegramError(
            f"{path}: is truncated or damaged ({error}); download it again"
        ) from error
    except OSError as error:
        raise WidegramError(f"{path}: cannot be read: {error.strerror or error}") from error


def open_idx(path: Path) -> RawData:
    """A directory with ``train-images-idx3-ubyte(.gz)`` and its companions, or one image file."""
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
            return labels.astype(np.int64)
    raise WidegramError(f"{images}: its labels {images.with_name(plain)} (or .gz) are missing")
