"""Layers that map pixels to pixels, K -> A K A'^T: ConvTranspose, ImageResize, DotGeneral."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import map_examples
import strategies
from agreement import PROMISED, cpu_agrees
from cuda_support import assert_equal
from jobs import job
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, POOL, RELU, load, residual
from strategies import settings_of
from test_cpu_properties import kernels, scale
from vocabulary import MAPPED
from widegram import WidegramError, reference, stax
from widegram.computing.devices import device_for
from widegram.cpu import CpuEvaluator
from widegram.cuda import trial
from widegram.cuda.source import source_of
from widegram.network import Network, load_network, maps
from widegram.plan import build
from widegram.plan.masks import displacements

GOLDEN = np.load(Path(__file__).parent / "golden_maps" / "values.npz")
ERF = {"layer": "Erf"}


def transpose(window: Any, strides: Any, padding: str = "SAME", **more: Any) -> dict[str, Any]:
    return {
        "layer": "ConvTranspose", "filter_shape": list(window), "strides": list(strides),
        "padding": padding, "W_std": 1.3, "b_std": 0.2, **more,
    }  # fmt: skip


def resize(*shape: int, method: str = "linear", **more: Any) -> dict[str, Any]:
    return {"layer": "ImageResize", "shape": [-1, *shape, -1], "method": method, **more}


def dot(numbers: Any = (((), ()), ((), ())), **array: Any) -> dict[str, Any]:
    return {"layer": "DotGeneral", "dimension_numbers": numbers, **array}


def signs(*shape: int) -> Any:
    return np.random.default_rng(2).standard_normal(shape).round(2).tolist()


ROWS = (((1,), (1,)), ((), ()))
CASES: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "resized first": ((4, 5, 2), [resize(6, 3), DENSE, RELU, GAP]),
    "resized, flat": ((4, 4, 2), [CONV, RELU, resize(6, -1, method="nearest"), CONV, RELU, FLATTEN,
                      DENSE]),
    "resized, a norm": ((4, 4, 2), [CONV, resize(3, 3), NORM, RELU, GAP]),
    "torus": ((3, 3, 2), [transpose((3, 3), (2, 2), "CIRCULAR"), RELU, transpose((3, 2), (1, 1),
              "CIRCULAR"), RELU, FLATTEN]),
    "strides above windows": ((3, 3, 2), [transpose((2, 2), (3, 3)), RELU, CONV, RELU, GAP]),
    "numbers": ((3, 3, 2), [CONV, dot(rhs=-2.0), RELU, dot(lhs=0.5), dot(), GAP, dot(rhs=3), DENSE,
                RELU]),
    "all to all": ((3, 4, 2), [CONV, RELU, dot((((2, 3), (1, 2)), ((), ())), lhs=signs(2, 3, 3, 4)),
                   {**CONV, "W_std": 0.2}, ERF, GAP]),
    "side by side": ((3, 4, 2), [CONV, RELU, dot((((2,), (2,)), ((0,), (1,))), lhs=signs(3, 5, 4)),
                     CONV, RELU, FLATTEN]),
    "sequence": ((6, 2), [transpose((3,), (2,)), RELU, resize(5), {**CONV, "filter_shape": [3]},
                 RELU, GAP]),
    "branches": ((4, 4, 2), [CONV, residual(RELU, resize(6, 6), CONV,
                 shortcut=[resize(6, 6, method="nearest")]), RELU, GAP]),
    "chained": ((6, 6, 2), [CONV, RELU, POOL, resize(4, 4), resize(3, 5, method="nearest"), CONV,
                RELU, POOL, GAP]),
    "repeated": ((2, 2, 1), [{"layer": "Repeat", "times": 2, "body": [transpose((2, 2), (2, 2)),
                 RELU]}, GAP]),
    "a sum that cancels": ((3, 3, 1), [CONV, dot(ROWS, lhs=[[1, -1, 0], [0, 0, 0]]), CONV, RELU,
                           GAP]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    cpu_agrees(*CASES[name], dtype)


@pytest.mark.parametrize("family", map_examples.FAMILIES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_neural_tangents_is_met(
    family: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of neural-tangents 0.6.5 (golden_maps/README.md)."""
    plain = map_examples.inputs
    monkeypatch.setattr(map_examples, "inputs", lambda *of: plain(*of).astype(dtype))
    for name, found in map_examples.run(stax, [family]).items():
        assert found.dtype == dtype
        assert_equal({name: found}, {name: GOLDEN[name]}, PROMISED[dtype])


@given(data=st.data())
@settings_of(12)
def test_random_networks(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(MAPPED, False, 3, 4))
    x = data.draw(strategies.inputs(network, most=4))
    found, wanted = kernels(network, x), reference.kernel(network, x)
    for kernel in ("nngp", "ntk"):
        dense = getattr(wanted, kernel)
        # kinks make the root of a rounding of pixels that nearly coincide
        np.testing.assert_allclose(found[kernel], dense, atol=1e-7 * scale(dense), rtol=0)


def test_only_what_is_read_is_made() -> None:
    """In front of Flatten a window of three reads neighbours in the image that is stretched, and
    those are pixels or their neighbours in the one before."""
    plan = build(load((4, 4, 1), CONV, RELU, transpose((3, 3), (2, 2)), RELU, FLATTEN))
    operations = [type(node.operation).__name__ for node in plan.nodes]
    of = {name: plan.cross.masks[operations.index(name)] for name in ("Map", "Copy")}
    assert [displacements(mask).tolist() for mask in of.values()] == [[[0, 0]]] * 2
    plan = build(load((4, 6, 1), CONV, RELU, resize(8, -1), FLATTEN))
    copy = displacements(plan.cross.masks[2])
    assert abs(copy[:, 0]).max() == 1
    assert abs(copy[:, 1]).max() == 0


def test_entries_of_bands_are_few() -> None:
    plan = build(load((8, 8, 1), CONV, RELU, resize(16, 16), GAP))
    (operation,) = [n.operation for n in plan.nodes if n.operation.at_once]
    # two by two pixels each, one by one at corners; all would be 16,384
    assert len(operation.entries((8, 8)).values) == (2 * 16 - 2) ** 2


def test_threads_and_tiles_make_the_same_bits() -> None:
    network = load((4, 4, 2), CONV, RELU, resize(5, 5), CONV, RELU, GAP)
    x = np.random.default_rng(1).standard_normal((20, 4, 4, 2))
    one, two = (kernels(network, x, threads=n, dtype="float32") for n in (1, 2))
    part = kernels(network, x[:3], x[3:], dtype="float32")
    for kernel, value in one.items():
        assert (value == two[kernel]).all()
        assert (value[:3, 3:] == part[kernel]).all()


def test_a_network_is_written_and_read() -> None:
    network = load((4, 4, 2), CONV, transpose((3, 3), (2, 2)), resize(3, 3, method="bilinear"),
                   dot(ROWS, lhs=signs(2, 3)), dot(rhs=2), GAP)  # fmt: skip
    assert load_network(network.to_json()) == network
    assert network.shapes()[3][2] == (2, 3)


def test_an_array_comes_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(signs(2, 3)))
    layers = [CONV, dot(ROWS, lhs=str(tmp_path / "a.npy")), GAP]
    assert load((3, 3, 1), *layers) == load((3, 3, 1), CONV, dot(ROWS, lhs=signs(2, 3)), GAP)


REFUSED = {
    "sizes": (resize(0, 2), "ImageResize: shape must be a list of sizes >= 1, or -1"),
    "axes": (resize(2), "shape [-1, 2, -1] is for 1 image axes between"),
    "channels": ({**resize(2, 2), "shape": [-1, 2, 2, 3]}, "resizes the channels, which a kernel"),
    "batch": ({**resize(2, 2), "shape": [5, 2, 2, -1]}, "resizes the batch, which a kernel keeps"),
    "method": (resize(2, 2, method="cubic"), "method must be one of nearest, linear, bilinear"),
    "flag": (resize(2, 2, antialias=1), "antialias must be true or false"),
    "large": (resize(3000, 3000), "makes an image of 3000 x 3000 pixels; one has at most"),
    "window": (transpose((3,), (1,)), "filter_shape [3] does not fit an image of 4 x 4 pixels"),
    "strides": (transpose((3, 3), (0, 1)), "strides must be two integers >= 1"),
    "stretched": (transpose((3, 3), (1000, 1000)), "makes an image of 4000 x 4000 pixels"),
    "both": (dot(lhs=1, rhs=1), "takes lhs or rhs, not both"),
    "neither": (dot(ROWS), "has dimension_numbers, but neither lhs nor rhs"),
    "sizes apart": (dot(ROWS, lhs=[[1, 2, 3]]), "axis 1 of its array has 3 entries, axis 1 of its"),
    "no axis": (dot((((1,), (7,)), ((), ())), lhs=[[1, 2]]), "name the axes [7] of its input"),
    "twice": (dot((((1, 1), (1, 2)), ((), ())), lhs=signs(2, 4)), "name each at most once"),
    "over channels": (dot((((1,), (3,)), ((), ())), lhs=[[1, 2]]), "name axis 3 of its input, the"),
    "over the batch": (dot((((), ()), ((0,), (0,))), lhs=[1, 2]), "axis 0 of its input, the batch"),
    "numbers": (dot(((1,), (1,)), lhs=[1]), "dimension_numbers must be ((contracted axes of lhs"),
    "uneven": (dot((((1,), ()), ((), ())), lhs=[1]), "name as many axes of lhs as of rhs"),
    "too many axes": (dot(lhs=signs(2, 2)), "its output has 4 axes of pixels, its input 2"),
    "infinite": (dot(rhs=float("inf")), "rhs has a number that is not finite, or too large"),
    "ragged": (dot(rhs=[[1], [1, 2]]), "rhs must be a number, nested lists of numbers or a .npy"),
    "no file": (dot(rhs="nowhere.npy"), "rhs 'nowhere.npy' cannot be read as a .npy file"),
    "too large": (dot(rhs=[1.0] * 5000), "must have 1 to 4,096 numbers"),
    "a flag": (dot(rhs=True), "rhs must have 1 to 4,096 numbers on at most 8 axes, found True"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_parameters_are_refused(name: str) -> None:
    layer, message = REFUSED[name]
    with pytest.raises(WidegramError) as error:
        load((4, 4, 2), CONV, layer, GAP)
    assert message in str(error.value)
    assert str(error.value).startswith(f"layers[1] {layer['layer']}: ")
    assert "\n" not in str(error.value)


def test_an_infinite_row_of_a_kind_is_out_of_range_not_wrong() -> None:
    network = load((2, 2, 1), CONV, dot(ROWS, lhs=[[1e70, 0], [0, 1]]), DENSE, GAP)
    x = np.ones((2, 2, 2, 1))
    with pytest.raises(WidegramError, match=r"float64|range|overflow"):
        kernels(network, x, dtype="float32")


MADE_AT_ONCE = (resize(5, 5), transpose((3, 3), (2, 2)), dot(ROWS, lhs=signs(2, 4)))


@pytest.mark.parametrize("layer", MADE_AT_ONCE, ids=lambda layer: layer["layer"])
def test_cuda_is_refused_by_name(layer: dict[str, Any]) -> None:
    network = load((4, 4, 2), CONV, layer, GAP)
    with pytest.raises(WidegramError, match=rf"^layers\[1\] {layer['layer']}: has no CUDA kernels"):
        source_of(network)
    assert device_for("auto", network) == "cpu"


SEVERAL = {"layer": "FanInSum", "parallel": True, "branches": [[DENSE], [DENSE]]}


@pytest.mark.parametrize(("spec", "named"), [
    ({"input_shape": [4, 4, 2], "layers": [CONV, resize(2, 2), GAP]}, "layers[1] ImageResize"),
    ({"input_shape": [[3], [2]], "layers": [SEVERAL]},
     "layers[0] FanInSum, which joins several inputs,"),
])  # fmt: skip
def test_auto_says_why_a_card_is_not_taken(
    spec: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    network = load_network(spec)
    for works, said in ((False, []), (True, [f"{named} has no CUDA kernels"])):
        monkeypatch.setattr(trial, "first_card_works", lambda works=works: works)
        with caplog.at_level("INFO", "widegram"):
            assert device_for("auto", network) == "cpu"
        assert [r.getMessage().removeprefix("device auto means the CPU: ")
                for r in caplog.records] == said  # fmt: skip


def test_numbers_run_everywhere() -> None:
    assert source_of(load((4, 4, 2), CONV, dot(rhs=2.0), RELU, GAP)).kernels


def test_a_self_product_of_a_resized_image() -> None:
    """float32 kernels of an image with itself are those of float64."""
    network = load((4, 4, 2), CONV, RELU, resize(6, 6), CONV, RELU, GAP)
    of = job(network, np.random.default_rng(4).standard_normal((3, 4, 4, 2)), dtype="float32")
    dense = reference.ReferenceEvaluator(of).diagonal(range(3))
    with CpuEvaluator(of) as evaluator:
        own = evaluator.diagonal(range(3))
    for kernel, value in own.items():
        # float64, but for the map's weights, which are float32's
        np.testing.assert_allclose(value, dense[kernel], rtol=1e-6)


def test_geometry_of_transposed_windows() -> None:
    """Every pixel that VALID makes reads its own taps, found one by one."""
    for size in (1, 2, 5):
        for window in (1, 2, 3, 5):
            for stride in (1, 2, 3):
                made = maps.transposed(size, window, stride, "VALID")
                seen = {
                    (p, i) for p in range(made.out) for i in range(size) for t in range(window)
                    if p + t - made.lo == made.first + stride * i
                }  # fmt: skip
                assert seen == {(stride * i + t, i) for i in range(size) for t in range(window)}


def test_stax_makes_the_same_network() -> None:
    _, _, kernel_fn = stax.serial(
        stax.ConvTranspose(7, (3, 2), (2, 1), "CIRCULAR", 1.3, 0.2), stax.Relu(),
        stax.ImageResize((-1, 5, -1, -1), "bilinear", False), stax.DotGeneral(rhs=2.0),
        stax.GlobalAvgPool(),
    )  # fmt: skip
    wanted = load((6, 5, 2), transpose((3, 2), (2, 1), "CIRCULAR"), RELU,
                  resize(5, -1, method="bilinear", antialias=False), dot(rhs=2.0), GAP)  # fmt: skip
    found = kernel_fn.network((6, 5, 2))
    assert isinstance(found, Network)
    assert found == wanted


def test_a_layer_must_name_the_axes_that_a_product_leaves() -> None:
    first = stax.DotGeneral(rhs=np.ones((4, 2)), dimension_numbers=(((1,), (0,)), ((), ())))
    _, _, kernel_fn = stax.serial(first, stax.Dense(1), stax.Relu(), stax.GlobalAvgPool())
    with pytest.raises(WidegramError, match=r"stax.Dense: takes batch_axis=0, channel_axis=2, but"):
        kernel_fn(np.ones((2, 4, 3)))


def test_an_output_that_is_an_image() -> None:
    """K and T between all pixels, by the reference; of larger images than went in."""
    larger = stax.ImageResize((-1, 5, -1), "linear")
    _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), larger)
    x = np.random.default_rng(3).standard_normal((2, 3, 2))
    kernel, before = kernel_fn(x), stax.serial(stax.Dense(1), stax.Relu())[2](x)
    a = maps.resizing(3, 5, "linear", True)
    wanted = np.einsum("ia,xyab,jb->xyij", a, before.ntk, a)
    np.testing.assert_allclose(kernel.ntk, wanted, rtol=1e-12)  # sums of a few products
