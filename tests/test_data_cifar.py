"""Preparing CIFAR-10 and CIFAR-100, binary and as pickles; what is damaged in them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from widegram.errors import WidegramError

RNG = np.random.default_rng(0)
CIFAR = RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
CIFAR_LABELS = RNG.integers(0, 10, 24)


def cifar_batches() -> dict[str, slice]:
    return {
        **{f"data_batch_{k}": slice(4 * k - 4, 4 * k) for k in range(1, 6)},
        "test_batch": slice(20, 24),
    }


def planes(part: slice) -> np.ndarray:
    """(n, 3072): the red, green and blue planes of each image."""
    return CIFAR[part].transpose(0, 3, 1, 2).reshape(-1, 3072)


def write_cifar_binary(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, part in cifar_batches().items():
        labels = CIFAR_LABELS[part].astype(np.uint8)[:, None]
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, planes(part)]).tobytes())
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\n")
    return folder


def write_cifar_python(folder: Path, protocol: int = 2) -> Path:
    """As the published files: byte strings for keys, written by Python 2 with protocol 2."""
    folder.mkdir(exist_ok=True)
    for name, part in cifar_batches().items():
        batch = {
            b"batch_label": b"training batch",
            b"labels": CIFAR_LABELS[part].tolist(),
            b"data": np.ascontiguousarray(planes(part)),
            b"filenames": [b"a.png"] * 4,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"airplane"]}, protocol))
    return folder


def load(out: Path, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(out) as file:
        return file[f"{split}/x"][...], file[f"{split}/y"][...]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data.h5"


@pytest.mark.parametrize(
    "write",
    [
        write_cifar_binary,
        write_cifar_python,
        lambda folder: write_cifar_python(folder, 5),
        lambda folder: write_cifar_binary(folder / "cifar-10-batches-bin").parent,
    ],
)
def test_cifar(tmp_path: Path, out: Path, write) -> None:
    (tmp_path / "cifar").mkdir()
    result = widegram.prepare(write(tmp_path / "cifar"), out, normalize="none")
    assert result.note == ""
    for split, part in (("train", slice(0, 20)), ("test", slice(20, 24))):
        x, y = load(out, split)
        np.testing.assert_array_equal(x, CIFAR[part])
        np.testing.assert_array_equal(y, CIFAR_LABELS[part])


@pytest.mark.parametrize("binary", [True, False])
def test_cifar_100_has_its_fine_labels(tmp_path: Path, out: Path, binary: bool) -> None:
    folder = tmp_path / "sets" / f"cifar-100-{'binary' if binary else 'python'}"
    folder.mkdir(parents=True)
    fine = RNG.integers(0, 100, 24)
    for name, part in (("train", slice(0, 20)), ("test", slice(20, 24))):
        coarse = fine[part] // 5
        if binary:
            labels = np.stack([coarse, fine[part]], axis=1).astype(np.uint8)
            (folder / f"{name}.bin").write_bytes(np.hstack([labels, planes(part)]).tobytes())
        else:
            batch = {b"fine_labels": fine[part].tolist(), b"coarse_labels": coarse.tolist(),
                     b"data": np.ascontiguousarray(planes(part))}  # fmt: skip
            (folder / name).write_bytes(pickle.dumps(batch, 2))
    for source in (folder, folder.parent):
        result = widegram.prepare(source, out, normalize="none", overwrite=True)
        assert result.note == "the labels of CIFAR-100 are its 100 fine ones"
        for split, part in (("train", slice(0, 20)), ("test", slice(20, 24))):
            x, y = load(out, split)
            np.testing.assert_array_equal(x, CIFAR[part])
            np.testing.assert_array_equal(y, fine[part])
    name = "train.bin" if binary else "train"
    (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    with pytest.raises(WidegramError, match="truncated or damaged"):
        widegram.prepare(folder, out, overwrite=True)


def test_missing_cifar_batches_are_told(tmp_path: Path, out: Path) -> None:
    source = write_cifar_binary(tmp_path / "cifar")
    (source / "data_batch_3.bin").unlink()
    assert widegram.prepare(source, out).note == "only 4 of 5 training batches are there"
    for k in (1, 2, 4, 5):
        (source / f"data_batch_{k}.bin").unlink()
    with pytest.raises(WidegramError, match="has no training batches"):
        widegram.prepare(source, out, overwrite=True)


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({b"data": Evil(), b"labels": [1]}), "it asks for posix.system"),
        (pickle.dumps({b"labels": [1]}), "it has no entry 'data'"),
        (pickle.dumps({b"data": np.zeros((1, 9), np.uint8), b"labels": [1]}), "is damaged"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}), "0 and 9"),
        (pickle.dumps([1, 2]), "is truncated or damaged"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8)}, 2)[:-40], "truncated|damaged"),
        (b"", "is truncated or damaged"),
    ],
)
def test_damaged_cifar_pickles(tmp_path: Path, out: Path, content: bytes, message: str) -> None:
    source = write_cifar_python(tmp_path / "cifar")
    (source / "data_batch_2").write_bytes(content)
    with pytest.raises(WidegramError, match=f"data_batch_2.*({message})"):
        widegram.prepare(source, out)


def test_damaged_cifar_binaries(tmp_path: Path, out: Path) -> None:
    source = write_cifar_binary(tmp_path / "cifar")
    path = source / "data_batch_2.bin"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(WidegramError, match="12291 bytes are no multiple of 3073"):
        widegram.prepare(source, out)
    path.write_bytes(b"\x0b" + good[1:])
    with pytest.raises(WidegramError, match="labels are not all between 0 and 9"):
        widegram.prepare(source, out)
