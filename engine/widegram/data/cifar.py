"""CIFAR-10, in its binary and its Python version (Krizhevsky 2009).

Binary: records of one label byte and 3072 bytes, the red, green and blue 32 x 32 planes. Python:
pickled dictionaries with ``data`` (n, 3072) of the same layout and ``labels``.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.formats import array_table
from widegram.data.raw import RawData, Split
from widegram.errors import WidegramError

_TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
_TEST = "test_batch"
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_PIXELS = 3072
_CLASSES = 10
# All that NumPy arrays and byte strings need, under the names that old and new versions write.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds arrays, numbers and strings, and runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def has_cifar(folder: Path) -> bool:
    """Whether a directory (or its usual sub-directory) holds CIFAR-10 batches."""
    return _batches(folder) is not None


def _batches(folder: Path) -> tuple[Path, str] | None:
    """The directory of the batches and their suffix."""
    for name in _FOLDERS:
        for suffix in (".bin", ""):
            if any((folder / name / (batch + suffix)).is_file() for batch in (*_TRAIN, _TEST)):
                return folder / name, suffix
    return None


def open_cifar(folder: Path) -> RawData:
    """Training and test images (32, 32, 3) of uint8 with labels 0 to 9.

    Raises :class:`WidegramError` for damaged files; where some training batches are missing the
    note says so.
    """
    found = _batches(folder)
    if found is None:
        raise WidegramError(
            f"{folder}: holds no CIFAR-10 batches (data_batch_1.bin or data_batch_1)"
        )
    place, suffix = found
    train = [place / (b + suffix) for b in _TRAIN if (place / (b + suffix)).is_file()]
    test = place / (_TEST + suffix)
    if not train:
        raise WidegramError(f"{place}: has no training batches (data_batch_1{suffix} ...)")
    note = "" if len(train) == len(_TRAIN) else f"only {len(train)} of 5 training batches are there"
    return RawData(
        str(folder),
        _split(train, suffix, str(place)),
        _split([test], suffix, str(test)) if test.is_file() else None,
        note,
    )


def _split(files: list[Path], suffix: str, name: str) -> Split:
    read = _read_binary if suffix else _read_python
    parts = [read(file) for file in files]
    planes = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Split(array_table(images, name), np.concatenate([labels for _, labels in parts]))


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(path, np.uint8)
    record = _PIXELS + 1
    if not len(data) or len(data) % record:
        raise WidegramError(
            f"{path}: is truncated or damaged: {len(data)} bytes are no multiple of {record}; "
            "download it again"
        )
    records = data.reshape(-1, record)
    return records[:, 1:], _checked(path, records[:, 0])


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(path, "rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
        pixels, labels = batch["data"], np.asarray(batch["labels"])
    except pickle.UnpicklingError as error:
        raise WidegramError(f"{path}: is no CIFAR-10 batch, or damaged: {error}") from error
    except KeyError as error:
        raise WidegramError(f"{path}: is no CIFAR-10 batch: it has no entry {error}") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise WidegramError(
            f"{path}: is truncated or damaged ({error}); download it again"
        ) from error
    if labels.ndim != 1 or not labels.size:
        raise WidegramError(f"{path}: is damaged: its labels are no list of numbers")
    shape = (len(labels), _PIXELS)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise WidegramError(f"{path}: is damaged: its data is not uint8 of shape {shape}")
    return pixels, _checked(path, labels)


def _checked(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= _CLASSES:
        raise WidegramError(f"{path}: is damaged: its labels are not all between 0 and 9")
    return labels.astype(np.int64)
