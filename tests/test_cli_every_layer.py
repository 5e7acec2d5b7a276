"""Every layer name, walked from the command line: ``gram`` on a specification that has it, against
the dense reference, on the CPU and on an emulated card, which refuses some by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cli_support import refused, run_json
from network_specs import CONV, DENSE, FLATTEN, GAP, RELU
from virtual_card.devices import Emulated
from widegram import activations, load_network
from widegram.cuda import device
from widegram.data.patterns import with_pattern
from widegram.data.several import open_inputs
from widegram.network.kinds import FAN_IN, LAYERS
from widegram.reference import kernel as dense

Heads = dict[str, list[dict[str, Any]]]
AFFINE = {**DENSE, "W_std": 1.2, "b_std": 0.3}
WINDOW = {"window_shape": [2, 2], "strides": [2, 1]}
FILTER = {"filter_shape": [3, 3], "padding": "SAME"}
BRANCHES = {"branches": [[CONV], [CONV, RELU, CONV]]}
# What a layer needs beside its name. Each stands behind a Conv and before a pool.
IMAGES: dict[str, dict[str, Any]] = {
    "Aggregate": {},
    "AvgPool": WINDOW,
    "Conv": FILTER,
    "ConvLocal": FILTER,
    "ConvTranspose": {**FILTER, "strides": [2, 1]},
    "Dense": {},
    "DotGeneral": {"rhs": [[0.5, 1.0], [0.2, -0.3], [1.0, 0.0]],
                   "dimension_numbers": [[[2], [0]], [[], []]]},
    "Dropout": {"rate": 0.7},
    "FanInConcat": {"branches": [[{**CONV, "width": 3}], [{**CONV, "width": 2}, RELU]]},
    "FanInProd": BRANCHES,
    "FanInSum": BRANCHES,
    "Flatten": {},
    "GlobalAvgPool": {},
    "GlobalSelfAttention": {},
    "GlobalSumPool": {},
    "ImageResize": {"shape": [-1, 5, 2, -1], "method": "linear"},
    "Index": {"idx": [":", "1:", "::2"]},
    "LayerNorm": {"axis": [1, 2, 3]},
    "Repeat": {"times": 2, "body": [CONV, RELU]},
    "Residual": {"branch": [RELU, CONV]},
    "SumPool": WINDOW,
}  # fmt: skip
# Parameters of activations that have no defaults.
ACTIVATIONS: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.2},
    "ABRelu": {"a": -0.3, "b": 1.2},
    "Hermite": {"degree": 2},
    "Monomial": {"degree": 3},
    "RectifiedMonomial": {"degree": 2},
    "Polynomial": {"coef": [0.1, 1.0, -0.4]},
    "Custom": {"expression": "x * tanh(x)"},
}
# Maps between pixels: on the CPU alone.
WITHOUT_KERNELS = ("Aggregate", "ConvTranspose", "DotGeneral", "GlobalSelfAttention", "ImageResize")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda numbers: [Emulated()])


def walk(
    folder: Path, shape: list[int], heads: Heads, pattern: Any = None, device: str = "cpu"
) -> None:
    """Compare every head of one run of ``gram``, both kernels, with the reference."""
    x = np.random.default_rng(8).standard_normal((3 if device == "cpu" else 2, *shape))
    spec = {"input_shape": shape, "layers": [{"layer": "Readouts", "heads": heads}]}
    (folder / "n.json").write_text(json.dumps(spec))
    np.save(folder / "x.npy", x)
    source, more = open_inputs(x), []
    if pattern is not None:
        np.save(folder / "p.npy", pattern)
        source, more = with_pattern(source, pattern), ["--pattern", folder / "p.npy"]
    run_json("gram", "--net", folder / "n.json", "--x", folder / "x.npy", *more, "--dtype",
             "float64", "--device", device, "--out", folder / "K.h5")  # fmt: skip
    network, plain = load_network(spec), open_inputs(x)
    with h5py.File(folder / "K.h5") as file:
        for name in heads:
            one = network.at_head(name)
            wanted = dense(one, source if name == "Aggregate" else plain)
            for kernel in ("nngp", "ntk"):
                value = getattr(wanted, kernel)
                found = file[f"head/{name}/{kernel}"][...]
                # of the largest entry: what is promised of float64
                error = abs(found - value).max() / abs(value).max()
                assert error <= 1e-10, (name, kernel, error)


def images() -> Heads:
    """A head for every layer."""
    assert set(IMAGES) == {*LAYERS, *FAN_IN, "Residual", "Repeat"}
    heads: Heads = {}
    for name, parameters in IMAGES.items():
        flat = name in ("Flatten", "GlobalAvgPool", "GlobalSumPool")
        heads[name] = [CONV, {"layer": name, **parameters}, *([] if flat else [GAP]), AFFINE, RELU]
    return heads


def vectors() -> Heads:
    """A head for every activation."""
    # Elementwise is a function of Python's, which no specification in a file has.
    names = set(activations.TABLE) - {"Elementwise"}
    return {
        name: [AFFINE, {"layer": name, **ACTIVATIONS.get(name, {})}, DENSE]
        for name in sorted(names)
    }


def test_layers_of_images(tmp_path: Path) -> None:
    pattern = np.random.default_rng(9).random((3, 4, 3, 4, 3))
    walk(tmp_path, [4, 3, 2], images(), pattern)


def test_activations(tmp_path: Path) -> None:
    walk(tmp_path, [5], vectors())


@pytest.mark.usefixtures("card")
def test_layers_of_images_on_a_card(tmp_path: Path) -> None:
    heads = images()
    maps = {name: heads.pop(name) for name in WITHOUT_KERNELS}
    maps["FanInConcat"] = [CONV, {"layer": "FanInConcat", "axis": 1, **BRANCHES}, GAP]
    walk(tmp_path, [4, 3, 2], heads, device="cuda")
    np.save(tmp_path / "p.npy", np.ones((2, 4, 3, 4, 3)))
    for name, layers in maps.items():
        (tmp_path / "n.json").write_text(json.dumps({"layers": layers}))
        more = ["--pattern", tmp_path / "p.npy"] if name == "Aggregate" else []
        message = rf"layers\[1\] {name}: has no CUDA kernels; use --device cpu"
        refused(message, "gram", "--net", tmp_path / "n.json", "--x", tmp_path / "x.npy", *more,
                "--device", "cuda", "--out", tmp_path / "M.h5")  # fmt: skip
        assert not (tmp_path / "M.h5").exists()


@pytest.mark.usefixtures("card")
def test_activations_on_a_card(tmp_path: Path) -> None:
    walk(tmp_path, [5], vectors(), device="cuda")


@pytest.mark.usefixtures("card")
def test_layers_of_lists(tmp_path: Path) -> None:
    for name in FAN_IN:
        wide = [[CONV, RELU, FLATTEN, {**DENSE, "width": 3}], [{**DENSE, "width": 2}]]
        spec = {"layers": [{"layer": name, "branches": wide, "parallel": True}, AFFINE, RELU]}
        rng = np.random.default_rng(10)
        x = [rng.standard_normal((3, 4, 3, 2)), rng.standard_normal((3, 4))]
        data = []
        for n, each in enumerate(x):
            np.save(tmp_path / f"{n}.npy", each)
            data += ["--x", tmp_path / f"{n}.npy"]
        command = ["gram", "--net", json.dumps(spec), *data, "--out", tmp_path / f"{name}.h5"]
        message = rf"layers\[0\] {name}: joins several inputs, which have no CUDA kernels"
        refused(message, *command, "--device", "cuda")
        run_json(*command, "--dtype", "float64", "--device", "cpu")
        wanted = dense(load_network(spec, ((4, 3, 2), (4,))), x)
        with h5py.File(tmp_path / f"{name}.h5") as file:
            for kernel in ("nngp", "ntk"):
                # of the largest entry: what is promised of float64
                value = getattr(wanted, kernel)
                assert abs(file[kernel][...] - value).max() <= 1e-10 * abs(value).max()
