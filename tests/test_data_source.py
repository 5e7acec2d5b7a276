"""Inputs from files and arrays: every format, every refusal, fingerprints."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.machine.budgets import budget, format_size, parse_size

X = np.random.default_rng(0).normal(size=(9, 4, 4, 2))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("fortran.npy", np.asfortranarray(X))
    np.save("big.npy", X.astype(">f8"))
    np.savez("x.npz", inputs=X, other=X[:3])
    np.savez_compressed("packed.npz", inputs=X, other=X[:3])
    np.savez("one.npz", inputs=X)
    np.save("pixels.npy", np.zeros((5, 4, 4, 1), np.uint8))
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("train/x", data=X, compression="gzip", chunks=(2, 4, 4, 2))
        file["train/y"] = np.arange(9)
    return tmp_path


@pytest.mark.parametrize(
    "spec",
    [
        "x.npy",
        "fortran.npy",
        "big.npy",
        "x.npz:inputs",
        "packed.npz:inputs",
        "one.npz",
        "x.h5:train/x",
        "x.h5:/train/x",
        Path("x.npy"),
        X,
    ],
)
def test_every_format_gives_the_same_rows(folder: Path, spec) -> None:
    source = open_source(spec)
    assert source.shape == X.shape
    assert source.dtype == np.float64
    block = source.read(2, 7)
    np.testing.assert_array_equal(block, X[2:7])
    assert block.flags.c_contiguous
    assert block.dtype.isnative
    assert source.fingerprint() == open_source(X).fingerprint()


def test_location_finds_the_data_from_elsewhere(folder: Path, monkeypatch) -> None:
    for spec in ("x.npy", "x.npz:inputs", "x.h5:train/x"):
        location = open_source(spec).location
        assert location is not None
        monkeypatch.chdir("/")
        assert open_source(location).fingerprint() == open_source(X).fingerprint()
        monkeypatch.chdir(folder)
    assert open_source(X).location is None


@pytest.mark.parametrize(
    ("stored", "given"), [("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("g", "f8")]
)
def test_precision_of_blocks(stored: str, given: str) -> None:
    block = open_source(X.astype(stored)).read(0, 9)
    assert block.dtype == given
    np.testing.assert_array_equal(block, X.astype(stored).astype(given))


def test_fingerprint_covers_values_shape_dtype_and_limit() -> None:
    changed = X.copy()
    changed[8, 3, 3, 1] = np.nextafter(changed[8, 3, 3, 1], 9)
    sources = [
        open_source(X),
        open_source(X, 8),
        open_source(changed),
        open_source(X.reshape(9, 32)),
        open_source(X.astype(np.float32)),
        open_source(X.astype(np.float32).astype(np.float64)),
    ]
    assert len({source.fingerprint() for source in sources}) == len(sources)
    assert open_source(X, 8).fingerprint() == open_source(X[:8]).fingerprint()


def test_fingerprint_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_source(X).fingerprint()
    monkeypatch.setattr("widegram.data.inputs._BLOCK_BYTES", 600)
    assert open_source(X).fingerprint() == whole


def test_limit() -> None:
    assert len(open_source(X, 4)) == 4
    assert len(open_source(X, 100)) == 9
    assert len(open_source(open_source(X), 4)) == 4
    with pytest.raises(WidegramError, match="limit is 0; it must be at least 1 "):
        open_source(X, 0)
    with pytest.raises(IndexError):
        open_source(X, 4).read(0, 5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("y.npy", r"y\.npy: no such file; did you mean 'x\.npy'\?"),
        ("missing/x.npy", "its directory missing does not exist"),
        ("x.npz:input", r"x\.npz: no key 'input'; did you mean 'inputs'\?"),
        ("x.npz:zzz", r"no key 'zzz'; it holds: inputs, other"),
        ("x.npz", r"which key\? write x\.npz:NAME; it holds: inputs, other"),
        ("x.h5:trian/x", r"no dataset 'trian/x'; did you mean 'train/x'\?"),
        ("x.h5", r"which dataset\? write x\.h5:NAME; it holds: train/x, train/y"),
        ("x.npy:inputs", "an .npy file has no key 'inputs'"),
        ("x.csv", r"x\.csv: no such file"),
        ("text.csv", "is raw data; run: widegram data prepare text.csv"),
        ("text.npy", r"text\.npy: cannot be read"),
        ("text.npz", r"text\.npz: cannot be read"),
        ("text.h5", r"text\.h5: is not an HDF5 file"),
        ("short.npy", "is truncated, 100 bytes are missing"),
        ("objects.npy", "holds Python objects, not numbers"),
    ],
)
def test_files_that_cannot_be_opened(folder: Path, spec: str, message: str) -> None:
    for suffix in ("csv", "npy", "npz", "h5"):
        Path(f"text.{suffix}").write_text("1,2,3")
    Path("short.npy").write_bytes(Path("x.npy").read_bytes()[:-100])
    np.save("objects.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(WidegramError, match=message) as info:
        open_source(spec)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        ("pixels.npy", "widegram data prepare pixels.npy --out pixels-prepared.h5"),
        ("x.h5:train/y", "widegram data prepare x.h5:train/y --out x-prepared.h5"),
        ("odd name.npy", "widegram data prepare 'odd name.npy' --out 'odd name-prepared.h5'"),
        ("fashion", "widegram data prepare fashion --out fashion-prepared.h5"),
        (
            "train-images-idx3-ubyte.gz",
            "widegram data prepare train-images-idx3-ubyte.gz --out "
            "train-images-idx3-ubyte-prepared.h5",
        ),
    ],
)
def test_raw_data_is_refused_with_the_command_that_prepares_it(folder, spec, command) -> None:
    np.save("odd name.npy", np.zeros((2, 3), bool))
    Path("fashion").mkdir()
    with pytest.raises(WidegramError) as info:
        open_source(spec)
    assert str(info.value).endswith(f"run: {command}")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"has shape \(5,\); expected \(n, D\) vectors, \(n, L, C\) seq"),
        (np.zeros((5, 1, 4, 4, 1)), r"has shape \(5, 1, 4, 4, 1\)"),
        (np.zeros((0, 4)), "is empty"),
        (np.zeros((4, 0)), "is empty"),
        (np.zeros((5, 4), complex), "holds complex128, real floating point"),
        (np.array([["a"]]), "holds <U1"),
        (np.zeros((5, 4), int), r"holds integers \(int64\).*widegram data prepare FILE.npy"),
    ],
)
def test_arrays_that_are_no_inputs(array: np.ndarray, message: str) -> None:
    with pytest.raises(WidegramError, match=message):
        open_source(array)


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "NaN"), (np.inf, "an infinite"), (-np.inf, "an infinite")]
)
def test_row_that_is_not_finite_is_named(value: float, kind: str) -> None:
    x = X.copy()
    x[6, 1, 2, 0] = value
    source = open_source(x)
    source.read(0, 6)
    with pytest.raises(WidegramError, match=f"array: row 6 holds {kind}"):
        source.read(5, 9)
    with pytest.raises(WidegramError, match="row 6"):
        source.fingerprint()
    open_source(x, 6).fingerprint()


def test_file_that_vanishes_between_blocks(folder: Path) -> None:
    source = open_source("x.npy")
    Path("x.npy").unlink()
    with pytest.raises(WidegramError, match=r"x\.npy: rows 0 to 2 cannot be read"):
        source.read(0, 3)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("500MB", 5 * 10**8), ("2 GiB", 2**31), ("1.5g", 15 * 10**8), (2**30, 2**30), ("64e", None)],
)
def test_memory_sizes(text: str | int, bytes_: int | None) -> None:
    if bytes_ is None:
        with pytest.raises(WidegramError, match="write 500MB, 2GiB or bytes"):
            parse_size(text)
    else:
        assert parse_size(text) == budget(text) == bytes_


def test_memory_defaults_to_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.machine.budgets.free_memory", lambda: 8 * 10**9)
    assert budget(None) == 2 * 10**9
    assert format_size(2 * 10**9) == "2.0 GB"
    assert format_size(17) == "17 B"
