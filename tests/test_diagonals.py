"""K(x, x) of the inputs in gram files: right, safe, found where damaged, and what predict reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from cli_support import run
from widegram.computing.choosing import make_evaluator
from widegram.computing.job import make_job
from widegram.durable import find_extents
from widegram.durable.contents import checksum
from widegram.errors import Damaged, WidegramError
from widegram.gramfile import GramFile, create, open_for_resume
from widegram.gramfile.diagonals import Stretch
from widegram.predict.predicting import PredictJob, predict_file
from widegram.tiling import End

N, TILE = 40, 16
POOLED = {
    "input_shape": [4, 4, 2],
    "layers": [
        {"layer": "Repeat", "times": 2, "body": [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.5},
            {"layer": "Erf"},
        ]},
        {"layer": "GlobalAvgPool"},
        {"layer": "Dense", "b_std": 0.1},
    ],
}  # fmt: skip
FLAT = {**POOLED, "layers": [*POOLED["layers"][:1], {"layer": "Flatten"}, {"layer": "Dense"}]}
TURNED = {**POOLED, "augment": ["flip-lr"]}


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 4, 4, 2)).astype(np.float32)


@pytest.mark.parametrize(("symmetric", "dtype"), [(True, "float32"), (False, "float64")])
@pytest.mark.parametrize(
    ("net", "depths"), [(POOLED, (1, 2)), (FLAT, None), (TURNED, None)], ids=["pool", "flat", "lr"]
)
def test_every_input_has_its_own_kernel(
    net: dict, depths: tuple[int, ...] | None, symmetric: bool, dtype: str, tmp_path: Path
) -> None:
    x1, x2, out = images(11), None if symmetric else images(7, 1), tmp_path / "K.h5"
    widegram.gram(net, x1, out, x2, tile=8, depths=depths, dtype=dtype, threads=1)
    job = make_job(net, x1, x2, ("nngp", "ntk"), "float64", depths, 1, None)
    # Constants of a float32 network are rounded; else some dozen roundings of float64.
    close = 1e-6 if dtype == "float32" else 1e-12
    with GramFile(out) as file, make_evaluator("reference", job) as dense:
        for key in job.keys:
            *_, kernel = key.split("/")
            end = End(int(key.split("/")[1])) if depths else End()
            for second, n in ((False, 11), (True, 11 if symmetric else 7)):
                found = file.diagonal(kernel, end, second)
                assert found is not None
                assert found.dtype == np.float64
                wanted = dense.diagonal(range(n), second)[key]
                np.testing.assert_allclose(found, wanted, rtol=close)
            if symmetric:
                own = np.diag(file.raw(key)[...])
                np.testing.assert_array_equal(own, file.diagonal(kernel, end).astype(dtype))


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A complete cross file of a fake, with its inputs beside it."""
    fake.install(monkeypatch)
    np.save(tmp_path / "x.npy", fake.inputs(N))
    np.save(tmp_path / "y.npy", fake.inputs(TILE, 1))
    gram(tmp_path / "K.h5")
    return tmp_path / "K.h5"


def gram(out: Path, **more: bool) -> widegram.GramResult:
    folder = out.parent
    return widegram.gram(
        fake.NETWORK, folder / "x.npy", out, folder / "y.npy", tile=TILE, device="cpu", **more
    )


def expected(n: int) -> np.ndarray:
    return np.diag(fake.entries(range(n), range(n), True, "float64"))


def intact(out: Path) -> None:
    """Both sides of the file are whole, and it says so."""
    assert widegram.verify(out).ok
    with GramFile(out) as file:
        assert file.complete
        np.testing.assert_array_equal(file.diagonal("ntk"), 2 * expected(N))
        np.testing.assert_array_equal(file.diagonal("nngp", second=True), expected(TILE))


def places(out: Path, name: str) -> int:
    with h5py.File(out) as file:
        return int(find_extents(file)[name].offsets.flat[0])


DAMAGE = {
    "value": ("diagonal/x1/ntk", 8 * 20, "diagonal/x1/ntk 16-31: wrong checksum"),
    "checksum": ("state/checksums/diagonal/x2/nngp", 0, "diagonal/x2/nngp 0-15: wrong checksum"),
    "flag": ("state/diagonal/x1", 2, "it says complete, but diagonal x1 2 is missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_refused_and_mended(kind: str, out: Path) -> None:
    name, offset, message = DAMAGE[kind]
    good = out.read_bytes()
    fake.damage(out, places(out, name) + offset)
    report = widegram.verify(out, sample=0)
    assert report.damage == (message,)
    with pytest.raises(Damaged, match="run verify --repair or compute it again"):
        report.raise_if_damaged()
    kernel, second = "nngp" if "nngp" in name else "ntk", "x2" in name
    with GramFile(out) as file, pytest.raises(WidegramError, match=r"is damaged: .*--repair"):
        file.diagonal(kernel, second=second)
    damaged = out.read_bytes()
    assert widegram.verify(out, repair=True).repaired == (message,)
    intact(out)
    out.write_bytes(damaged)  # another way to mend it
    gram(out, check=True)
    assert out.read_bytes() == good


def test_odd_flags_and_values_behind_right_checksums_are_damage(out: Path) -> None:
    with h5py.File(out, "r+") as file:
        file["state/diagonal/x1"][0] = 7
        for key, value in (("nngp", np.inf), ("ntk", 5.0)):
            file[f"diagonal/x2/{key}"][3] = value
            sums = file[f"state/checksums/diagonal/x2/{key}"]
            sums[0] = checksum(file[f"diagonal/x2/{key}"][:])
    damage = "; ".join(widegram.verify(out, sample=0).damage)
    assert "the flag of diagonal x1 0 is 7, not 0 or 1" in damage
    assert "diagonal/x2/nngp 0-15: not finite" in damage
    with h5py.File(out, "r+") as file:
        file["diagonal/x2/nngp"][3] = expected(TILE)[3]
        file["state/checksums/diagonal/x2/nngp"][0] = checksum(file["diagonal/x2/nngp"][:])
    damage = "; ".join(widegram.verify(out, sample=9).damage)
    assert "diagonal/x2/nngp 0-15: differs from the recomputed values" in damage


def test_an_unfinished_file_goes_on_to_the_same_bits(out: Path) -> None:
    good = out.read_bytes()
    for rows, side in ((0, "x1"), (2, "x1"), (0, "x2")):
        with GramFile(out) as file:
            header = file.header
        with open_for_resume(out, header) as writer:
            writer.take_back([(1, 0)], [Stretch(side, rows)])
            assert not writer.complete
            with pytest.raises(RuntimeError, match="stretches are missing"):
                writer.finish()
        with GramFile(out) as file, pytest.raises(WidegramError, match="is missing"):
            file.diagonal("ntk", second=side == "x2")
        assert gram(out).complete
        assert out.read_bytes() == good


def test_a_file_without_places_for_them_is_finished_and_read(out: Path) -> None:
    """As older versions left them."""
    with GramFile(out) as file:
        header = replace(file.header, diagonals=False)
    create(out, header, overwrite=True)
    assert gram(out).complete
    assert widegram.verify(out).ok
    with GramFile(out) as file:
        assert not file.header.diagonals
        assert file.diagonal("ntk") is None
    assert "diagonals      none (older file)" in " ".join(run("info", out).output.split("  "))
    assert "diagonal" not in h5py.File(out)


def test_info_names_them(out: Path) -> None:
    wanted = [f"diagonal/{side}/{kernel}" for side in ("x1", "x2") for kernel in ("nngp", "ntk")]
    assert json.loads(run("info", out, "--json").output)["diagonals"] == wanted
    assert " ".join(f"/{name}" for name in wanted) in run("info", out).output


def test_changed_data_takes_them_back(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, out2 = out.parent / "x.npy", out.parent / "L.h5"

    def change(progress: object) -> None:
        np.save(x, fake.inputs(N, 5))

    with pytest.raises(WidegramError, match="are not kept"):
        widegram.gram(fake.NETWORK, x, out2, out.parent / "y.npy", tile=TILE, progress=change)
    with h5py.File(out2) as file:
        assert not file["state/diagonal/x1"][:].any()
        assert not file["state/diagonal/x2"][:].any()


def test_what_leaves_the_range_beside_a_matrix_that_does_not(tmp_path: Path) -> None:
    """K(x, x) of 1e170 overflows, K(x, y) with y of 1e-170 does not."""
    x, y = images(3).astype(np.float64), images(3, 1).astype(np.float64)
    net = {"input_shape": [4, 4, 2], "layers": [{"layer": "Flatten"}, {"layer": "Dense"}]}
    x[1] *= 1e170
    widegram.gram(net, x, tmp_path / "K.h5", y * 1e-170, dtype="float64")
    assert widegram.verify(tmp_path / "K.h5", x, y * 1e-170).ok
    with GramFile(tmp_path / "K.h5") as file:
        assert file.diagonal("ntk") is None
        assert np.isnan(file.raw("diagonal/x1/ntk")[...]).tolist() == [False, True, False]


def solved(folder: Path) -> PredictJob:
    """A solution, its cross matrix, and what predicts variances from them."""
    x, t = images(20), images(9, 1)
    np.save(folder / "x.npy", x)
    np.save(folder / "t.npy", t)
    np.save(folder / "y.npy", np.random.default_rng(2).standard_normal((20, 1)))
    widegram.gram(POOLED, folder / "x.npy", folder / "K.h5", dtype="float64")
    widegram.gram(POOLED, folder / "t.npy", folder / "C.h5", folder / "x.npy", dtype="float64")
    done = run("solve", folder / "K.h5", "--kernel", "nngp", "--y", folder / "y.npy",
               "--diag-reg", "0.1", "--out", folder / "A.h5")  # fmt: skip
    assert done.exit_code == 0, done.output
    return PredictJob(solution=folder / "A.h5", cross=folder / "C.h5", variance=True)


def variance(job: PredictJob, out: Path) -> np.ndarray:
    predict_file(replace(job, out=out))
    with h5py.File(out) as file:
        found: np.ndarray = file["variance_latent"][...]
    return found


def test_predict_needs_no_data_and_no_kernels_for_variances(tmp_path: Path) -> None:
    job = solved(tmp_path)
    computed = variance(replace(job, x_test=str(tmp_path / "t.npy")), tmp_path / "1.h5")
    (tmp_path / "t.npy").unlink()
    # The same numbers, computed in float64 both times: some dozen roundings.
    np.testing.assert_allclose(variance(job, tmp_path / "2.h5"), computed, rtol=1e-9)
    words = ["predict", job.solution, "--cross", job.cross, "--variance"]
    code = "import sys; from widegram_cli.main import run; code = run(); "
    code += "print(code, sorted({'llvmlite', 'numba'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_predict_computes_what_an_older_cross_file_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = solved(tmp_path)
    held = variance(job, tmp_path / "1.h5")
    monkeypatch.setattr(GramFile, "has_diagonal", lambda self, kernel: False)
    np.testing.assert_allclose(variance(job, tmp_path / "2.h5"), held, rtol=1e-9)  # as above
    (tmp_path / "t.npy").unlink()
    with pytest.raises(WidegramError, match="pass the test points as --x-test DATA"):
        predict_file(job)
