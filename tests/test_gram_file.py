"""docs/gram-file.md is the file: its tables name all there is, its readers read it."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash

import widegram
from doc_examples import PAGES, ROOT

READERS = ROOT / "docs/readers"
PAGE = PAGES["gram-file.md"].read_text()
read = runpy.run_path(str(READERS / "read_gram.py"))["read"]
LAYERS = [
    {"layer": "Repeat", "times": 2, "body": [{"layer": "Dense"}, {"layer": "Relu"}]},
    {"layer": "Readouts", "heads": {"a": [{"layer": "Dense"}], "b": []}},
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A symmetric matrix of several tiles, a cross matrix, and one with depths and heads."""
    folder = tmp_path_factory.mktemp("gram")
    x = np.random.default_rng(0).standard_normal((40, 5))
    runs: dict[str, dict[str, Any]] = {
        "symmetric": {"network": "fcn:depth=2", "x1": x, "tile": 16},
        "cross": {"network": "fcn:depth=2", "x1": x[:20], "x2": x, "tile": 16, "dtype": "float64"},
        "swept": {"network": {"layers": LAYERS}, "x1": x, "tile": 24, "depths": (1, 2)},
    }
    for name, run in runs.items():
        widegram.gram(out=folder / f"{name}.h5", **run)
    return {name: folder / f"{name}.h5" for name in runs}


def datasets(path: Path) -> list[str]:
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if hasattr(item, "shape") else None)
    return found


@pytest.mark.parametrize("name", ["symmetric", "cross", "swept"])
def test_the_reader_reads_every_matrix(files: dict[str, Path], name: str) -> None:
    with widegram.GramFile(files[name]) as file:
        for key in file.header.keys:
            *_, kernel = key.split("/")
            found = re.search(r"(?:depth/(\d+)/)?(?:head/(\w+)/)?", key)
            assert found is not None
            depth, head = found.groups()
            expected = file.dataset(kernel, None if depth is None else int(depth), head)[...]
            np.testing.assert_array_equal(read(files[name], key), expected)


def test_the_reader_refuses_what_is_damaged_or_incomplete(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(files["symmetric"], tmp_path))
    for place, value in (("ntk", 0.5), ("diagonal/x1/ntk", 0.5)):
        with h5py.File(path, "r+") as file:
            before, file[place][-1] = file[place][-1], value
        with pytest.raises(ValueError, match="not what was written"):
            read(path)
        with h5py.File(path, "r+") as file:
            file[place][-1] = before
    assert read(path).shape == (40, 40)
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = False
    with pytest.raises(ValueError, match="tiles are missing"):
        read(path)


def test_the_page_names_every_attribute_and_dataset(files: dict[str, Path]) -> None:
    named = set(re.findall(r"`([\w/<>.-]+)`", PAGE))
    for path in files.values():
        with h5py.File(path) as file:
            assert set(file.attrs) <= named
        for name in datasets(path):
            general = re.sub(r"(depth/\d+/)?(head/\w+/)?(nngp|ntk)$", "KEY", name)
            general = general.replace("/x2", "/x1") if f"/{general}" not in named else general
            assert f"/{general}" in named, name


def test_structures_are_as_the_page_says(files: dict[str, Path]) -> None:
    for path in files.values():
        assert path.read_bytes()[8] == 0  # the version of the superblock
        assert path.read_bytes().endswith(b"widegram-trailer")
        with h5py.File(path) as file:
            assert file.attrs.get_id("complete").dtype.itemsize == 1
            for name in datasets(path):
                assert file[name].compression is None
                assert file[name].dtype.byteorder in "<=|"


def test_the_checksum_of_the_header_is_what_the_page_says(files: dict[str, Path]) -> None:
    for path in files.values():
        with h5py.File(path) as file, widegram.GramFile(path) as gram:
            stored, values = file["state/header"][0], dict(file.attrs)
        for name in ("format", "format_version", "complete", "device", "device_name"):
            del values[name]
        del values["device_note"]
        values |= {"n1": gram.n1, "n2": gram.n2, "kernels": gram.kernels, "depths": gram.depths}
        values |= {"heads": gram.heads} if gram.heads else {}
        values |= {"symmetric": bool(values["symmetric"]), "tile": int(values["tile"])}
        text = json.dumps(values, sort_keys=True)
        assert xxhash.xxh3_64_intdigest(text.encode()) == stored


# Other languages: run where there is all they need, parsed where there is the language.


def test_the_reader_in_c(files: dict[str, Path], tmp_path: Path) -> None:
    if shutil.which("cc") is None or shutil.which("pkg-config") is None:
        pytest.skip("no C compiler, or no pkg-config")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "hdf5"], capture_output=True)
    if flags.returncode:
        pytest.skip("no headers of libhdf5")
    source, program = READERS / "read_gram.c", tmp_path / "read_gram"
    command = ["cc", "-std=c99", "-Wall", "-Werror", str(source), "-o", str(program)]
    subprocess.run([*command, *flags.stdout.decode().split()], check=True)
    for name, key in (("symmetric", "ntk"), ("cross", "nngp"), ("swept", "depth/2/head/a/ntk")):
        line = subprocess.run([program, files[name], key], check=True, capture_output=True).stdout
        kernel = read(files[name], key)
        found = line.decode().split()
        assert found[:3] == [key, *map(str, kernel.shape)]
        # Ten digits are printed of a sum that is made in another order.
        assert float(found[3]) == pytest.approx(kernel.sum(dtype=float), rel=1e-9)


def test_the_reader_in_r(files: dict[str, Path]) -> None:
    command = ["Rscript", "-e", "quit(status = !requireNamespace('rhdf5', quietly = TRUE))"]
    if shutil.which("Rscript") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no R, or no rhdf5")
    command = ["Rscript", str(READERS / "read_gram.R"), str(files["cross"]), "nngp"]
    found = subprocess.run(command, check=True, capture_output=True).stdout.decode().split()
    kernel = read(files["cross"], "nngp")
    assert found[:3] == ["nngp", *map(str, kernel.shape)]
    # Ten digits are printed of a sum that is made in another order.
    assert float(found[3]) == pytest.approx(kernel.sum(dtype=float), rel=1e-9)


PARSERS = {
    "R": ("Rscript", "-e", "invisible(parse('{}'))"),
    "m": ("octave-cli", "--no-init-file", "--eval", "addpath('{folder}'); nargin('read_gram');"),
    "jl": ("julia", "-e", "Meta.parseall(read(\"{}\", String)).head == :toplevel || exit(1)"),
}


@pytest.mark.parametrize("suffix", PARSERS)
def test_other_readers_parse(suffix: str) -> None:
    program, *arguments = PARSERS[suffix]
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")
    path = READERS / f"read_gram.{suffix}"
    words = [word.format(path, folder=READERS) for word in arguments]
    assert subprocess.run([program, *words], capture_output=True, check=False).returncode == 0


def test_the_reader_in_julia_has_the_grammar_of_julia() -> None:
    """By a grammar of the language, which a machine without Julia can have too."""
    tree_sitter = pytest.importorskip("tree_sitter")
    language = tree_sitter.Language(pytest.importorskip("tree_sitter_julia").language())
    source = (READERS / "read_gram.jl").read_bytes()
    parser = tree_sitter.Parser(language)
    assert not parser.parse(source).root_node.has_error
    assert parser.parse(source.replace(b"do file", b"do ((file")).root_node.has_error
