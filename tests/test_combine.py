"""Sums and products of Gram files: values, files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import widegram
from cli_support import run
from widegram.combining.recipe import check_weights
from widegram.errors import WidegramError
from widegram.gramfile import GramFile, open_for_resume
from widegram.tiling import End

RNG = np.random.default_rng(7)
X, TEST = RNG.standard_normal((23, 5)), RNG.standard_normal((4, 5))
NETWORKS = ("fcn:depth=1", "fcn:depth=2,act=erf", "fcn:depth=3,w_var=1.5,b_var=0.1")
WEIGHTS = (0.5, 2.0, 3.0)
SWEEP = {
    "input_shape": [5],
    "layers": [
        {"layer": "Repeat", "times": 3, "body": [{"layer": "Dense"}, {"layer": "Relu"}]},
        {
            "layer": "Readouts",
            "heads": {"a": [{"layer": "Dense"}], "b": [{"layer": "Dense", "W_std": 2}]},
        },
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of three networks, of X (K*.h5) and of TEST with X (C*.h5), and of a sweep."""
    place = tmp_path_factory.mktemp("combine")
    for n, net in enumerate(NETWORKS):
        dtype = "float32" if n == 2 else "float64"
        widegram.gram(net, X, place / f"K{n}.h5", dtype=dtype, tile=8 if n else None)
        widegram.gram(net, TEST, place / f"C{n}.h5", X, dtype=dtype)
    widegram.gram(SWEEP, X, place / "sweep.h5", dtype="float64", depths=[1, 3])
    return place


def files(folder: Path, kind: str, *numbers: int) -> list[Path]:
    return [folder / f"{kind}{n}.h5" for n in numbers]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All matrices and diagonals of a Gram file, by path."""
    found = {}
    with GramFile(path) as file:
        for key in file.header.keys:
            found[key] = file.raw(key)[...]
            for side in ("x1",) if file.symmetric else ("x1", "x2"):
                found[f"{side}/{key}"] = file.raw(f"diagonal/{side}/{key}")[...]
    return found


@pytest.mark.parametrize("kind", ["K", "C"])
@pytest.mark.parametrize("op", ["sum", "product"])
def test_entries_are_sums_and_products(op: str, kind: str, folder: Path, tmp_path: Path) -> None:
    parts = files(folder, kind, 0, 1, 2)
    weights = WEIGHTS if op == "sum" else None
    result = widegram.combine(parts, tmp_path / "out.h5", op=op, weights=weights, tile=8)
    assert result.complete
    held = [arrays(part) for part in parts]
    found = arrays(tmp_path / "out.h5")
    assert set(found) == set(held[0])
    for name, values in found.items():
        wide = [one[name].astype(np.float64) for one in held]
        wanted = np.prod(wide, axis=0)
        if op == "sum":
            wanted = sum(w * value for w, value in zip(WEIGHTS, wide, strict=True))
        # Roundings of float64 in another order; a sum may cancel.
        atol = 1e-15 * np.abs(wanted).max()
        np.testing.assert_allclose(values, wanted, rtol=1e-15, atol=atol, err_msg=name)
        assert values.dtype == np.float64  # the widest


def test_the_order_of_files_changes_no_bit(folder: Path, tmp_path: Path) -> None:
    for name, order in (("one", (0, 1, 2)), ("other", (2, 0, 1))):
        weights = [WEIGHTS[n] for n in order]
        parts = files(folder, "K", *order)
        widegram.combine(parts, tmp_path / f"{name}.h5", weights=weights, tile=8)
    one, other = (arrays(tmp_path / f"{name}.h5") for name in ("one", "other"))
    assert all(np.array_equal(one[key], other[key]) for key in one)
    # and is no other run
    parts = files(folder, "K", 1, 2, 0)
    assert widegram.combine(parts, tmp_path / "one.h5", weights=[2.0, 3.0, 0.5]).entries == 0


def test_solve_and_predict_with_a_sum(folder: Path, tmp_path: Path) -> None:
    y = RNG.standard_normal(23)
    np.save(tmp_path / "y.npy", y)
    for kind in "KC":
        parts = files(folder, kind, 0, 1)
        out = tmp_path / f"{kind}.h5"
        done = run("combine", *parts, "--weights", "1,2", "--out", out, "--json")
        assert json.loads(done.stdout)["complete"] is True
    a, p = tmp_path / "A.h5", tmp_path / "P.h5"
    done = run("solve", tmp_path / "K.h5", "--kernel", "nngp", "--y", tmp_path / "y.npy",
               "--diag-reg", "0.1", "--absolute", "--out", a)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    done = run("predict", a, "--cross", tmp_path / "C.h5", "--variance", "--out", p)
    assert done.exit_code == 0, done.stderr
    k, c = arrays(tmp_path / "K.h5"), arrays(tmp_path / "C.h5")
    inverse = np.linalg.inv(k["nngp"] + 0.1 * np.eye(23))
    variance = c["x1/nngp"] - np.sum(c["nngp"] @ inverse * c["nngp"], axis=1) + 0.1
    with h5py.File(p) as file:
        # A condition number of some hundreds.
        np.testing.assert_allclose(file["mean"][:, 0], c["nngp"] @ inverse @ y, rtol=1e-11)
        np.testing.assert_allclose(file["variance"][...], variance, rtol=1e-11)


def test_a_product_of_ntks_has_no_ensemble(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", RNG.standard_normal(23))
    for kind in "KC":
        widegram.combine(files(folder, kind, 0, 1), tmp_path / f"{kind}.h5", op="product")
    a = tmp_path / "A.h5"
    run("solve", tmp_path / "K.h5", "--kernel", "ntk", "--y", tmp_path / "y.npy",
        "--diag-reg", "0.1", "--out", a)  # fmt: skip
    assert run("predict", a, "--cross", tmp_path / "C.h5").exit_code == 0
    refused = run("predict", a, "--cross", tmp_path / "C.h5", "--variance")
    assert refused.exit_code == 2
    assert "a product of NTKs is a kernel, but no network's NTK" in refused.stderr


def test_a_sweep_with_itself_and_at_one_end(folder: Path, tmp_path: Path) -> None:
    sweep = folder / "sweep.h5"
    widegram.combine([sweep, sweep], tmp_path / "whole.h5")
    whole, held = arrays(tmp_path / "whole.h5"), arrays(sweep)
    assert all(np.array_equal(whole[key], 2 * held[key]) for key in held)
    widegram.combine([sweep, folder / "K0.h5"], tmp_path / "end.h5", end=End(3, "b"), get=["ntk"])
    found, plain = arrays(tmp_path / "end.h5"), arrays(folder / "K0.h5")
    wanted = held["depth/3/head/b/ntk"] + plain["ntk"]
    assert np.array_equal(found["ntk"], wanted)
    assert set(found) == {"ntk", "x1/ntk"}


def test_an_unfinished_file_goes_on_to_the_same_bits(folder: Path, tmp_path: Path) -> None:
    out, parts = tmp_path / "out.h5", files(folder, "K", 0, 1)
    widegram.combine(parts, out, tile=8)
    before = arrays(out)
    with GramFile(out) as file:
        header = file.header
    with open_for_resume(out, header) as writer:
        writer.take_back([(0, 1), (2, 2)], writer.header.places.stretches()[:1])
    result = widegram.combine(parts, out)
    assert (result.resumed_tiles, result.tiles) == (4, 6)
    after = arrays(out)
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_verify_combines_again_and_repairs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    parts = [tmp_path / f"part{n}.h5" for n in range(2)]
    for part, source in zip(parts, files(folder, "K", 0, 1), strict=True):
        part.write_bytes(source.read_bytes())
    widegram.combine(parts, out, tile=8)
    before = arrays(out)
    report = widegram.verify(out)
    assert (report.ok, report.max_difference) == (True, 0.0)
    assert report.entries_recomputed > 0
    with h5py.File(out, "r+") as file:
        file["ntk"][1, 2] += 1
    assert not widegram.verify(out).ok
    assert widegram.verify(out, repair=True).ok
    assert np.array_equal(arrays(out)["ntk"], before["ntk"])
    parts[0].unlink()
    assert "its ingredients cannot be combined again" in widegram.verify(out).note


def test_the_parts_are_inputs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    part = tmp_path / "part.h5"
    part.write_bytes((folder / "K0.h5").read_bytes())
    refused = run("combine", part, folder / "K1.h5", "--out", part, "--overwrite")
    assert (refused.exit_code, "is an input of this command" in refused.stderr) == (2, True)
    assert run("combine", part, folder / "K1.h5", "--out", out).exit_code == 0
    refused = run("export", out, "--kernel", "ntk", "--to", part, "--overwrite")
    assert (refused.exit_code, "is an input of this command" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["K0"], {}, "needs two or more"),
        (["K0", "C0"], {}, "one is the matrix of x with itself"),
        (["K0", "sweep"], {}, "they have other depths or heads; choose with --depth and --head"),
        (["K0", "sweep"], {"end": End(2, "a")}, "has no depth 2"),
        (["K0", "sweep"], {"end": End(3, "c")}, "has no head 'c'"),
        (["K0", "K1"], {"end": End(1)}, "none of the files has depths or heads"),
        (["K0", "K1"], {"weights": [1.0]}, "1 weights for 2 files"),
        (["K0", "K1"], {"weights": [1.0, -1.0]}, "weight -1: give finite numbers above 0"),
        (["K0", "K1"], {"weights": [1.0, np.nan]}, "weight nan"),
        (["K0", "K1"], {"weights": [1.0, "a"]}, "give a number for each file"),
        (["K0", "K1"], {"weights": [1.0, 1.0], "op": "product"}, "weights are of a sum"),
        (["K0", "K1"], {"op": "mean"}, "choose sum or product"),
        (["K0", "K1"], {"dtype": "float16"}, "dtype 'float16' is unknown"),
        (["K0", "K1"], {"get": ["tangent"]}, "has no kernel 'tangent'"),
        (["K0", "nothing"], {}, "nothing.h5"),
    ],
)  # fmt: skip
def test_refused(
    names: list[str], options: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(WidegramError, match=said):
        widegram.combine([folder / f"{n}.h5" for n in names], tmp_path / "out.h5", **options)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("files", [3, None, "K0.h5", Path("K0.h5")])
def test_what_is_no_list_of_files(files: Any, tmp_path: Path) -> None:
    with pytest.raises(WidegramError, match="needs two or more"):
        widegram.combine(files, tmp_path / "out.h5")


def test_other_inputs_are_refused(folder: Path, tmp_path: Path) -> None:
    widegram.gram(NETWORKS[0], X + 1, tmp_path / "other.h5")
    with pytest.raises(WidegramError, match="they are of other inputs x"):
        widegram.combine([folder / "K0.h5", tmp_path / "other.h5"], tmp_path / "out.h5")


def test_another_recipe_is_another_run(folder: Path, tmp_path: Path) -> None:
    parts, out = files(folder, "K", 0, 1), tmp_path / "out.h5"
    widegram.combine(parts, out)
    for options in ({"weights": [1, 2]}, {"op": "product"}):
        with pytest.raises(WidegramError, match="is the output of another run"):
            widegram.combine(parts, out, **options)


def test_a_product_outside_of_the_range_is_refused(tmp_path: Path) -> None:
    parts = [tmp_path / f"{n}.h5" for n in range(2)]
    for part in parts:
        widegram.gram("fcn:depth=1", 1e-12 * X, part)
    with pytest.raises(WidegramError, match="outside of the range of float32; combine to --dtype"):
        widegram.combine(parts, tmp_path / "out.h5", op="product")
    assert not (tmp_path / "out.h5").exists()
    assert widegram.combine(parts, tmp_path / "out.h5", op="product", dtype="float64").complete


def test_weights_default_to_one() -> None:
    assert check_weights(None, 3, "product") == (1.0, 1.0, 1.0)
