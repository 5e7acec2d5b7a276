"""Variances that a dtype cannot hold: computed in a wider one, or refused by name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import widegram
from campaigns import exact
from cli_support import run
from jobs import job
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram.plan.precision import LIMITS, DoubleNeeded

SHARP = [
    ({"layer": "Erf"}, 1.0),
    ({"layer": "Sigmoid_like"}, 1 / 2.4020563531719796**2),
    ({"layer": "Gelu"}, 0.5),
    ({"layer": "Sin", "b": 0.7}, 0.49),
    ({"layer": "Cos"}, 1.0),
    ({"layer": "Rbf", "gamma": 0.3}, 0.6),
]
by_layer = pytest.mark.parametrize(("layer", "sharpness"), SHARP, ids=lambda v: str(v))


def network(layer: dict[str, Any], features: int) -> dict[str, Any]:
    layers = [{"layer": "Dense"}, layer, {"layer": "Dense"}]
    return {"input_shape": [features], "layers": layers}


def images(seed: int = 0) -> np.ndarray:
    """Raw 0..255 images as vectors, with one repeated, one nearly so, and a brighter one."""
    x = np.random.default_rng(seed).integers(0, 256, (6, 64)).astype(float)
    x[3] = x[2]
    x[4] = x[2]
    x[4, 0] += 3
    x[5] = x[2] * 1.01
    return x


def difference(spec: Any, x: np.ndarray, y: np.ndarray | None) -> float:
    """The larger of two kernels' largest differences between the dtypes, over the largest entry."""
    single, double = (widegram.kernel(spec, x, y, dtype=d) for d in ("float32", "float64"))
    for found in single:
        assert found.dtype == np.float32
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(single, double, strict=True)
    )


@by_layer
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_raw_images_in_float32(layer: dict, sharpness: float, scale: float) -> None:
    x = (scale * images()).astype(np.float32)
    for other in (None, x.copy()):
        # 1e-5 is promised; 1e-7 is the rounding of float32, twice
        assert difference(network(layer, 64), x, other) < 1.2e-7


@by_layer
def test_just_within_float32(layer: dict, sharpness: float) -> None:
    """Where float32 still computes: promised are 1e-4 between nearly equal inputs."""
    x = images()
    top = 0.99 * LIMITS["float32"] / np.finfo(np.float32).eps / sharpness
    x = (x * np.sqrt(top / (x**2).mean(axis=1).max())).astype(np.float32)
    assert 1e-9 < difference(network(layer, 64), x, x.copy()) < 1e-4


@by_layer
def test_beyond_float64(layer: dict, sharpness: float) -> None:
    x = images()
    top = LIMITS["float64"] / np.finfo(np.float64).eps / sharpness
    x *= np.sqrt(top / (x**2).mean(axis=1).max())
    assert np.isfinite(widegram.kernel(network(layer, 64), 0.99 * x).ntk).all()
    if layer["layer"] == "Gelu":  # like ReLU in the end, which rounding spoils at no variance
        cross = widegram.kernel(network(layer, 64), 1e6 * x, 1e6 * x * (1 + 1e-15))
        own = np.diagonal(widegram.kernel(network(layer, 64), 1e6 * x).ntk)
        # A root of a rounding of the angle in Kdot.
        assert np.abs(np.diagonal(cross.ntk) / own - 1).max() < 1e-7
        return
    for dtype in ("float32", "float64"):
        name = layer["layer"]
        with pytest.raises(WidegramError, match=rf"layers\[1\] {name}: variances up to .* by 4 or"):
            widegram.kernel(network(layer, 64), 3.5 * x, dtype=dtype)


def test_a_file_in_float32(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Announced once, float32 in the file, and the same choice when it is verified."""
    caplog.set_level(logging.INFO)
    out, x = tmp_path / "K.h5", images().reshape(6, 8, 8, 1)
    np.save(tmp_path / "x.npy", x)
    widegram.gram("cnn-p:depth=1,act=erf", str(tmp_path / "x.npy"), out, tile=4)
    said = [record.getMessage() for record in caplog.records if "in float64" in record.message]
    assert len(said) == 1
    assert "layers[0].body[1] Erf" in said[0]
    with h5py.File(out) as file:
        assert file["ntk"].dtype == np.float32
        stored = file["ntk"][:]
    double = widegram.kernel("cnn-p:depth=1,act=erf", x, get="ntk")
    np.testing.assert_array_equal(stored, double.astype(np.float32))
    report = widegram.verify(out)
    assert report.ok
    assert report.entries_recomputed


def test_ordinary_inputs_stay_in_float32() -> None:
    from widegram.cpu import CpuEvaluator
    from widegram.network import load_network

    x = np.random.default_rng(0).standard_normal((4, 16))
    net = load_network("fcn:depth=3,act=erf,w_var=1.5", (16,))
    CpuEvaluator(job(net, x, kernels=("ntk",), dtype="float32", threads=1))
    with pytest.raises(DoubleNeeded, match="use float64 or smaller inputs"):
        CpuEvaluator(job(net, open_source(30 * x), kernels=("ntk",), dtype="float32", threads=1))


def test_layers_are_named_where_they_stand() -> None:
    inner = [{"layer": "Dense"}, {"layer": "Erf"}, {"layer": "Dense"}]
    residual = {"layer": "Residual", "branch": inner, "shortcut": []}
    repeat = {"layer": "Repeat", "times": 2, "body": [residual]}
    spec = {"input_shape": [4], "layers": [{"layer": "Dense"}, repeat, {"layer": "Dense"}]}
    x = np.full((2, 4), 1e6)
    with pytest.raises(WidegramError, match=r"^layers\[1\]\.body\[0\]\.branch\[1\] Erf: "):
        widegram.kernel(spec, x)


def signs(count: int, image: bool) -> dict[str, Any]:
    first = (
        {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
        if image
        else {"layer": "Dense"}
    )
    layers = [first, {"layer": "Sign"}] * count + [{"layer": "GlobalAvgPool"}] * image
    return {"input_shape": [5, 5, 2] if image else [8], "layers": layers}


@pytest.mark.parametrize("image", [True, False], ids=["images", "vectors"])
def test_signs_are_computed_in_float64(image: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a second Sign float32 would be off by 2e-2 wherever pixels coincide, or small inputs
    behind a bias."""
    caplog.set_level(logging.INFO)
    spec = signs(2, image)
    x = np.random.default_rng(0).standard_normal((3, *spec["input_shape"]))
    single, double = (widegram.kernel(spec, x, get="nngp", dtype=d)
                      for d in ("float32", "float64"))  # fmt: skip
    np.testing.assert_array_equal(single, double.astype(np.float32))
    said = [r.getMessage() for r in caplog.records if "in float64 and rounded" in r.getMessage()]
    assert len(said) == 1
    assert "layers[1] Sign" in said[0]


@pytest.mark.parametrize(
    ("spec", "where", "least", "most"),
    [
        # The angle of 16 roundings, 2 / pi sqrt(32 eps); that of this angle; and of that.
        (signs(1, True), "layers[1] Sign", 4e-8, 8e-8),
        (signs(2, False), "layers[3] Sign", 9e-5, 3e-4),
        (signs(3, True), "layers[5] Sign", 9e-3, 2e-2),
    ],
    ids=["one", "two", "three"],
)
def test_what_signs_make_of_roundings_is_said(
    spec: Any, where: str, least: float, most: float, caplog: pytest.LogCaptureFixture
) -> None:
    x = np.random.default_rng(0).standard_normal((2, *spec["input_shape"]))
    widegram.kernel(spec, x, get="nngp")
    (message,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert message.startswith(where)
    assert least < float(message.rsplit(" ", 1)[1]) < most


@pytest.mark.parametrize("image", [True, False], ids=["images", "vectors"])
def test_errors_of_more_than_a_tenth_are_refused_unless_accepted(
    image: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = signs(4, image)
    x = np.random.default_rng(0).standard_normal((2, *spec["input_shape"]))
    x[1] = x[0] * (1 + 1e-16) + 1e-16  # coincides but for roundings: a value is really off
    message = r"layers\[7\] Sign: .* may be off by up to 0\.\d+, .*--accept-series-error 0\.[1-9] "
    for dtype in ("float32", "float64"):
        with pytest.raises(WidegramError, match=message):
            widegram.kernel(spec, x, dtype=dtype)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "net.json").write_text(json.dumps(spec))
    command = ["gram", "--net", tmp_path / "net.json", "--x", tmp_path / "x.npy", "--out"]
    refused = run(*command, tmp_path / "K.h5")
    assert (refused.exit_code, (tmp_path / "K.h5").exists()) == (2, False)
    assert run(*command, tmp_path / "K.h5", "--accept-series-error", "0.4").exit_code == 0
    assert widegram.verify(tmp_path / "K.h5").ok  # what was accepted is no damage
    assert any("may be off by up to" in r.getMessage() for r in caplog.records)
    # Fewer, or what is announced by sums, but adds up to less: as before.
    widegram.kernel(signs(3, image), x, dtype="float32")


def test_sums_that_add_up_to_more_than_a_tenth_are_refused_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("widegram.plan.announced.left_out", lambda *_: 0.23)
    message = r"errors of up to 0\.23, .*--accept-series-error 0\.3 "
    with pytest.raises(WidegramError, match=message):
        widegram.kernel("fcn:depth=1,act=elu", np.eye(2))
    widegram.kernel("fcn:depth=1,act=elu", np.eye(2), accept_series_error=0.3)


def test_what_is_said_of_large_variances_is_no_idle_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """b^2 q times the error of K would be a third; ELU's slope changes with the angle alone."""
    x = np.linspace(-31.4, 31.4, 12)[:, None]
    widegram.kernel("fcn:depth=3,act=elu", x)
    said = [r.getMessage() for r in caplog.records if "closed form" in r.getMessage()]
    assert 1e-4 < float(said[0].rsplit(" ", 1)[1]) < 1e-2


def test_what_a_series_leaves_out_is_said_of_kinks_behind_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """c = 1 - error is an angle of its root, of which a ReLU makes Kdot."""
    dense = {"layer": "Dense", "W_std": 1.2, "b_std": 0.3}
    layers = [dense, {"layer": "Elu", "alpha": 0.3}, dense, {"layer": "Relu"}, dense]
    x = np.random.default_rng(0).standard_normal((3, 4))
    spec = {"input_shape": [4], "layers": layers}
    near = x * (1 + 1e-9 * np.arange(4))
    for dtype in ("float64", "float32"):
        caplog.clear()
        _, found = widegram.kernel(spec, x, near, dtype=dtype)
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        series, kink = (float(message.rsplit(" ", 1)[1]) for message in said)
        assert said[1].startswith("layers[3] Relu")
        # (root of 2 errors) / pi; one digit is printed
        assert kink == pytest.approx(np.sqrt(2 * series) / np.pi, rel=0.2)
        _, own = widegram.kernel(spec, x, dtype=dtype)
        off = np.abs(np.diag(found) - np.diag(own)).max() / np.abs(own).max()
        assert off < 1.5 * kink  # the digit
        assert dtype == "float32" or off > series  # more than the activation alone


def test_what_sums_leave_out_adds_up(caplog: pytest.LogCaptureFixture) -> None:
    """Two activations by mixtures, the second at q = 1 behind a LayerNorm (b = 1): K's error counts
    twice in T, for Kdot follows it, and the first one's Kdot once."""
    dense = {"layer": "Dense", "W_std": 1.0, "b_std": 0.0}
    arctan = {"layer": "Arctan"}
    x = 30 * np.random.default_rng(0).standard_normal((3, 4))
    said = {}
    for layers in ([dense, arctan], [dense, arctan, dense, {"layer": "LayerNorm"}, arctan]):
        for get in ("nngp", "ntk"):
            caplog.clear()
            widegram.kernel({"input_shape": [4], "layers": layers}, x, get=get)
            (message,) = [r.getMessage() for r in caplog.records if "closed form" in r.getMessage()]
            said[len(layers), get] = float(message.rsplit(" ", 1)[1])
    tail = said[2, "nngp"]
    assert said[2, "ntk"] == tail
    # one digit behind the point is printed; the second one's own tail is far smaller
    assert said[5, "nngp"] == pytest.approx(tail, rel=0.05)
    assert said[5, "ntk"] == pytest.approx(2 * tail, rel=0.05)


def test_sums_with_large_variances_are_said(caplog: pytest.LogCaptureFixture) -> None:
    layers = [{"layer": "Dense"}, {"layer": "Cos"}, {"layer": "Dense"}]
    spec = {"input_shape": [4], "layers": layers}
    x = np.random.default_rng(0).standard_normal((3, 4))
    widegram.kernel(spec, x)
    assert not caplog.records
    widegram.kernel(spec, 1e4 * x)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    # 16 roundings of some 1e8
    assert "layers[1] Cos" in record.getMessage()
    assert 1e-8 < float(record.getMessage().rsplit(" ", 1)[1]) < 1e-6


def test_what_chaos_makes_of_roundings_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Two inputs 1e-7 apart behind layers that drive them apart, beside many digits."""
    body = [{"layer": "Dense", "W_std": 3.0}, {"layer": "Erf"}]
    layers = [{"layer": "Repeat", "times": 16, "body": body}, {"layer": "Dense"}]
    spec = {"input_shape": [5], "layers": layers}
    x = np.random.default_rng(0).standard_normal((2, 5))
    near = x * (1 + 1e-7 * np.random.default_rng(1).standard_normal(x.shape))
    found = widegram.kernel(spec, x, near, get=("nngp", "ntk"), dtype="float64")
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "drive inputs, or pixels of images, that nearly coincide apart" in record.message
    said = float(record.message.rsplit(" ", 1)[1])
    right = exact.digits(load_network(spec), exact.Inputs(x, near))
    error = max(np.abs(getattr(found, k) / right[k] - 1).max() for k in ("nngp", "ntk"))
    # beyond what is promised, and what is said is no idle bound of it
    assert 1e-10 < error < said < 1e5 * error


def test_of_pairs_of_which_nothing_is_promised_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Roundings that 60 chaotic layers multiply until they are as large as values; pairs that are
    far apart are right, so that the network is not refused."""
    body = [{"layer": "Dense", "W_std": 3.0}, {"layer": "Erf"}]
    layers = [{"layer": "Repeat", "times": 60, "body": body}, {"layer": "Dense"}]
    spec = {"input_shape": [5], "layers": layers}
    x = np.random.default_rng(0).standard_normal((2, 5))
    found = widegram.kernel(spec, x, get=("nngp", "ntk"), dtype="float64")
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.message.endswith("until nothing is promised of their values")
    right = exact.digits(load_network(spec), exact.Inputs(x, x))
    for kernel in ("nngp", "ntk"):
        # the promise of float64
        np.testing.assert_allclose(getattr(found, kernel), right[kernel], rtol=1e-10)


def test_a_bias_makes_relative_errors_smaller(caplog: pytest.LogCaptureFixture) -> None:
    """A chaotic network whose bias is most of its K is far from multiplying errors by q E[phi'^2] /
    E[phi^2]: near c = 1 its c-map has the slope W_std^2 E[phi'^2]."""
    q, said = 1.0, {}
    for _ in range(200):
        q = 3.0 * 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + 0.5
    chi = 3.0 * 4 / np.pi / np.sqrt(1 + 4 * q)
    x = np.random.default_rng(0).standard_normal((2, 5))
    for depth in (80, 100):
        caplog.clear()
        widegram.kernel(f"fcn:depth={depth},act=erf,w_var=3,b_var=0.5", x, get="nngp")
        messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        said[depth] = float(messages[0].rsplit(" ", 1)[1])
    # one digit is printed
    assert said[100] / said[80] == pytest.approx(chi**20, rel=0.6)


def test_ordinary_networks_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).standard_normal((3, 6, 6, 3))
    for net in ("cnn-p:depth=9,act=relu", "cnn-p:depth=9,act=erf", "cnn-f:depth=3,act=gelu"):
        widegram.kernel(net, x)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
