"""The standard parameterization, learning rates and frozen layers: T's own part of each layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import widegram
from agreement import PROMISED, cpu_agrees, generated_agrees
from cuda_support import assert_equal
from network_specs import FLATTEN, GAP, RELU, load, residual
from trained_examples import networks
from widegram import WidegramError, reference, stax
from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.data import open_source
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.experiments.sweeps import spectrum
from widegram.network import load_network, preset
from widegram.plan import build
from widegram_cli.main import program

GOLDEN = np.load(Path(__file__).parent / "golden_trained" / "values.npz")
STANDARD = {"parameterization": "standard", "width": 16}
FROZEN = {"W_rate": 0, "b_rate": 0}
ERF = {"layer": "Erf"}
PEER = networks(stax)


def conv(rows: int = 3, cols: int = 3, padding: str = "SAME", **more: Any) -> dict:
    return {
        "layer": "Conv", "filter_shape": [rows, cols], "padding": padding, "W_std": 1.3,
        "b_std": 0.2, **more,
    }  # fmt: skip


def dense(**more: Any) -> dict:
    return {"layer": "Dense", "W_std": 1.2, "b_std": 0.1, **more}


def pool(*window: int) -> dict:
    return {"layer": "AvgPool", "window_shape": list(window), "strides": list(window)}


CASES: dict[str, tuple[tuple[int, ...], list[dict]]] = {
    "vector": ((5,), [dense(**STANDARD), RELU, dense(**STANDARD, s=[2, 3], W_rate=0.3), ERF,
                      dense(**FROZEN)]),
    "vectors of images": ((2, 2, 3), [FLATTEN, dense(**STANDARD, b_std=None), RELU,
                                      dense(**STANDARD)]),
    "zero padding": ((5, 4, 2), [conv(W_rate=0), RELU, conv(b_rate=0.5), RELU, conv(), RELU, GAP,
                                 dense(**FROZEN)]),
    "circular": ((4, 5, 2), [conv(padding="CIRCULAR", **STANDARD), RELU,
                             conv(2, 3, "CIRCULAR", b_grad=1.5), RELU, GAP]),
    "strides, valid": ((6, 5, 1), [conv(3, 2, "VALID", strides=[2, 1], W_rate=2.0), ERF,
                                   conv(1, 1, b_rate=0, width=9), RELU, FLATTEN,
                                   dense(**STANDARD)]),
    "large windows": ((5, 5, 1), [conv(7, 7, b_grad=1.0), RELU, conv(2, 6, W_rate=0.1), RELU,
                                  GAP]),
    "local": ((4, 4, 1), [conv(width=3), RELU, conv(**STANDARD, layer="ConvLocal"), RELU,
                          conv(2, 2, **STANDARD), RELU, GAP]),
    "sums": ((4, 4, 1), [conv(**STANDARD), residual(RELU, conv(**STANDARD), shortcut=[]),
                         residual(RELU, conv(**STANDARD), shortcut=[conv(1, 1, **STANDARD)]),
                         RELU, GAP]),
    "pools": ((6, 4, 1), [conv(**FROZEN), RELU, pool(2, 2), conv(b_grad=2.0), RELU, pool(3, 1),
                          conv(1, 1, W_rate=0.5), GAP]),
    "no activation, norm": ((3, 4, 2), [conv(W_rate=0.5), {"layer": "LayerNorm"}, RELU,
                                        conv(W_rate=0.5), conv(b_rate=0.5), GAP]),
    "a local pool": ((4, 3, 1), [conv(**STANDARD), RELU,
                                 {"layer": "AvgPool", "window_shape": [5, 5], "padding": "SAME"},
                                 FLATTEN, dense(**STANDARD)]),
    "no weights": ((3, 3, 1), [conv(**STANDARD), RELU, conv(**STANDARD, W_std=0), RELU, FLATTEN,
                               dense()]),
}  # fmt: skip


def tiles(layers: list[dict], shape: tuple[int, ...] = (4, 4, 2), **job: Any) -> dict:
    """Kernels of some inputs with themselves by the dense reference."""
    x = open_source(np.random.default_rng(2).standard_normal((3, *shape)))
    made = Job(network=load(shape, *layers), x1=x, x2=None, kernels=("nngp", "ntk"), **job)
    return reference.ReferenceEvaluator(made).tile(range(3), range(3), True)


@pytest.mark.parametrize("name", PEER)
def test_neural_tangents_in_the_standard_parameterization(name: str) -> None:
    """Values of neural-tangents 0.6.5 (golden_trained/README.md)."""
    (x1, x2), (_, _, kernel_fn) = PEER[name]
    # Where only equal pixels are needed, the peer's NTK is off by up to 1.4e-9 of itself computed
    # with all pairs of pixels; the dense reference agrees with the engine to 1e-15.
    tolerance = 3e-9 if name.startswith("conv") and "Flatten" in name else 1e-10
    for second, suffix in ((x2, ""), (None, "_11")):
        found = kernel_fn(x1, second, ("nngp", "ntk"))
        wanted = {key: GOLDEN[f"{name}/{key}{suffix}"] for key in ("nngp", "ntk")}
        assert_equal(found._asdict(), wanted, tolerance)
    network = kernel_fn.network(x1.shape[1:])
    job = Job(network=network, x1=open_source(x1), x2=open_source(x2), kernels=("nngp", "ntk"))
    dense_form = reference.ReferenceEvaluator(job).tile(range(len(x1)), range(len(x2)), False)
    # some roundings of float64 per layer and pixel
    assert_equal(dense_form, kernel_fn(x1, x2, ("nngp", "ntk"))._asdict(), 1e-13)


@pytest.mark.parametrize("name", [name for name in PEER if "b_std 0.3, s (2, 3)" in name])
def test_neural_tangents_in_single_precision(name: str) -> None:
    inputs, (_, _, kernel_fn) = PEER[name]
    found = kernel_fn(*(x.astype(np.float32) for x in inputs), ("nngp", "ntk"))
    # the promise of float32
    assert_equal(found._asdict(), {k: GOLDEN[f"{name}/{k}"] for k in ("nngp", "ntk")}, 1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    cpu_agrees(*CASES[name], dtype)


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    generated_agrees(*CASES[name])


def test_a_frozen_last_layer_is_ntk_minus_nngp() -> None:
    body = [conv(), RELU, conv(), RELU, GAP]
    trained, frozen = tiles([*body, dense()]), tiles([*body, dense(**FROZEN)])
    # one subtraction of numbers of order 1
    np.testing.assert_allclose(frozen["ntk"], trained["ntk"] - trained["nngp"], rtol=1e-13)
    np.testing.assert_array_equal(frozen["nngp"], trained["nngp"])


def test_contributions_add_up() -> None:
    """T is the sum of what it is where one layer alone is trained."""
    layers = [conv(), RELU, conv(), ERF, conv(), RELU, FLATTEN, dense()]
    weighted = [n for n, layer in enumerate(layers) if "W_std" in layer]

    def frozen(*those: int) -> list[dict]:
        return [{**layer, **FROZEN} if n in those else layer for n, layer in enumerate(layers)]

    alone = [tiles(frozen(*(set(weighted) - {n})))["ntk"] for n in weighted]
    # sums of four numbers of order 1
    np.testing.assert_allclose(sum(alone), tiles(layers)["ntk"], rtol=1e-13)
    assert not tiles(frozen(*weighted))["ntk"].any()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_network_without_trained_layers(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    network = {"input_shape": [4], "layers": [dense(**FROZEN), ERF, dense(**FROZEN)]}
    found = widegram.kernel(network, x, dtype=dtype)
    assert found.ntk.dtype == dtype
    assert not found.ntk.any()


def test_networks_without_the_parameters_are_the_same() -> None:
    plain = load((4,), dense(), RELU, dense(width=64, s=[2, 2], parameterization="NTK"))
    spelt = dense(W_rate=1, b_rate=1.0, b_grad=None, width=None, s=[1, 1])
    assert plain == load((4,), dense(), RELU, spelt)
    written = {"layer": "Dense", "W_std": 1.2, "b_std": 0.1}
    assert plain.canonical()["layers"] == [written, {"layer": "Relu"}, written]
    # of the version before there were such parameters
    before = "6bfa4db87031a291ef4a5d115b3df5f1d700aeb9c05aa1d407f311a3170509ad"
    assert plain.fingerprint() == before


def test_networks_with_them_go_through_json() -> None:
    network = load(
        (4, 4, 2), conv(**STANDARD, s=[1, 2], b_std=None), RELU, conv(b_grad=1.0, width=8), RELU,
        FLATTEN, dense(**STANDARD, **FROZEN),
    )  # fmt: skip
    assert load_network(network.to_json()) == network
    first, _, second, *_ = network.canonical()["layers"]
    assert (first["b_std"], first["s"], second["width"]) == (None, [1, 2], 8)
    other = load_network(network.to_json().replace('"width": 8', '"width": 9'))
    assert other.fingerprint() != network.fingerprint()


def test_a_width_may_differ_from_repeat_to_repeat() -> None:
    """The first repetition sees the input's channels."""
    shape, body = (3,), [dense(**STANDARD), RELU]
    repeat = {"layer": "Repeat", "times": 3, "body": body}
    found, wanted = tiles([repeat, dense()], shape), tiles([*body * 3, dense()], shape)
    np.testing.assert_array_equal(found["ntk"], wanted["ntk"])
    operations = [node.operation for node in build(load(shape, repeat, dense())).nodes]
    weights = [o.contribution.weights for o in operations if getattr(o, "contribution", None)]
    assert weights == [3, 16, 16]


def test_heads_of_readouts() -> None:
    body = [conv(**STANDARD), RELU]
    heads = {"a": [FLATTEN, dense(**STANDARD)], "b": [GAP, dense(**FROZEN, width=5)]}
    x = np.random.default_rng(2).standard_normal((3, 4, 4, 2))
    whole = load((4, 4, 2), *body, {"layer": "Readouts", "heads": heads})
    job = Job(network=whole, x1=open_source(x), x2=None, kernels=("ntk",), dtype="float64")
    with CpuEvaluator(job) as evaluator:
        found = evaluator.tile(range(3), range(3), True)
    for name, head in heads.items():
        wanted = tiles([*body, *head])["ntk"]
        assert_equal({"ntk": found[f"head/{name}/ntk"]}, {"ntk": wanted}, 1e-10)  # the promise
    plain = {name: [FLATTEN, dense(width=7)] for name in heads}
    dropped = load((4, 4, 2), conv(), {"layer": "Readouts", "heads": plain})
    assert "width" not in dropped.to_json()


BAD = [
    ([dense(parameterization="mup")], r"layers\[0\] Dense: parameterization must be ntk or stand"),
    ([dense(parameterization=1)], r"layers\[0\] Dense: parameterization must be ntk or standard"),
    ([dense(parameterization="standard")], r"layers\[0\] Dense: parameter 'width' is missing"),
    ([dense(**STANDARD, s=[0, 1])], r"layers\[0\] Dense: s must be two integers >= 1"),
    ([dense(**STANDARD, s=[1])], r"layers\[0\] Dense: s must be two integers >= 1"),
    ([dense(**STANDARD, s=2)], r"layers\[0\] Dense: s must be two integers >= 1"),
    ([dense(**STANDARD, s=[1, 1.5])], r"layers\[0\] Dense: s must be two integers >= 1"),
    ([dense(width=0)], r"layers\[0\] Dense: width must be an integer from 1 to 2,147,483,648"),
    ([dense(width=2.0)], r"layers\[0\] Dense: width must be an integer from 1"),
    ([dense(W_rate=-1)], r"layers\[0\] Dense: W_rate must be >= 0, found -1"),
    ([dense(), RELU, dense(b_rate=-0.5)], r"layers\[2\] Dense: b_rate must be >= 0, found -0.5"),
    ([dense(b_grad=float("nan"))], r"layers\[0\] Dense: b_grad must be finite"),
    ([dense(b_grad="1")], r"layers\[0\] Dense: b_grad must be a number"),
    ([dense(b_grad=1, b_rate=0)], r"layers\[0\] Dense: b_grad sets what b_rate multiplies"),
    ([dense(W_rates=1)], r"unknown parameter 'W_rates', did you mean 'W_rate'\?"),
    (
        [dense(), RELU, dense(**STANDARD)],
        r"layers\[2\] Dense: parameterization 'standard' .* add 'width' to layers\[0\] Dense",
    ),
    (
        [dense(width=4), residual(dense(**STANDARD))],
        r"layers\[1\] Residual: the branch ends with 16 channels, the shortcut with 4; give both",
    ),
]


@pytest.mark.parametrize(("layers", "message"), BAD)
def test_bad_values_end_in_one_line(layers: list[dict], message: str) -> None:
    with pytest.raises(WidegramError, match=message) as error:
        load((4,), *layers)
    assert "\n" not in str(error.value)


def test_the_command_line_refuses_them() -> None:
    network = json.dumps({"input_shape": [4], "layers": [dense(W_rate=-1)]})
    result = CliRunner().invoke(program, ["net", network])
    assert result.exit_code == 2
    assert "layers[0] Dense: W_rate must be >= 0, found -1" in result.stderr
    assert result.stderr.count("\n") == 1


def test_net_prints_them() -> None:
    network = {"input_shape": [4], "layers": [
        dense(**STANDARD, b_std=None), RELU, dense(**FROZEN), RELU, dense(b_grad=0.5)]}  # fmt: skip
    result = CliRunner().invoke(program, ["net", json.dumps(network)])
    assert result.exit_code == 0, result.stderr
    assert "parameterization standard, width 16, W_std 1.2, b_std none" in result.stdout
    assert "W_rate 0, b_rate 0" in result.stdout
    assert "window 1x1 contribution relu, window 1x1 frozen relu" in result.stdout


PRESETS = [
    ("fcn:depth=4,fixed_first=2,fixed_last=1", [0, 0, 1, 1, 0]),
    ("cnn-p:depth=2,fixed_first=1,fixed_last=1", [0, 1, 0]),
    ("wide-resnet:depth=10,fixed_first=1,fixed_last=1", [0, *[1] * 9, 0]),
]


@pytest.mark.parametrize(("text", "rates"), PRESETS)
def test_presets_fix_the_first_and_the_last_layers(text: str, rates: list[int]) -> None:
    def found(layers: Any) -> list[float]:
        out = []
        for layer in layers:
            for inner in ("branch", "shortcut", "body"):
                out += found(layer.get(inner, []))
            if "W_std" in layer:
                assert layer.get("W_rate", 1.0) == layer.get("b_rate", 1.0)
                out.append(layer.get("W_rate", 1.0))
        return out

    network = preset(text, (8, 8, 3)).unrolled()
    assert found(network.canonical()["layers"]) == rates
    plain = preset(text.split(",", 1)[0], (8, 8, 3))
    shapes = [shape for _, _, shape in network.shapes()]
    assert shapes == [shape for _, _, shape in plain.unrolled().shapes()]


def test_presets_that_leave_nothing_to_train() -> None:
    with pytest.raises(WidegramError, match=r"fixed_last leave none of its 4 layers .* to train"):
        preset("fcn:depth=3,fixed_first=2,fixed_last=2", (4,))
    with pytest.raises(WidegramError, match="fixed_first must be >= 0, found -1"):
        preset("fcn:depth=3,fixed_first=-1", (4,))
    layers = preset("fcn:depth=2,parameterization=standard,width=64,b_grad=1", (4,)).canonical()
    assert layers["layers"][-1] == {
        "layer": "Dense", "parameterization": "standard", "width": 64, "b_grad": 1.0,
        "W_std": np.sqrt(2), "b_std": 0.0,
    }  # fmt: skip


class TestMeanField:
    x, none = np.random.default_rng(4).standard_normal((4, 6)), np.empty(0)
    problem = Problem(x, none, none, np.empty((0, 6)), none, "")

    def network(self, **more: Any) -> Any:
        repeat = {"layer": "Repeat", "times": 1, "body": [dense(**more), ERF]}
        return load((6,), repeat, dense())

    @pytest.mark.parametrize("more", [{"W_rate": 0.5}, {"b_grad": 1.0}, STANDARD])
    def test_is_refused_by_name(self, more: dict) -> None:
        name = next(iter(more))
        with pytest.raises(WidegramError, match=f"Dense with '{name}' has no mean field theory"):
            spectrum(self.network(**more), self.problem, [1, 2], method="deviations")

    def test_is_measured_without_predictions(self) -> None:
        found = spectrum(self.network(W_rate=0.5), self.problem, [2])
        assert (found.method, found.setting, found.predicted) == ("engine", None, {})


class TestRange:
    """T may leave the range of numbers where K does not."""

    x = np.random.default_rng(5).standard_normal((3, 4))

    def kernel(self, dtype: str, *layers: dict) -> Any:
        return widegram.kernel({"input_shape": [4], "layers": list(layers)}, self.x, dtype=dtype)

    def test_a_large_rate_is_refused_where_it_overflows(self) -> None:
        layers = dense(W_rate=1e60), RELU, dense(W_std=1e-15)
        with pytest.raises(WidegramError, match="overflow"):
            self.kernel("float32", *layers)
        assert np.isfinite(self.kernel("float64", *layers).ntk).all()

    def test_a_small_rate_is_refused_where_it_underflows(self) -> None:
        layers = dense(W_rate=1e-50, b_rate=0), RELU, dense(W_std=1e15, **FROZEN, b_std=0)
        with pytest.raises(WidegramError, match="underflow"):
            self.kernel("float32", *layers)
        assert self.kernel("float64", *layers).ntk.all()

    def test_a_constant_far_above_shrinking_variances(self) -> None:
        """Biases of no variance that are trained: K is 4^-100, T of order 1."""
        layers = [{"layer": "Dense", "W_std": 0.7, "b_std": 0.0, "b_grad": 1.0}, RELU] * 100
        found = self.kernel("float64", *layers, {"layer": "Dense", "W_std": 1.0})
        job = Job(
            network=load((4,), *layers, {"layer": "Dense", "W_std": 1.0}),
            x1=open_source(self.x), x2=None, kernels=("nngp", "ntk"),
        )  # fmt: skip
        wanted = reference.ReferenceEvaluator(job).tile(range(3), range(3), True)
        assert_equal(found._asdict(), wanted, 1e-10)  # the promise of float64
        with pytest.raises(WidegramError, match="overflow"):
            self.kernel("float32", *layers, {"layer": "Dense", "W_std": 1.0})


def test_predictions_use_them() -> None:
    """A network of frozen ends is trained as its kernel says: the labels are met."""
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 1))
    layers = [dense(**FROZEN), RELU, dense(**STANDARD), RELU, dense(**FROZEN)]
    layers[0]["width"] = 12
    kernel_fn = stax.serial(
        stax.Dense(12, 1.2, 0.1, W_rate=0, b_rate=0), stax.Relu(),
        stax.Dense(16, 1.2, 0.1, parameterization="standard"), stax.Relu(),
        stax.Dense(1, 1.2, 0.1, W_rate=0, b_rate=0),
    )[2]  # fmt: skip
    assert kernel_fn.network((4,)).canonical()["layers"][0]["W_rate"] == 0
    theta = kernel_fn(x, None, "ntk")
    np.testing.assert_array_equal(
        theta, widegram.kernel({"input_shape": [4], "layers": layers}, x, get="ntk")
    )
    predict_fn = widegram.predict.gradient_descent_mse_ensemble(kernel_fn, x, y)
    # a system of six equations of condition below 1e4
    np.testing.assert_allclose(predict_fn(x_test=x, get="ntk"), y, rtol=1e-9)
