"""Inputs, layers, parameters and axes that are not those of channels-last images, against
neural-tangents, the reference, and on every backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import front_examples
from agreement import PROMISED, cpu_agrees, generated_agrees
from cli_support import run
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, POOL, RELU, load, residual
from widegram import kernel, reference, stax
from widegram.errors import WidegramError
from widegram.meanfield.recursion import one_norm, unequal_norms
from widegram.network import Network, load_network
from widegram.stax.axes import arranged
from widegram.stax.branches import close

GOLDEN = Path(__file__).parent / "golden_front" / "values.npz"
ERF = {"layer": "Erf"}
Case = tuple[tuple[int, ...], list[dict[str, Any]]]


def normed(eps: float, axis: Any = -1) -> dict[str, Any]:
    return {**NORM, "eps": eps, "axis": axis}


SMALL = {**DENSE, "W_std": 1e-60}


def edges(rows: int, cols: int, strides: Any = (1, 1), padding: str = "SAME") -> dict[str, Any]:
    return {
        "layer": "AvgPool", "window_shape": [rows, cols], "strides": list(strides),
        "padding": padding, "normalize_edges": True,
    }  # fmt: skip




def conv1(size: int, padding: str = "SAME", stride: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": [size], "padding": padding, "strides": [stride],
        "W_std": 1.3, "b_std": 0.2, **more,
    }  # fmt: skip


def pool1(size: int, **more: Any) -> dict[str, Any]:
    return {"layer": "AvgPool", "window_shape": [size], "strides": [2], **more}




def index(*idx: Any) -> dict[str, Any]:
    return {"layer": "Index", "idx": list(idx)}


CASES: dict[str, Case] = {
    "index": ((6, 7, 2), [CONV, RELU, index(":", "1:5", "::2"), CONV, RELU, index("...", "1:", ":"),
              CONV, ERF, GAP, DENSE]),
    "index, one row": ((5, 6, 1), [CONV, RELU, index(":", 2), conv1(3, "CIRCULAR"), RELU,
                       index(":", "-3:"), conv1(2), RELU, FLATTEN, DENSE]),
    "index, one column": ((5, 6, 1), [CONV, index(":", "1:", -1), normed(0.1, [1, 2]), RELU,
                          conv1(3, stride=2), RELU, GAP]),
    "index, one pixel": ((3, 4, 2), [CONV, RELU, CONV, index(":", 1, 1), RELU, DENSE]),
    "index, branches": ((4, 6, 1), [CONV, residual(RELU, CONV, index(":", ":", "1:4"),
                        shortcut=[index(":", ":", "::2")]), RELU, GAP]),
    "index, of the input": ((5, 6, 3), [index(":", "1:4", "2:"), CONV, RELU, FLATTEN]),
    "sequence": ((9, 2), [conv1(3), RELU, conv1(4, "CIRCULAR"), normed(0.1, [1, 2]), ERF,
                 conv1(3, "VALID", 2), RELU, GAP, DENSE]),
    "sequence, pools": ((10, 1), [conv1(3), RELU, pool1(2), conv1(3, layer="ConvLocal"), RELU,
                        conv1(2), pool1(3, padding="SAME", normalize_edges=True), RELU,
                        conv1(1), FLATTEN, DENSE, normed(1e-12, 1), RELU, DENSE]),
    "sequence, branches": ((8, 3), [conv1(1), residual(RELU, conv1(3, stride=2),
                           shortcut=[pool1(2)]), RELU, GAP]),
    "sequence of one": ((1, 4), [conv1(3), RELU, conv1(1, "CIRCULAR"), RELU, GAP]),
    "sequence, flattened": ((4, 3), [FLATTEN, DENSE, RELU, DENSE]),
    "edges": ((4, 5, 2), [CONV, RELU, edges(3, 2), CONV, ERF, edges(2, 3, (2, 2)), CONV, GAP]),
    "edges at the end": ((5, 4, 1), [CONV, RELU, edges(9, 3, (1, 2)), FLATTEN, DENSE]),
    "edges in a branch": ((4, 4, 1), [CONV, residual(RELU, edges(3, 3), CONV), RELU, GAP]),
    "edges that are norms' inputs": ((4, 5, 1), [CONV, edges(3, 3), normed(0.2, [1, 3]), RELU,
                                     CONV, RELU, GAP]),
    "eps": ((6,), [DENSE, normed(0.3), RELU, DENSE]),
    "eps of an image": ((4, 3, 2), [CONV, normed(0.1, [1, 2, 3]), ERF, CONV, RELU, GAP]),
    "eps behind a pool": ((4, 5, 1), [CONV, POOL, normed(2.0, [2, 3]), RELU, CONV, FLATTEN]),
    "eps of another order": ((4, 3, 2), [SMALL, CONV, RELU, CONV, normed(1e-121), RELU, CONV, GAP]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    cpu_agrees(*CASES[name], dtype)


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    generated_agrees(*CASES[name])


@pytest.mark.parametrize("family", front_examples.FAMILIES)
def test_meets_neural_tangents(family: str) -> None:
    """Values of neural-tangents 0.6.5 (golden_front/README.md)."""
    golden = np.load(GOLDEN)
    found = front_examples.run(stax, [family])
    assert sorted(found) == [name for name in sorted(golden) if name.startswith(f"{family}/")]
    for name, value in found.items():
        wanted = golden[name]
        # Double precision on both sides; neural-tangents takes acos of covariances near their
        # variance, which turns 1e-16 of rounding into 1e-8 of an angle, times it in K.
        np.testing.assert_allclose(
            value, wanted, rtol=0, atol=1e-10 * abs(wanted).max(), err_msg=name
        )


@pytest.mark.parametrize("family", front_examples.FAMILIES)
def test_reference_meets_neural_tangents(family: str) -> None:
    golden = np.load(GOLDEN)
    for name, (_, _, kernel_fn), first, second in front_examples.FAMILIES[family](stax):
        items, entrance, _ = arranged(kernel_fn.items, len(first))
        x1 = entrance.through(front_examples.inputs(name, 0, first))
        x2 = entrance.through(front_examples.inputs(name, 1, second))
        found = reference.kernel(Network(x1.shape[1:], close(items)), x1, x2)
        for name_of_kernel in ("nngp", "ntk"):
            # both in float64, up to eight layers
            np.testing.assert_allclose(
                getattr(found, name_of_kernel), golden[f"{family}/{name}/{name_of_kernel}"],
                rtol=1e-10,
            )


class TestNetworksOfBefore:
    def test_a_default_is_not_written(self) -> None:
        plain = load((6,), DENSE, NORM)
        assert plain == load((6,), DENSE, normed(1e-12))
        assert plain.canonical()["layers"][1] == {"layer": "LayerNorm", "axis": [-1]}
        # of a network written before LayerNorm had an eps
        assert plain.fingerprint() == (
            "2e384f82b2698079ce2be4da0d65f304a2c0aa09308408e85b1311e478e399e0"
        )

    def test_another_value_is(self) -> None:
        network = load((6,), DENSE, normed(0.25))
        assert network.canonical()["layers"][1]["eps"] == 0.25
        assert Network(network.input_shape, network.layers) == network
        assert network.fingerprint() != load((6,), DENSE, NORM).fingerprint()


class TestSequences:
    def test_they_are_images_of_one_row(self) -> None:
        x = np.random.default_rng(5).standard_normal((4, 9, 2))
        layers = CASES["sequence"][1][:3]
        found = kernel(load((9, 2), *layers, GAP), x)
        rows = [
            {**layer, "filter_shape": [1, *layer["filter_shape"]], "strides": [1, 1]}
            if "filter_shape" in layer else layer for layer in layers
        ]  # fmt: skip
        wanted = kernel(load((1, 9, 2), *rows, GAP), x[:, None])
        for value, other in zip(found, wanted, strict=True):
            assert np.array_equal(value, other)

    def test_every_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(6)
        spec = {"input_shape": [9, 2], "layers": [conv1(3), RELU, GAP, DENSE]}
        (tmp_path / "net.json").write_text(json.dumps(spec))
        np.save(tmp_path / "x.npy", rng.standard_normal((12, 9, 2)))
        np.save(tmp_path / "y.npy", rng.standard_normal((12, 2)))
        monkeypatch.chdir(tmp_path)
        for command in (
            "net net.json", "gram --net net.json --x x.npy --out K.h5", "verify K.h5",
            "gram --net net.json --x x.npy --x2 x.npy --out C.h5", "eig K.h5 --kernel ntk",
            "solve K.h5 --kernel ntk --y y.npy --out A.h5", "predict A.h5 --cross C.h5",
        ):  # fmt: skip
            result = run(*command.split())
            assert result.exit_code == 0, result.output

    def test_no_recursion_in_deviations(self) -> None:
        body = {"layer": "Repeat", "times": 2, "body": [conv1(3, "CIRCULAR"), ERF]}
        network = load((8, 2), body, GAP, DENSE)
        for module in (one_norm, unequal_norms):
            assert "sequences have no recursion" in str(module.refusal(network))
        flat = load((8, 2), FLATTEN, {**body, "body": [DENSE, ERF]}, DENSE)
        assert one_norm.refusal(flat) is None


class TestAxes:
    def test_as_data_channels_are_last(self) -> None:
        nchw = ("NCHW", "OIHW", "NCHW")
        kernel_fn = stax.serial(
            stax.Conv(1, (3, 2), (1, 2), dimension_numbers=nchw), stax.Relu(),
            stax.AvgPool((2, 1), channel_axis=1), stax.GlobalAvgPool(channel_axis=1),
        )[2]  # fmt: skip
        with pytest.raises(WidegramError, match=r"transpose the inputs \(axes \(0, 2, 3, 1\)\)"):
            kernel_fn.network((8, 8, 8))
        with pytest.raises(WidegramError, match="channels last"):
            load_network(kernel_fn, (8, 8, 8))
        network = kernel_fn.network((6, 5, 3), channels_last=True)
        conv = {**CONV, "filter_shape": [3, 2], "strides": [1, 2], "padding": "VALID"}
        assert network == load((6, 5, 3), conv, RELU, {**POOL, "window_shape": [2, 1]}, GAP)

    def test_axes_that_do_not_fit(self) -> None:
        first = stax.Conv(1, (3, 3), dimension_numbers=("NCHW", "OIHW", "NCHW"))
        for message, layer in (
            ("GlobalAvgPool: takes batch_axis=0, channel_axis=3, but its input has "
             "the batch on axis 0, channels on axis 1", stax.GlobalAvgPool()),
            ("stax.AvgPool: takes batch_axis=1, ", stax.AvgPool((2, 2), batch_axis=1)),
            ("stax.Flatten: takes batch_axis=2, but", stax.Flatten(2)),
            ("LayerNorm channel_axis=4 does not exist in an array of 4 axes",
             stax.LayerNorm(channel_axis=4)),
            ("stax.Conv: takes .*, channel_axis=3", stax.Conv(1, (3, 3))),
            ("stax.Index: the batch is kept, .*; found 0", stax.Index(0, channel_axis=1)),
        ):  # fmt: skip
            with pytest.raises(WidegramError, match=message) as caught:
                stax.serial(first, layer)[2](np.ones((2, 3, 8, 8)))
            assert "\n" not in str(caught.value)

    def test_branches_that_end_on_different_axes(self) -> None:
        turned = stax.Conv(1, (1, 1), dimension_numbers=("NHWC", "HWIO", "NWHC"))
        network = stax.serial(
            stax.Dense(1), stax.FanOut(2), stax.parallel(turned, stax.Identity()), stax.FanInSum()
        )
        with pytest.raises(WidegramError, match=r"its branches have .* different axes"):
            network[2](np.ones((2, 4, 4, 1)))

    @pytest.mark.parametrize(
        ("message", "call"),
        [
            ("Dense: batch_axis must be an integer", lambda: stax.Dense(1, batch_axis="N")),
            ("SumPool: channel_axis must be", lambda: stax.SumPool((2, 2), channel_axis=None)),
            ("Conv: dimension_numbers must be three texts",
             lambda: stax.Conv(1, (3, 3), dimension_numbers=("NCHW",))),
            ("Conv: dimension_numbers .* do not fit together",
             lambda: stax.Conv(1, (3, 3), dimension_numbers=("NCHW", "OIHD", "NCHW"))),
            ("Flatten: batch_axis_out must be 0 or 1, found 2", lambda: stax.Flatten(0, 2)),
            ("Index: idx must have steps >= 1", lambda: stax.Index(stax.Slice[:, ::-1])),
            ("Index: idx must be integers, slices", lambda: stax.Index(stax.Slice[:, None])),
        ],
    )  # fmt: skip
    def test_refused_arguments(self, message: str, call: Any) -> None:
        with pytest.raises(WidegramError, match=message):
            call()

    def test_repeats_follow_axes(self) -> None:
        turned = stax.serial(
            stax.Conv(1, (3, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NWHC")),
            stax.Relu(),
        )
        x = np.random.default_rng(2).standard_normal((3, 4, 5, 2))
        found, wanted = (
            stax.serial(layers, stax.GlobalAvgPool())[2](x, None, "ntk")
            for layers in (stax.repeat(turned, 3), stax.serial(turned, turned, turned))
        )
        assert np.array_equal(found, wanted)

    def test_a_kernel_goes_on(self) -> None:
        first = stax.serial(stax.Dense(1, batch_axis=1, channel_axis=0), stax.Relu())
        more = stax.Dense(1, batch_axis=1, channel_axis=0)
        x = np.random.default_rng(2).standard_normal((3, 4))
        assert np.array_equal(
            more[2](first[2](x), get="nngp"), stax.serial(first, more)[2](x, None, "nngp")
        )


@pytest.mark.parametrize("make", [
    lambda: stax.Conv(1, (3, 3, 3)),
    lambda: stax.ConvLocal(1, (3, 3, 3)),
    lambda: stax.ConvTranspose(1, (3, 3, 3)),
    lambda: stax.AvgPool((2, 2, 2)),
    lambda: stax.SumPool((2, 2, 2)),
    lambda: stax.Conv(1, (3, 3, 3), dimension_numbers=("NDHWC", "DHWIO", "NDHWC")),
], ids=["Conv", "ConvLocal", "ConvTranspose", "AvgPool", "SumPool", "numbers"])  # fmt: skip
def test_layers_of_volumes_are_refused_by_name(make: Any) -> None:
    with pytest.raises(WidegramError, match=r"^stax\.\w+: .* is for 3-dimensional inputs") as error:
        make()
    assert "\n" not in str(error.value)


def test_volumes_are_refused_by_their_shape() -> None:
    kernel_fn = stax.serial(stax.Dense(1), stax.Flatten())[2]
    with pytest.raises(WidegramError, match=r"x1 has shape \(2, 2, 2, 2, 1\); it must be"):
        kernel_fn(np.ones((2, 2, 2, 2, 1)))
    with pytest.raises(WidegramError, match=r"volumes .* are not supported"):
        kernel_fn.network((2, 2, 2, 1))
