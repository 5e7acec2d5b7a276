"""CIFAR-10 and CIFAR-100, in their binary and Python versions (Krizhevsky 2009).

Binary: records of one label byte (of CIFAR-100 two, the coarse and the fine one) and 3072 bytes,
the red, green and blue 32 x 32 planes. Python: pickled dictionaries with ``data`` (n, 3072) of the
same layout and ``labels`` (``fine_labels``). The labels of CIFAR-100 are its 100 fine ones.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.formats import array_table
from widegram.data.raw import RawData, Split
from widegram.errors import WidegramError

_PIXELS = 3072


@dataclass(frozen=True)
class _Edition:
    """One of the data sets.

    * ``name``; ``classes``: how many
    * ``train``, ``test``: names of its batches
    * ``folders``: where archives put them
    * ``entry``: of the labels in a pickle; ``label_bytes``: of a binary record, the last is taken
    * ``note``: what the user should know
    """

    name: str
    classes: int
    train: tuple[str, ...]
    test: str
    folders: tuple[str, ...]
    entry: str
    label_bytes: int
    note: str = ""


_EDITIONS = (
    _Edition(
        "CIFAR-10",
        10,
        tuple(f"data_batch_{k}" for k in range(1, 6)),
        "test_batch",
        ("", "cifar-10-batches-bin", "cifar-10-batches-py"),
        "labels",
        1,
    ),
    _Edition(
        "CIFAR-100",
        100,
        ("train",),
        "test",
        ("", "cifar-100-binary", "cifar-100-python"),
        "fine_labels",
        2,
        "the labels of CIFAR-100 are its 100 fine ones",
    ),
)
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
    """Whether a directory (or its usual sub-directory) holds CIFAR batches."""
    return _batches(folder) is not None


def _batches(folder: Path) -> tuple[_Edition, Path, str] | None:
    """Which data set, the directory of its batches and their suffix."""
    for edition in _EDITIONS:
        for name in edition.folders:
            for suffix in (".bin", ""):
                found = (folder / name / (b + suffix) for b in (*edition.train, edition.test))
                if any(batch.is_file() for batch in found):
                    return edition, folder / name, suffix
    return None


def open_cifar(folder: Path) -> RawData:
    """Training and test images (32, 32, 3) of uint8 with labels from 0.

    Raises :class:`WidegramError` for damaged files; where some training batches are missing the
    note says so.
    """
    found = _batches(folder)
    if found is None:
        raise WidegramError(
            f"{folder}: holds no CIFAR-10 batches (data_batch_1.bin or data_batch_1) and none of "
            "CIFAR-100 (train.bin or train)"
        )
    edition, place, suffix = found
    train = [place / (b + suffix) for b in edition.train if (place / (b + suffix)).is_file()]
    test = place / (edition.test + suffix)
    if not train:
        first = edition.train[0] + suffix
        more = " ..." if len(edition.train) > 1 else ""
        raise WidegramError(f"{place}: has no training batches ({first}{more})")
    missing = len(train) < len(edition.train)
    note = f"only {len(train)} of {len(edition.train)} training batches are there"
    return RawData(
        str(folder),
        _split(edition, train, suffix, str(place)),
        _split(edition, [test], suffix, str(test)) if test.is_file() else None,
        note if missing else edition.note,
    )


def _split(edition: _Edition, files: list[Path], suffix: str, name: str) -> Split:
    read = _read_binary if suffix else _read_python
    parts = [read(edition, file) for file in files]
    planes = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return Split(array_table(images, name), np.concatenate([labels for _, labels in parts]))


def _read_binary(edition: _Edition, path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(path, np.uint8)
    record = _PIXELS + edition.label_bytes
    if not len(data) or len(data) % record:
        raise WidegramError(
            f"{path}: is truncated or damaged: {len(data)} bytes are no multiple of {record}; "
            "download it again"
        )
    records = data.reshape(-1, record)
    labels = records[:, edition.label_bytes - 1]
    return records[:, edition.label_bytes :], _checked(edition, path, labels)


def _read_python(edition: _Edition, path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(path, "rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()}
        pixels, labels = batch["data"], np.asarray(batch[edition.entry])
    except pickle.UnpicklingError as error:
        raise WidegramError(f"{path}: is no {edition.name} batch, or damaged: {error}") from error
    except KeyError as error:
        raise WidegramError(
            f"{path}: is no {edition.name} batch: it has no entry {error}"
        ) from error
    except Exception as error:  # A damaged pickle may raise anything.
        raise WidegramError(
            f"{path}: is truncated or damaged ({error}); download it again"
        ) from error
    if labels.ndim != 1 or not labels.size:
        raise WidegramError(f"{path}: is damaged: its labels are no list of numbers")
    shape = (len(labels), _PIXELS)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise WidegramError(f"{path}: is damaged: its data is not uint8 of shape {shape}")
    return pixels, _checked(edition, path, labels)


def _checked(edition: _Edition, path: Path, labels: np.ndarray) -> np.ndarray:
    most = edition.classes - 1
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > most:
        raise WidegramError(f"{path}: is damaged: its labels are not all between 0 and {most}")
    return labels.astype(np.int64)
