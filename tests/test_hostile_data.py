"""Data files that lie, lead elsewhere or hold absurd values: one line, nothing written."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
from cli_support import refused, run, run_json
from widegram.errors import WidegramError

GOOD = np.random.default_rng(0).standard_normal((8, 4))


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    fake.install(monkeypatch)
    monkeypatch.chdir(tmp_path)


def everywhere(message: str, spec: str) -> None:
    """Every command that reads data refuses ``spec`` alike and writes nothing."""
    before = sorted(os.listdir())
    np.save("good.npy", GOOD)
    gram = ("gram", "--net", "fcn:depth=1", "--out", "K.h5")
    refused(message, *gram, "--x", spec)
    refused(message, *gram, "--x", "good.npy", "--x2", spec)
    refused(message, "data", "prepare", spec, "--out", "d.h5")
    refused(message, "data", "prepare", "good.npy", "--labels", spec, "--out", "d.h5")
    os.remove("good.npy")
    assert sorted(os.listdir()) == before


def external(path: str) -> Callable[[h5py.File], None]:
    def make(file: h5py.File) -> None:
        file.create_dataset("x", (8, 4), "f8", external=[(path, 0, h5py.h5f.UNLIMITED)])

    return make


def virtual(source: str) -> Callable[[h5py.File], None]:
    def make(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((8, 4), "f8")
        layout[:] = h5py.VirtualSource(source, "x", (8, 4))
        file.create_virtual_dataset("x", layout)

    return make


def assign(value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.__setitem__("x", value)


def created(*args: object, **kwargs: object) -> Callable[[h5py.File], None]:
    return lambda file: file.create_dataset("x", *args, **kwargs)


def half_compressed(file: h5py.File) -> None:
    x = file.create_dataset("x", (8, 4), "f8", chunks=(4, 4), compression="gzip")
    x[:4] = 1.0


LEADS_ELSEWHERE = {
    "external storage": (external("/etc/passwd"), r"keeps its numbers in another file"),
    "external pipe": (external("pipe"), r"keeps its numbers in another file"),
    "virtual": (virtual("other.h5"), r"is a virtual dataset, whose numbers lie in other files"),
    "virtual of itself": (virtual("."), r"is a virtual dataset"),
    "external link": (assign(h5py.ExternalLink("other.h5", "x")), r"is a link to another file"),
    "external link to a pipe": (assign(h5py.ExternalLink("pipe", "x")), r"is a link to another"),
    "soft loop": (assign(h5py.SoftLink("/x")), r"its soft links lead nowhere"),
    "dangling": (assign(h5py.SoftLink("/y")), r"no dataset 'x'"),
    "null space": (assign(h5py.Empty("f8")), r"holds nothing, its dataspace is null"),
    "group": (lambda file: file.create_group("x"), r"is no dataset; name a dataset"),
    "type": (lambda file: file.__setitem__("x", np.dtype("f8")), r"is no dataset; name a dataset"),
    "compound": (created((4,), [("a", "f4"), ("b", "i4")]), r"holds .*, not numbers"),
    "variable": (created((4,), h5py.vlen_dtype(np.float32)), r"holds 'object', not numbers"),
    "strings": (created((4,), "S5"), r"not numbers"),
    "opaque": (created((4,), "V8"), r"not numbers"),
    "array type": (created((8,), np.dtype("(4,)f8")), r"not numbers|was|ever written"),
    "enumeration": (created(data=np.zeros((8, 4), "i4"), dtype=h5py.enum_dtype({"A": 0}, "i4")),
                    r"holds an enumeration, not numbers"),
    "never written": (created((10**9, 64), "f4", chunks=(1, 64)), r"of which 0 were ever written"),
    "half written": (half_compressed, r"only 1 of its 2 chunks were ever written"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEADS_ELSEWHERE)
def test_hdf5_datasets_whose_numbers_are_not_there(name: str):
    make, message = LEADS_ELSEWHERE[name]
    os.mkfifo("pipe")
    with h5py.File("other.h5", "w") as file:
        file["x"] = GOOD
    with h5py.File("in.h5", "w") as file:
        make(file)
    everywhere(message, "in.h5:x")
    assert run("data", "info", "in.h5").exit_code in (0, 2)


def test_a_dataset_that_is_too_large_for_any_machine():
    with h5py.File("in.h5", "w") as file:
        file.create_dataset("x", (2**62, 1), "f4", chunks=(1, 1))
    everywhere(r"ever written", "in.h5:x")


def test_soft_links_inside_the_file_are_followed():
    with h5py.File("in.h5", "w") as file:
        file["deep/x"] = GOOD
        file["deep/near"] = h5py.SoftLink("x")
        file["far"] = h5py.SoftLink("/deep/near")
        file["folder"] = h5py.SoftLink("/deep")
    for name in ("deep/near", "far", "folder/near", "/folder//x"):
        out = Path("K.h5")
        assert run("gram", "--net", "fcn", "--x", f"in.h5:{name}", "--out", out).exit_code == 0
        out.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external("/etc/passwd"), r"keeps its numbers in another file"),
        (virtual("K.h5"), r"is a virtual dataset"),
        (assign(h5py.ExternalLink("other.h5", "ntk")), r"is a link to another file"),
    ],
)
def test_gram_files_that_lead_elsewhere(change: Callable[[h5py.File], None], message: str):
    np.save("x.npy", GOOD)
    gram = ("gram", "--net", "fcn:depth=1", "--x", "x.npy", "--out", "K.h5")
    assert run(*gram).exit_code == 0
    with h5py.File("K.h5", "r+") as file:
        del file["ntk"]
        change(file)
        file.move("x", "ntk")
    for command in (
        ("info", "K.h5"),
        ("export", "K.h5", "--kernel", "ntk", "--to", "a.npy"),
        gram,
    ):
        refused(message, *command)
    assert sorted(os.listdir()) == ["K.h5", "x.npy"]


def npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode().ljust(108) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def with_shape(shape: object, data: bytes = bytes(256)) -> bytes:
    return npy(str({"descr": "<f8", "fortran_order": False, "shape": shape}), data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_shape((-4, 8)), r"is damaged, its shape is \(-4, 8\)"),
        (with_shape((True, 8)), r"is damaged, its shape is \(True, 8\)"),
        (with_shape((10**30, 8)), r"is truncated, \d+ bytes are missing"),
        (with_shape((1,) * 40, bytes(8)), r"is damaged, its shape is"),
        (with_shape("yes"), r"cannot be read"),
        (npy("(" * 90 + ")"), r"cannot be read"),
        (npy("{}", version=b"\7\7"), r"\.npy version \(7, 7\) is not supported|cannot be read"),
        (b"", r"cannot be read"),
        (b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1), r"cannot be read"),
    ],
)
def test_npy_headers_that_lie(content: bytes, message: str):
    Path("in.npy").write_bytes(content)
    everywhere(message, "in.npy")


def test_a_scalar_is_no_data():
    np.save("in.npy", np.float64(1))
    refused(r"has shape \(\)", "data", "prepare", "in.npy", "--out", "d.h5")


def zipped(content: bytes, how: int = zipfile.ZIP_DEFLATED) -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        archive.writestr("x.npy", content)
    return bytearray(stream.getvalue())


def _good_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, GOOD)
    return stream.getvalue()


def _damaged_stream() -> bytes:
    content = zipped(_good_npy())
    content[120:140] = b"\xff" * 20
    return bytes(content)


def _flipped_byte() -> bytes:
    content = zipped(_good_npy(), zipfile.ZIP_STORED)
    content[300] ^= 1
    return bytes(content)


def _offset(to: int) -> bytes:
    content = zipped(_good_npy(), zipfile.ZIP_STORED)
    at = content.rfind(b"PK\1\2") + 42
    content[at : at + 4] = struct.pack("<I", to)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_damaged_stream(), r"in\.npz(:x)?: cannot be read"),
        (_flipped_byte(), r"in\.npz(:x)?: cannot be read: Bad CRC-32"),
        (_offset(2**31), r"in\.npz(:x)?: (cannot be read|is damaged)"),
        (_offset(400), r"in\.npz(:x)?: (cannot be read|is damaged)"),
        (bytes(zipped(with_shape((10**12, 8)))), r"in\.npz:x: is truncated, .* bytes are missing"),
        (bytes(zipped(b"")), r"cannot be read"),
    ],
)
def test_npz_archives_that_lie(content: bytes, message: str):
    Path("in.npz").write_bytes(content)
    everywhere(message, "in.npz")


def idx(*sizes: int, data: bytes = b"", kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(*[2**32 - 1] * 3), r"is truncated: .* bytes of data expected"),
        (b"\0\0\x08\xff" + bytes(1020), r"has rank 255, ranks 1 to 8 are read"),
        (gzip.compress(idx(10**6, 50, 50, data=bytes(1000)), mtime=0), r"is truncated"),
        (gzip.compress(idx(2, 4, 4, data=bytes(32)), mtime=0)[:-4], r"is truncated or damaged"),
        (idx(0, 4, 4), r"is empty"),
        (idx(4, 0, 4), r"has shape \(4, 0, 4\)"),
    ],
)
def test_idx_headers_that_lie(content: bytes, message: str):
    Path("mnist").mkdir()
    Path("mnist/train-images-idx3-ubyte").write_bytes(content)
    count = content[7] if content[:2] != b"\x1f\x8b" else 2
    Path("mnist/train-labels-idx1-ubyte").write_bytes(idx(count, data=bytes(count)))
    refused(message, "data", "prepare", "mnist", "--out", "d.h5")


@pytest.mark.parametrize("labels", ["abcd", None, [[0]] * 4, [], [[1], [1, 2]], {1: 2}])
def test_cifar_labels_that_are_no_list(labels: object):
    Path("cifar").mkdir()
    pixels = np.zeros((len(labels or "4444"), 3072), np.uint8)
    batch = pickle.dumps({"data": pixels, "labels": labels}, 2)
    Path("cifar/data_batch_1").write_bytes(batch)
    refused(
        r"data_batch_1: is (truncated or )?damaged", "data", "prepare", "cifar", "--out", "d.h5"
    )


def test_a_cifar_pickle_of_another_encoding():
    Path("cifar").mkdir()
    Path("cifar/data_batch_1").write_bytes(b"c_codecs\nencode\n(Vx\nVlati.1\ntR.")
    message = r"data_batch_1: is truncated or damaged \(unknown encoding: lati\.1\)"
    refused(message, "data", "prepare", "cifar", "--out", "d.h5")


def test_data_info_lists_what_cannot_be_used():
    with h5py.File("in.h5", "w") as file:
        file["good"] = GOOD
        file["null"] = h5py.Empty("f8")
        file["words"] = ["a", "b"]
        file.attrs["nothing"] = h5py.Empty("f8")
        file.attrs["long"] = np.arange(1000)
        file.attrs["lists"] = np.zeros((2, 2))
        file.attrs["bytes"] = np.void(b"\xff\0")
        file.attrs["number"] = 3
    found = run_json("data", "info", "in.h5")
    assert found["arrays"]["good"] == {"shape": [8, 4], "dtype": "float64"}
    assert "dataspace is null" in found["arrays"]["null"]["problem"]
    assert "not numbers" in found["arrays"]["words"]["problem"]
    assert found["attributes"]["number"] == 3
    assert found["attributes"]["long"] == "1000 values"
    lines = run("data", "info", "in.h5").stdout
    assert "cannot be used: in.h5:null: holds nothing" in lines


def test_a_run_that_is_refused_at_once_leaves_no_empty_file(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise WidegramError("no such values")

    np.save("x.npy", GOOD)
    monkeypatch.setattr(fake.FakeEvaluator, "tile", refuse)
    refused(r"no such values", "gram", "--net", "fcn", "--x", "x.npy", "--out", "K.h5")
    assert os.listdir() == ["x.npy"]


@pytest.mark.parametrize(
    "command",
    [
        ("eig", "K.h5", "--out", "E.h5"),
        ("meanfield", "spectrum", "--x", "x.npy", "--depths", "1", "--out", "E.h5"),
        ("meanfield", "phase", "--out", "E.h5"),
        ("meanfield", "trainability", "--data", "x.npy", "--w-var", "1", "--out", "E.h5"),
    ],
)
def test_pictures_of_unknown_formats_are_refused_first(command: tuple[str, ...]):
    refused(r"\.bad is no format for pictures", *command, "--plot", "picture.bad")
    assert os.listdir() == []


def test_verify_refuses_inputs_that_are_not_there():
    np.save("x.npy", GOOD)
    assert run("gram", "--net", "fcn", "--x", "x.npy", "--out", "K.h5").exit_code == 0
    refused(r"y\.npy: no such file", "verify", "K.h5", "--x", "y.npy", "--sample", 1)
    refused("--x has no effect with --sample 0", "verify", "K.h5", "--x", "y.npy", "--sample", 0)
    refused("'--pattern': nothing is named", "verify", "K.h5", "--pattern", "")
    refused("--pattern serves --x", "verify", "K.h5", "--pattern", "x.npy")


def test_what_is_there_and_no_file_is_not_called_missing():
    os.mkfifo("pipe.npy")
    Path("loop.npy").symlink_to("loop.npy")
    for name in ("pipe.npy", "loop.npy"):
        everywhere(r"npy: is no regular file", name)
