"""Data files with changed bytes and headers, and HDF5 files whose parts were exchanged."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from campaigns.case import BASE, Case
from campaigns.commands import TUNE

_X = np.random.default_rng(5).standard_normal((6, 24))
_IMAGES = np.random.default_rng(6).integers(0, 256, (6, 4, 4), np.uint8)
_LABELS = np.arange(6, dtype=np.uint8)
_OUT = ("--device", "cpu", "--threads", "1", "--out", "o.h5")


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, _X)
    return stream.getvalue()


def _npz(packed: bool) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(stream, x=_X, y=_LABELS.astype(int))
    return stream.getvalue()


def _h5(**options: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("x", data=_X, **options)
        file["y"] = _LABELS
    return stream.getvalue()


def _idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def _cifar(python: bool) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (3, 3072), np.uint8)
    if python:
        return pickle.dumps({b"data": pixels, b"labels": [0, 1, 2]}, 2)
    return b"".join(bytes([label]) + row.tobytes() for label, row in enumerate(pixels))


def _table() -> bytes:
    rows = (f"{a:.4f},{'ab'[i % 2]},{i % 3}" for i, a in enumerate(_X[0]))
    return "\n".join(["size,colour,kind", *rows, ""]).encode()


def _matrix() -> bytes:
    stream = io.BytesIO()
    np.save(stream, _X @ _X.T)
    return stream.getvalue()


# What holds the bytes, and the name that commands are given.
_GOOD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "npy": (_npy, "in.npy", "in.npy"),
    "npz": (lambda: _npz(False), "in.npz", "in.npz:x"),
    "npz packed": (lambda: _npz(True), "in.npz", "in.npz:x"),
    "h5": (_h5, "in.h5", "in.h5:x"),
    "h5 chunked": (lambda: _h5(chunks=(2, 24)), "in.h5", "in.h5:x"),
    "h5 packed": (lambda: _h5(compression="gzip", fletcher32=True), "in.h5", "in.h5:x"),
    "idx": (lambda: _idx(_IMAGES), "d/train-images-idx3-ubyte", "d"),
    "idx gz": (lambda: gzip.compress(_idx(_IMAGES)), "d/train-images-idx3-ubyte.gz", "d"),
    "cifar": (lambda: _cifar(False), "d/data_batch_1.bin", "d"),
    "csv": (_table, "in.csv", "in.csv"),
    "matrix": (_matrix, "in.npy", "in.npy"),
    "cifar python": (lambda: _cifar(True), "d/data_batch_1", "d"),
}


# Commands that take such a file alone.
_MORE_LINES: dict[str, list[tuple[str, ...]]] = {
    "csv": [("data", "prepare", "in.csv", "--target", "kind", "--out", "o.h5"),
            ("data", "prepare", "in.csv", "--target", "colour", "--category", "kind", "--drop",
             "size", "--out", "o.h5"),
            ("data", "apply", f"{BASE}/TABLE.h5", "in.csv", "--accept-unseen", "--out", "o.h5"),
            ] * 3,
    "matrix": [("solve", "in.npy", "--y", f"{BASE}/digits.h5:train/y", "--limit", "6",
                "--diag-reg", "0.1", "--out", "o.h5"), ("eig", "in.npy", "--full"),
               ("eig", f"{BASE}/K.h5", "--rows", "in.npy", "--k", "2"),
               ("predict", f"{BASE}/A.h5", "--cross", "in.npy", "--out", "o.h5"),
               ("predict", f"{BASE}/A.h5", "--cross", f"{BASE}/C.h5", "--csv", "o.csv", "--ids",
                "in.npy")] * 2,
}  # fmt: skip


def data_case(rng: random.Random) -> Case:
    """A data file with some bytes changed, read by a command."""
    kind = rng.choice(list(_GOOD))
    make_good, name, spec = _GOOD[kind]
    data = _mutated(make_good(), rng)

    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        if kind.startswith("idx"):
            (folder / "d/train-labels-idx1-ubyte").write_bytes(_idx(_LABELS))

    prepare = ("data", "prepare", spec, "--out", "o.h5")
    lines = [prepare]
    if spec != "d":
        lines += [
            ("gram", "--net", "fcn:depth=1", "--x", spec, *_OUT),
            ("gram", "--net", "fcn:depth=1", "--x", f"{BASE}/v.npy", "--limit", "3", "--x2", spec,
             *_OUT),
            ("data", "info", name),
            ("data", "prepare", f"{BASE}/v.npy", "--labels", spec, "--out", "o.h5"),
            ("solve", f"{BASE}/K.h5", "--y", spec, "--limit", "6", "--out", "o.h5"),
            ("verify", name),
        ]  # fmt: skip
    lines += _MORE_LINES.get(kind, [])
    words = rng.choice(lines)
    codes = (0, 2, 3) if words[0] == "verify" else (0, 2)
    return Case("data", f"{kind}: {len(data)} bytes, {words[0]} {words[1]}", words, codes, make)


def _mutated(data: bytes, rng: random.Random) -> bytes:
    """Changed where it hurts: headers lie in the first bytes, those of archives in the last."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not found:
            break
        near = min(len(found), rng.choice((16, 128, 128, 1000, 100_000)))
        at = rng.randrange(near)
        at = len(found) - 1 - at if rng.random() < 0.2 else at
        how = rng.randrange(8)
        if how <= 2:
            found[at] ^= 1 << rng.randrange(8)
        elif how == 3:
            found[at] = rng.choice((0, 255, 127, 128, ord("9"), ord("-")))
        elif how == 4:
            size = rng.choice((2, 4, 8))
            found[at : at + size] = rng.choice((b"\xff", b"\0", b"\x7f")) * size
        elif how == 5:
            del found[at : at + rng.randint(1, 64)]
        elif how == 6:
            found[at:at] = rng.randbytes(rng.randint(1, 16))
        else:
            del found[at:]
    return bytes(found)


_VALUES: tuple[Any, ...] = (
    0, -1, 1, 2, 2**62, np.uint64(2**64 - 1), 0.5, float("nan"), float("inf"), "", "x", "no",
    "[" * 20_000, "{", "[]", "null", "/etc/passwd", "pipe.npy", "a\nb.npy", "x" * 50_000,
    np.bytes_(b"\xff\xfe"), [0, 1], np.zeros((2, 2)), np.zeros(0), h5py.Empty("f8"),
    np.array(True), np.void(b"\0\1"), "banana", "O", "float16", np.array([1, 2], "u1"),
)  # fmt: skip


_EXCHANGES = (
    "gone", "group", "external", "pipe", "virtual", "soft", "loop", "outside", "null", "scalar",
    "shape", "floats", "text", "enum", "huge", "type",
)  # fmt: skip


def _exchange(file: h5py.File, name: str, rng: random.Random) -> str:
    """Put something else where a dataset was."""
    old = file[name]
    shape = old.shape if isinstance(old, h5py.Dataset) and old.shape is not None else (3,)
    kept = dict(old.attrs)
    del file[name]
    how = rng.choice(_EXCHANGES)
    if how == "group":
        file.create_group(name)
    elif how in ("external", "pipe"):
        place = "/etc/passwd" if how == "external" else "pipe"
        file.create_dataset(name, shape, "<f4", external=[(place, 0, h5py.h5f.UNLIMITED)])
    elif how == "virtual":
        layout = h5py.VirtualLayout(shape, "<f4")
        layout[...] = h5py.VirtualSource(".", name, shape)
        file.create_virtual_dataset(name, layout)
    elif how in ("soft", "loop"):
        file[name] = h5py.SoftLink("/nngp" if how == "soft" else f"/{name}")
    elif how == "outside":
        file[name] = h5py.ExternalLink(rng.choice(("../base/K.h5", "pipe", "/etc/passwd")), "ntk")
    elif how == "huge":
        file.create_dataset(name, (2**40, 2**20), "<f4", chunks=(1, 1024))
    elif how == "type":
        file[name] = np.dtype("<f8")
    elif how != "gone":
        values = {
            "null": h5py.Empty("f8"), "scalar": 1.0, "text": ["a", "b"],
            "shape": np.zeros([n + 1 for n in shape][:2] or [1]),
            "floats": np.full(shape[:2], np.nan),
        }  # fmt: skip
        if how == "enum":
            file.create_dataset(name, (3,), h5py.enum_dtype({"A": 0}, "i4"))
        else:
            file[name] = values[how]
    if isinstance(file.get(name, getlink=True), h5py.HardLink):
        file[name].attrs.update(kept)
    return f"{name} {how}"


def _edited(path: Path, rng: random.Random) -> str:
    """Change one thing in an HDF5 file of ours, and often make its seal right again."""
    with h5py.File(path, "r+", locking=False) as file:
        names: list[str] = []
        file.visit(names.append)
        if rng.random() < 0.5:
            name = rng.choice(list(file.attrs))
            if rng.random() < 0.15:
                del file.attrs[name]
                done = f"no @{name}"
            else:
                value = rng.choice(_VALUES)
                file.attrs[name] = value
                done = f"@{name} = {repr(value)[:20]}"
        else:
            done = _exchange(file, rng.choice(names), rng)
        if "seal" in file.attrs and rng.random() < 0.7:
            from widegram.durable.sealed import seal

            try:
                seal(file)
            except Exception:  # Of a file that was just damaged: it may be any.
                done += " (seal left)"
    return done


_BY_CENTERS = ("--method", "nystrom", "--y", f"{BASE}/digits.h5:train/y", "--out", "o.h5")
_TUNE = (*TUNE.replace("@", f"{BASE}/").split(), "--net", "fcn:depth={1,2}")
_READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "K.h5": (("info", "in.h5"), ("verify", "in.h5"), ("export", "in.h5", "--kernel", "ntk", "--to",
             "o.npy"), ("eig", "in.h5", "--k", "2", "--out", "o.h5"),
             ("solve", "in.h5", "--y", f"{BASE}/digits.h5:train/y", "--out", "o.h5"),
             ("gram", "--net", "fcn:depth=2", "--x", f"{BASE}/digits.h5:train/x", "--device", "cpu",
              "--out", "in.h5"), ("data", "info", "in.h5")),
    "A.h5": (("predict", "in.h5", "--cross", f"{BASE}/C.h5", "--out", "o.h5"), ("verify", "in.h5"),
             ("info", "in.h5"),
             ("predict", "in.h5", "--rows", "0:9", "--variance", "--csv", "o.csv")),
    "M.h5": (("predict", "in.h5", "--cross", f"{BASE}/C.h5", "--out", "o.h5", "--csv", "o.csv"),
             ("predict", "in.h5", "--rows", "0:9", "--out", "o.h5"), ("verify", "in.h5")),
    "AN.h5": (("predict", "in.h5", "--cross", f"{BASE}/CX.h5", "--out", "o.h5"),
              ("predict", "in.h5", "--cross", f"{BASE}/CX.h5", "--variance", "--out", "o.h5"),
              ("verify", "in.h5")),
    "KC.h5": (("solve", f"{BASE}/KX.h5", "--centers", "in.h5", *_BY_CENTERS),),
    "KX.h5": (("solve", "in.h5", "--centers", f"{BASE}/KC.h5", *_BY_CENTERS),),
    "J2.h5": (("gram", "--net", "fcn:depth=2", "--x", f"{BASE}/digits.h5:train/x", "--limit", "70",
               "--append", "--device", "cpu", "--threads", "1", "--out", "in.h5"),
              ("combine", f"{BASE}/J1.h5", "in.h5", "--out", "o.h5")),
    "T.h5": ((*_TUNE, "--out", "in.h5"), ("verify", "in.h5"), ("info", "in.h5")),
    "TABLE.h5": (("data", "apply", "in.h5", f"{BASE}/table.csv", "--out", "o.h5"),
                 ("gram", "--net", "fcn:depth=1", "--x", "in.h5:train/x", *_OUT),
                 ("verify", "in.h5")),
    "C.h5": (("predict", f"{BASE}/A.h5", "--cross", "in.h5", "--out", "o.h5"), ("info", "in.h5"),
             ("verify", "in.h5")),
    "digits.h5": (("gram", "--net", "fcn:depth=1", "--x", "in.h5:train/x", *_OUT),
                  ("data", "info", "in.h5"), ("verify", "in.h5"),
                  ("data", "prepare", "in.h5:train/x", "--out", "o.h5"),
                  ("solve", f"{BASE}/K.h5", "--y", "in.h5:train/y", "--out", "o.h5"),
                  ("meanfield", "trainability", "--data", "in.h5", "--w-var", "1,2", "--depths",
                   "1", "--train", "8", "--test", "8", "--out", "o.h5")),
}  # fmt: skip


def file_case(rng: random.Random, base: Path) -> Case:
    """A file of ours in which one attribute or dataset is something else."""
    name = rng.choice(list(_READERS))
    words = rng.choice(_READERS[name])
    seed = rng.randrange(2**32)
    # Made now for its description, and again where it is used.
    trial = base / "trial.h5"
    shutil.copy(base / name, trial)
    done = _edited(trial, random.Random(seed))
    content = trial.read_bytes()
    trial.unlink()
    codes = (0, 2, 3) if words[0] == "verify" else (0, 2)

    def make(folder: Path) -> None:
        (folder / "in.h5").write_bytes(content)

    return Case("files", f"{name}: {done}; {words[0]}", words, codes, make)


_SHAPES: tuple[Any, ...] = (
    (6, 24), (-1, 4), (True, 4), (), (10**9,), (10**12, 24), None, (1.5,), (1,) * 70, (0, 24),
    (6, 0),
)  # fmt: skip


def archive_case(rng: random.Random) -> Case:
    """A zip archive whose members are no arrays, point elsewhere or promise too much."""
    stream = io.BytesIO()
    head = repr(
        {
            "descr": rng.choice(("<f8", "|O", "<U9", "garbage", "<c16", "|V8", ">f2", "<i8")),
            "fortran_order": rng.choice((False, True, 1, "yes")),
            "shape": rng.choice(_SHAPES),
        }
    )
    text = head.encode().ljust(500) + b"\n"
    npy = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + _X.tobytes()
    how = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", how) as archive:
        archive.writestr(rng.choice(("x.npy", "../x.npy", "/x.npy", "x.txt")), npy)
    plain = rng.random() < 0.4
    content, name = (npy, "in.npy") if plain else (stream.getvalue(), "in.npz")
    words: tuple[str, ...] = rng.choice((
        ("gram", "--net", "fcn:depth=1", "--x", name, *_OUT), ("data", "info", name),
        ("data", "prepare", name, "--out", "o.h5"),
        ("solve", f"{BASE}/K.h5", "--y", name, "--out", "o.h5"),
    ))  # fmt: skip

    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return Case("data", f"{name}: {head[:90]}; {words[0]}", words, (0, 2), make)
