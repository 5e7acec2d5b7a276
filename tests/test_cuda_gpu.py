"""The CUDA backend on a real card (``pytest -m gpu``): golden values and properties."""

from __future__ import annotations

import filecmp
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cuda_support import assert_equal, both, conv
from golden_cases import assert_matches, load, params
from jobs import job
from test_cuda_depths import PLACES
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.network import load_network

pytestmark = pytest.mark.gpu

CHAIN = {
    "input_shape": [16, 16, 3],
    "layers": [
        {"layer": "Repeat", "times": 5, "body": [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4},
            {"layer": "Relu"},
        ]},
        {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]},
        {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "b_std": 0.1},
        {"layer": "Erf"},
        {"layer": "GlobalAvgPool"},
        {"layer": "Dense"},
    ],
}  # fmt: skip


def _images(n: int, shape: tuple[int, ...] = (16, 16, 3)) -> np.ndarray:
    return np.random.default_rng(11).standard_normal((n, *shape)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", params())
def test_golden(name: str, dtype: str) -> None:
    golden = load(name)
    for symmetric in (False, True):
        x2 = None if symmetric else golden.x2
        found = widegram.kernel(golden.spec, golden.x1, x2, dtype=dtype, device="cuda")
        for kernel in ("nngp", "ntk"):
            key = f"{kernel}_11" if symmetric else kernel
            assert_matches(golden, key, getattr(found, kernel), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_forms_agree(dtype: str) -> None:
    from widegram.cuda.device import gpus

    network, x = load_network(CHAIN), open_source(_images(6))
    tiles = [
        CudaEvaluator(
            job(network, x, dtype=dtype, memory=2**30),
            gpus((0,)),
            forms=(form, "block"),
        ).tile(range(3), range(3, 6), False)
        for form in ("patch", "strip", "block")
    ]
    wanted = widegram.kernel(CHAIN, _images(6)[:3], _images(6)[3:], dtype="float64", device="cpu")
    for tile in tiles:
        for key, exact in zip(("nngp", "ntk"), wanted, strict=True):
            # The contract's tolerances.
            atol = {"float32": 1e-5, "float64": 1e-10}[dtype] * np.abs(exact).max()
            np.testing.assert_allclose(tile[key], exact, rtol=0, atol=atol)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["patch", "strip", "block"])
def test_readouts_after_each_layer(
    form: str, dtype: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from widegram.cuda.device import gpus

    monkeypatch.setattr("widegram.cuda.sums._MOST_BYTES", PLACES[place])
    body = {"layer": "Repeat", "times": 12, "body": [conv(), {"layer": "Relu"}]}
    spec = {"input_shape": [16, 16, 3], "layers": [body, {"layer": "GlobalAvgPool"}]}
    forms = tuple(dict.fromkeys((form, "block")))
    _, found, wanted = both(
        spec, dtype, depths=range(1, 13), card=gpus((0,))[0], forms=forms, block_threads=256
    )
    # The contract's tolerances.
    assert_equal(found, wanted, {"float32": 1e-5, "float64": 1e-10}[dtype])


def test_tiles_batches_and_runs_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, found = _images(40), []
    for n, tile in enumerate((40, 16, 16)):
        if n == 2:
            monkeypatch.setattr("widegram.cuda.stream.LARGEST_BATCH", 100)
        out = tmp_path / f"{n}.h5"
        widegram.gram(CHAIN, x, out, device="cuda", tile=tile)
        with h5py.File(out) as file:
            found.append(file["ntk"][...])
            assert file.attrs["device"] == "cuda"
            assert file.attrs["device_name"]
    np.testing.assert_array_equal(found[0], found[0].T)
    np.testing.assert_array_equal(found[0], found[1])
    assert filecmp.cmp(tmp_path / "1.h5", tmp_path / "2.h5", shallow=False)
    assert widegram.verify(tmp_path / "1.h5").ok


def test_large_images_and_odd_shapes() -> None:
    spec = {**CHAIN, "input_shape": [66, 34, 1]}
    x = _images(2, (66, 34, 1))
    found = widegram.kernel(spec, x[:1], x[1:], dtype="float32", device="cuda")
    wanted = widegram.kernel(spec, x[:1], x[1:], dtype="float64", device="cpu")
    for value, exact in zip(found, wanted, strict=True):
        # The contract's tolerance for float32.
        np.testing.assert_allclose(value, exact, rtol=1e-5)


def test_zero_and_repeated_images() -> None:
    x = _images(4)
    x[1], x[2] = 0, x[0]
    for dtype in ("float32", "float64"):
        found = widegram.kernel(CHAIN, x, dtype=dtype, device="cuda")
        assert np.isfinite(found.ntk).all()
        # Equal inputs are pairs of their own, with one rounding more than the diagonal.
        np.testing.assert_allclose(found.ntk[0, 2], found.ntk[0, 0], rtol=1e-5)
