"""MATLAB's files, of the old formats and of version 7.3, which is HDF5 with axes turned around."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

import widegram
from cli_support import refused
from widegram.data import apply

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 5))
Y = RNG.integers(1, 4, 12)
IMAGES = RNG.integers(0, 256, (4, 6, 3, 12), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def save(version: str, **arrays: np.ndarray) -> str:
    """A file as MATLAB writes it: two axes at least, numbers of type double, columns first."""
    full = {name: np.asarray(value) for name, value in arrays.items()}
    if version != "7.3":
        scipy.io.savemat("d.mat", full, do_compression=version == "7", oned_as="column",
                         format="4" if version == "4" else "5")  # fmt: skip
        return "d.mat"
    names = {"f": "double", "u": "uint8", "i": "int64", "b": "logical"}
    with h5py.File("d.mat", "w", userblock_size=512) as file:
        for name, value in full.items():
            value = value[:, None] if value.ndim == 1 else value
            stored = value.astype(np.uint8) if value.dtype == bool else value
            dataset = file.create_dataset(name, data=stored.T)
            dataset.attrs["MATLAB_class"] = np.bytes_(names[value.dtype.kind])
        file.create_group("#refs#")
    with open("d.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return "d.mat"


def rows(name: str = "train") -> tuple[np.ndarray, np.ndarray]:
    with h5py.File("o.h5") as file:
        order = np.argsort(file[f"{name}/index"])
        return file[f"{name}/x"][...][order], file[f"{name}/y"][...][order]


@pytest.mark.parametrize("version", ["4", "5", "7", "7.3"])
@pytest.mark.parametrize("shape", ["column", "row"])
def test_every_version(version: str, shape: str) -> None:
    y = Y.astype(float)[:, None] if shape == "column" else Y.astype(float)[None]
    source = save(version, X=X, y=y, more=np.eye(2))
    made = widegram.prepare(source, "o.h5", normalize="none", test=0)
    assert (made.labels, made.note) == (True, "")
    x, labels = rows()
    np.testing.assert_array_equal(x, X.astype(np.float32))
    np.testing.assert_array_equal(labels, Y)
    assert labels.dtype == np.int64
    apply("o.h5", f"{source}:X", "n.h5")
    with h5py.File("n.h5") as new:
        np.testing.assert_array_equal(new["x"], x)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_images_along_the_last_axis(version: str) -> None:
    source = save(version, X=IMAGES, y=Y)
    widegram.prepare(source, "o.h5", normalize="none", test=0)
    x, labels = rows()
    np.testing.assert_array_equal(x, np.moveaxis(IMAGES, -1, 0).astype(np.float32))
    np.testing.assert_array_equal(labels, Y)
    # Without labels the first axis counts, as everywhere.
    made = widegram.prepare(f"{save(version, z=IMAGES)}:z", "p.h5", test=0)
    assert made.train_shape == (4, 6, 3, 12)
    assert "no labels" in made.note


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_names_labels_and_parts(version: str) -> None:
    source = save(version, train_x=X, train_y=np.eye(3)[Y - 1], test_x=X[:4], test_y=Y[:4] + 0.5)
    widegram.prepare(source, "o.h5", normalize="none")
    np.testing.assert_array_equal(rows()[1], np.eye(3)[Y - 1])
    np.testing.assert_array_equal(rows("test")[1], Y[:4] + 0.5)
    source = save(version, a=X, b=Y)
    widegram.prepare(f"{source}:a", "o.h5", labels=f"{source}:b", overwrite=True, test=0)
    np.testing.assert_array_equal(rows()[1], Y)
    refused("which array holds the inputs", "data", "prepare", source, "--out", "q.h5")
    refused("no variable 'c'; it holds: a, b", "data", "prepare", f"{source}:c", "--out", "q.h5")


def test_what_is_not_numbers() -> None:
    prepare = ("data", "prepare", "d.mat:x", "--out", "o.h5")
    for value, message in (
        ("some text", "is char, not numbers"),
        (np.array([1, "a"], object), "is cell, not numbers"),
        ({"field": 1.0}, "is struct, not numbers"),
        (scipy.sparse.eye(4).tocsc(), r"is sparse, not numbers; save full\(...\) of it"),
        (X + 1j, "complex128, numbers are needed|is .*complex"),
        (np.where(X > 2, X, np.nan), "holds NaN"),
        (np.zeros((0, 3)), "is empty|no inputs"),
    ):
        scipy.io.savemat("d.mat", {"x": value})
        refused(message, *prepare)
    with h5py.File("d.mat", "w") as file:
        file["x"] = np.zeros((1, 4), np.uint16)
        file["x"].attrs["MATLAB_class"] = np.bytes_("char")
        file["empty"] = np.zeros(2, np.uint64)
        file["empty"].attrs["MATLAB_empty"] = np.uint8(1)
        file["away"] = h5py.ExternalLink("other.h5", "x")
        file.create_dataset("cell", (2, 1), h5py.ref_dtype)[...] = file["x"].ref
    refused("is char, not numbers", *prepare)
    refused("is empty", "data", "prepare", "d.mat:empty", "--out", "o.h5")
    refused("not numbers", "data", "prepare", "d.mat:cell", "--out", "o.h5")
    refused("away", "data", "prepare", "d.mat:away", "--out", "o.h5")
    assert not Path("o.h5").exists()


def test_damage() -> None:
    source = save("7", X=X, y=Y)
    content = Path(source).read_bytes()
    for damage in (b"", content[:100], content[:200], content[:140] + b"?" * 40 + content[180:]):
        Path(source).write_bytes(damage)
        refused("is no .mat file, or damaged", "data", "prepare", source, "--out", "o.h5")
    refused("no such file", "data", "prepare", "none.mat", "--out", "o.h5")
    save("5", X=X)
    for name in ("d.mat", "d.mat:X"):
        refused("is raw data; run: widegram data prepare", "gram", "--net", "fcn", "--x", name,
                "--out", "K.h5")  # fmt: skip
        refused("is an input", "data", "prepare", name, "--out", "d.mat", "--overwrite")


def test_what_scipy_does_not_come_back_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    source = save("5", X=X, y=Y)
    monkeypatch.setattr("scipy.io.loadmat", crash)
    refused("or damaged: SciPy cannot read it", "data", "prepare", source, "--out", "o.h5")
    assert not Path("o.h5").exists()
