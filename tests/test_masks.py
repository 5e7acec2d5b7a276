"""Masked inputs: numbers that equal a network's mask, in the reference, on every backend, in files.

``golden_masks/values.npz`` was written by neural-tangents 0.6.5 (``golden_masks/README.md``).
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mask_examples
import strategies
from cuda_support import assert_equal
from jobs import job
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, POOL, RELU, load, residual
from test_cpu_properties import check_against_reference, kernels
from virtual_card.devices import Emulated
from widegram import kernel, reference, stax
from widegram.cpu import CpuEvaluator
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.plan import build
from widegram.plan.flips import commutes
from widegram.plan.hiding import Hide
from widegram.reference import ReferenceEvaluator

GOLDEN = Path(__file__).parent / "golden_masks" / "values.npz"
BOTH = ("nngp", "ntk")
# relative to the largest entry: the promise of each dtype (docs/accuracy.md)
PROMISED = {"float64": 1e-10, "float32": 1e-5}
ERF = {"layer": "Erf", "c": 0.3}
BIASED = {**CONV, "W_std": 1.3, "b_std": 0.2}
GSP = {"layer": "GlobalSumPool"}
CONCAT, SIDES = {"layer": "FanInConcat"}, [[{**CONV, "width": 3}], [{**DENSE, "width": 3}]]


def conv(rows: int, cols: int, padding: str = "SAME", strides: Any = (1, 1)) -> dict[str, Any]:
    return {**BIASED, "filter_shape": [rows, cols], "padding": padding, "strides": list(strides)}


def pool(rows: int, cols: int, padding: str = "SAME", **more: Any) -> dict[str, Any]:
    return {"layer": "AvgPool", "window_shape": [rows, cols], "padding": padding, **more}


def normed(*axis: int, eps: float = 1e-12) -> dict[str, Any]:
    return {**NORM, "axis": list(axis), "eps": eps}


def masked(shape: Any, *layers: Any, mask: Any = "nan", **more: Any) -> Network:
    spec = {"input_shape": list(shape), "layers": list(layers), "mask": mask, **more}
    return load_network(spec)


def holed(rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Inputs with masked pixels, one of them wholly masked, one with single numbers masked."""
    x = rng.standard_normal((n, *shape))
    for i in range(n - 1) if len(shape) > 1 else ():
        x[i, rng.random(shape[:-1]) < 0.4] = np.nan
    x[0] = np.nan
    x[-1, rng.random(shape) < 0.2] = np.nan
    return x


HEADS = {"layer": "Readouts", "heads": {"gap": [GAP, DENSE], "flat": [FLATTEN],
         "local": [pool(5, 5), FLATTEN]}}  # fmt: skip
CASES: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "global mean": ((4, 5, 2), [BIASED, RELU, BIASED, ERF, GAP, {**DENSE, "b_std": 0.3}]),
    "global sum, valid": ((5, 4, 1), [conv(3, 2, "VALID"), RELU, BIASED, RELU, GSP, DENSE]),
    "circular, strides": ((6, 5, 2), [conv(3, 3, "CIRCULAR", (2, 1)), RELU,
                          conv(2, 2, "CIRCULAR"), ERF, pool(3, 2, "CIRCULAR"), BIASED, GAP]),
    "flattened behind a local pool": ((6, 6, 1), [BIASED, RELU, pool(5, 5), FLATTEN, DENSE]),
    "pools": ((6, 7, 2), [BIASED, ERF, pool(2, 3, "VALID", strides=[2, 1]), BIASED, RELU,
              pool(3, 3, normalize_edges=True), conv(1, 1), ERF, FLATTEN, DENSE]),
    "norms": ((4, 5, 1), [BIASED, normed(-1, 1, 2), RELU, BIASED, normed(-1), ERF, BIASED,
              normed(-1, 2), GAP]),
    "branches": ((5, 4, 1), [BIASED, residual(RELU, BIASED), residual(ERF, conv(3, 3, "SAME",
                 (2, 2)), shortcut=[conv(1, 1, "SAME", (2, 2))]), RELU, BIASED, GAP]),
    "without biases": ((4, 4, 1), [CONV, RELU, conv(3, 3), RELU, DENSE, {"layer": "Abs"}, DENSE,
                       GAP, DENSE]),
    "one layer": ((3, 3, 2), [BIASED, GAP]),
    "local": ((4, 4, 1), [BIASED, RELU, {**BIASED, "layer": "ConvLocal"}, ERF, BIASED, GAP]),
    "sequence": ((9, 2), [{**conv(3, 3), "filter_shape": [3], "strides": [2]}, RELU,
                 {**BIASED, "filter_shape": [4], "strides": [1]}, normed(-1, 1), ERF, GAP, DENSE,
                 RELU, DENSE]),
    "index": ((5, 6, 1), [BIASED, RELU, {"layer": "Index", "idx": [":", "1:", "::2"]}, BIASED,
              GAP]),
    "vectors": ((6,), [{**DENSE, "b_std": 0.4}, RELU, {**DENSE, "b_std": 0.1}, normed(-1), ERF]),
    "images as vectors": ((2, 2, 2), [FLATTEN, {**DENSE, "b_std": 0.4}, RELU, DENSE]),
    "frozen": ((4, 4, 1), [{**BIASED, "W_rate": 0, "b_rate": 2}, RELU, {**BIASED, "b_grad": 1.5},
               ERF, GAP]),
    "heads": ((4, 5, 1), [BIASED, RELU, BIASED, RELU, HEADS]),
    "a deep one": ((4, 4, 1), [{"layer": "Repeat", "times": 3, "body": [BIASED, RELU]}, GAP]),
}  # fmt: skip


def tiles(network: Network, second: bool = True) -> list[tuple[Any, tuple[range, range, bool]]]:
    """Jobs of a cross and a symmetric matrix in float64, and the tile of each."""
    rng = np.random.default_rng(5)
    x1, x2 = (holed(rng, n, network.input_shape) for n in (4, 3))
    found = [(job(network, x1), (range(4), range(4), True))]
    return found + ([(job(network, x1, x2), (range(4), range(3), False))] if second else [])


@pytest.mark.parametrize("name", CASES)
def test_cpu_and_reference_agree(name: str) -> None:
    shape, layers = CASES[name]
    for of, tile in tiles(masked(shape, *layers)):
        wanted = ReferenceEvaluator(of).tile(*tile)
        for dtype, tolerance in PROMISED.items():
            with CpuEvaluator(replace(of, dtype=dtype)) as evaluator:
                assert_equal(evaluator.tile(*tile), wanted, tolerance)
                own = evaluator.diagonal(tile[0])
        for key, value in own.items():
            other = ReferenceEvaluator(of).diagonal(tile[0])[key]
            np.testing.assert_allclose(value, other, atol=1e-12 * abs(other).max())


# name -> (dtype, forms of its kernels): every form of them takes masks.
CUDA = {
    "global mean": ("float64", ["strip", "point"]),
    "circular, strides": ("float32", ["strip", "block", "strip", "point"]),
    "branches": ("float64", ["block", "point"]),
    "norms": ("float32", ["strip", "point"]),
    "sequence": ("float64", ["block", "point"]),
    "vectors": ("float64", ["point"]),
    "patch": ("float32", ["patch", "point"]),
}


@pytest.mark.parametrize("name", CUDA)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    layers = [BIASED, RELU, BIASED, RELU, BIASED, ERF, GAP, DENSE]
    shape, layers = {**CASES, "patch": ((8, 8, 1), layers)}[name]
    of, tile = tiles(masked(shape, *layers), second=False)[0]
    dtype, forms = CUDA[name]
    evaluator = CudaEvaluator(replace(of, dtype=dtype), [Emulated()], block_threads=16)
    # some roundings of float64 per layer and pixel; the contract's for float32
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert_equal(evaluator.tile(*tile), ReferenceEvaluator(of).tile(*tile), tolerance)
    assert [kernel.form for kernel in evaluator.source.kernels] == forms


@pytest.mark.parametrize("name", CASES)
def test_what_is_wholly_masked_has_kernel_0(name: str) -> None:
    shape, layers = CASES[name]
    of, tile = tiles(masked(shape, *layers), second=False)[0]
    for make in (CpuEvaluator, ReferenceEvaluator):
        for value in make(of).tile(*tile).values():
            assert not value[0].any()
            assert not value[:, 0].any()
            assert (np.diagonal(value)[1:] > 0).all()


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def compare(found: dict[str, np.ndarray], family: str, tolerance: float) -> None:
    golden = {name: v for name, v in stored().items() if name.startswith(f"{family}/")}
    assert sorted(found) == sorted(golden)
    for name, wanted in golden.items():
        value = found[name]
        if "Sign/cov" in name:  # neural-tangents' is wrong behind a pool (docs/neural-tangents.md)
            continue
        if value.dtype.kind in "bi":
            np.testing.assert_array_equal(value, wanted, err_msg=name)
            continue
        # neural-tangents takes acos of covariances near their variance, which turns 1e-16 of
        # rounding into 1e-8 of an angle, times it in K.
        atol = tolerance * np.max(abs(wanted), initial=1e-300)
        np.testing.assert_allclose(value, wanted, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("family", mask_examples.FAMILIES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_meets_neural_tangents(family: str, dtype: str) -> None:
    compare(mask_examples.run(stax, [family], dtype), family, PROMISED[dtype])


def test_kernels_of_images_meet_neural_tangents() -> None:
    compare(mask_examples.kernels(stax), "kernels", PROMISED["float64"])


@pytest.mark.parametrize("family", mask_examples.FAMILIES)
def test_reference_meets_neural_tangents(family: str) -> None:
    for name, (_, _, kernel_fn), x1, x2, mask in mask_examples.FAMILIES[family](stax):
        network = kernel_fn.network(x1.shape[1:], mask_constant=mask)
        found = reference.kernel(network, x1, x2)
        for key in BOTH:
            wanted = stored()[f"{family}/{name}/{key}"]
            error = abs(getattr(found, key) - wanted).max()
            assert error <= PROMISED["float64"] * abs(wanted).max(), name


# What neural-tangents does not do, or differently ---------------------------------------------


def finite(layers: list[dict[str, Any]], x: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Outputs (n, width) of a random network of finite width on masked sequences (n, L, C), NaN
    where masked: every layer sees zeros there; means are over what is visible."""
    rng, masked = np.random.default_rng(seed), np.isnan(x)
    h = x
    for layer in layers:
        h = np.where(masked, 0.0, h)
        seen = ~masked.all(axis=-1, keepdims=True)
        match layer["layer"]:
            case "Conv" | "Dense":
                (taps,) = layer.get("filter_shape", [1])
                padded = np.pad(h, [(0, 0), ((taps - 1) // 2, taps // 2), (0, 0)])
                patches = np.stack([padded[:, t : t + h.shape[1]] for t in range(taps)], axis=2)
                flat = patches.reshape(*h.shape[:2], -1)
                weights = rng.standard_normal((flat.shape[-1], width))
                bias = layer["b_std"] * rng.standard_normal(width)
                h = flat @ weights * (layer.get("W_std", 1.0) / flat.shape[-1] ** 0.5) + bias
                masked = ~seen
            case "LayerNorm":
                count = width * np.maximum(seen.sum(axis=1, keepdims=True), 1)
                mean = h.sum(axis=(1, 2), keepdims=True) / count
                squares = np.where(seen, (h - mean) ** 2, 0.0).sum(axis=(1, 2), keepdims=True)
                h = (h - mean) / np.sqrt(squares / count + layer["eps"])
            case "Polynomial":
                h = np.polynomial.polynomial.polyval(h, layer["coef"])
            case "GlobalAvgPool":
                h = h.sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=1, keepdims=True), 1)
                masked = masked.all(axis=1, keepdims=True)
    return np.where(masked, 0.0, h)[:, 0]


@pytest.mark.parametrize("layer", [
    # neural-tangents lets a polynomial's constant through masks
    {"layer": "Polynomial", "coef": [1.0, 0.5, 0.2]},
    # neural-tangents adds eps for each pixel, divides by those that are visible
    {"layer": "LayerNorm", "axis": [1, 2], "eps": 1.5},
], ids=["Polynomial", "LayerNorm"])  # fmt: skip
def test_finite_networks_judge_where_neural_tangents_differs(layer: dict[str, Any]) -> None:
    wide = {"layer": "Conv", "filter_shape": [3], "padding": "SAME", "W_std": 1.2, "b_std": 0.3}
    dense = {"layer": "Dense", "b_std": 0.1}
    layers = [wide, layer, wide, GAP, dense]
    x, _ = mask_examples.padded("finite", (6, 2), np.nan)
    exact = reference.kernel(masked((6, 2), *layers), x).nngp
    draws = np.array([
        values @ values.T / values.shape[1]
        for values in (finite(layers, x, 400, seed) for seed in range(60))
    ])  # fmt: skip
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert error.max() < 0.02 * exact.max()
    # four standard errors (60 draws), and the bias of a finite width, of order layers / width
    assert (abs(draws.mean(axis=0) - exact) <= 4 * error + 4 / 400 * exact.max()).all()


def test_a_circular_pool_sees_zeros_at_masked_pixels() -> None:
    """neural-tangents has no circular pools of masked inputs. With its window of all pixels it
    is the mean over all of them everywhere, so that what is masked is all that it changes."""
    x = holed(np.random.default_rng(1), 3, (5, 2))[1:]
    layers = [{**BIASED, "filter_shape": [3], "strides": [1]}, RELU]
    window = {"layer": "AvgPool", "window_shape": [5], "padding": "CIRCULAR"}
    found = reference.kernel(masked((5, 2), *layers, window, GSP), x).nngp
    visible = (~np.isnan(x).all(axis=-1)).sum(axis=1)
    whole = reference.kernel(masked((5, 2), *layers, GSP), x).nngp
    # both in float64
    np.testing.assert_allclose(found, whole * np.outer(visible, visible) / 25, rtol=1e-13)


# What masks mean ------------------------------------------------------------------------------


def test_padding_is_as_if_it_were_not_there() -> None:
    """With SAME windows and means over what is visible, a padded sequence has the kernels of the
    sequence itself."""
    conv3 = {**BIASED, "filter_shape": [3], "strides": [1]}
    layers = [conv3, RELU, conv3, normed(1, 2), ERF, conv3, RELU, GAP, DENSE]
    x = np.random.default_rng(2).standard_normal((3, 5, 2))
    wide = np.full((3, 9, 2), -7.0)
    wide[:, :5] = x
    wanted = kernel(load((5, 2), *layers), x)
    found = kernel(masked((9, 2), *layers, mask=-7), wide)
    for key in BOTH:
        # the same sums in another order
        np.testing.assert_allclose(getattr(found, key), getattr(wanted, key), rtol=1e-12)


def test_a_mask_that_nothing_equals_changes_no_value() -> None:
    shape, layers = CASES["norms"]
    x = np.random.default_rng(4).standard_normal((3, *shape))
    wanted = kernel(load(shape, *layers), x)
    found = kernel(masked(shape, *layers), x)
    for key in BOTH:
        # factors of 1 between the same operations
        np.testing.assert_allclose(getattr(found, key), getattr(wanted, key), rtol=1e-12)


@pytest.mark.parametrize("mask", [float("nan"), float("inf"), -np.inf, 0, 0.1, -100])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masks_of_every_kind_are_found(mask: float, dtype: Any) -> None:
    """Each in the dtype of the data: 0.1 of float16 is not that of float64."""
    shape, layers = CASES["global mean"]
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, *shape)).astype(dtype)
    hidden = rng.random(x.shape[:-1]) < 0.3
    x[hidden] = mask
    nan = x.astype(np.float64)
    nan[hidden] = np.nan
    found = kernel(masked(shape, *layers, mask=mask), x)
    wanted = kernel(masked(shape, *layers), nan)
    for key in BOTH:
        np.testing.assert_array_equal(getattr(found, key), getattr(wanted, key))


def test_masked_and_zero_are_not_the_same() -> None:
    """Two images whose numbers are equal, 0 or masked, are different inputs."""
    shape, layers = CASES["global mean"]
    x = np.random.default_rng(8).standard_normal((4, *shape))
    x[1] = x[0]
    x[0, 1:3], x[1, 1:3] = 0.0, np.nan
    x[2, 2:] = -0.0
    x[3] = x[2]
    network = masked(shape, *layers)
    wanted = reference.kernel(network, x)
    for dtype, tolerance in PROMISED.items():
        found = kernels(network, x, dtype=dtype)
        for key in BOTH:
            value = getattr(wanted, key)
            assert abs(found[key] - value).max() <= tolerance * abs(value).max()
    assert abs(wanted.nngp[0, 0] - wanted.nngp[1, 0]) > 0.01 * wanted.nngp[0, 0]


def test_vectors_that_are_zero_and_masked_are_not_the_same() -> None:
    x = np.random.default_rng(8).standard_normal((3, 4))
    x[0], x[1] = 0.0, np.nan
    layers = [{**DENSE, "b_std": 0.5}, RELU, DENSE]
    network = masked((4,), *layers)
    for dtype in PROMISED:
        found = kernels(network, x, dtype=dtype)["nngp"]
        assert not found[1].any()
        # a zero vector behind a bias: half of its variance
        assert found[0, 0] == pytest.approx(0.125, rel=1e-6)


# Random networks ------------------------------------------------------------------------------

QUIET = {
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
SMOOTH = strategies.Vocabulary(
    activations=("Erf", "Gelu", "Sin", "Cos", "Rbf", "Identity"), joins=("FanInSum",)
)
KINKED = SMOOTH._replace(activations=("Relu", "Abs", "LeakyRelu", "Erf", "Cos"))
MAPPED = KINKED._replace(maps=True)


def draw(data: st.DataObject, vocabulary: strategies.Vocabulary) -> tuple[Any, ...]:
    network = data.draw(strategies.masked(strategies.networks(vocabulary, blocks=3, largest=5)))
    x = data.draw(strategies.masked_inputs(network, 6))
    y = data.draw(st.none() | strategies.masked_inputs(network, 4))
    return network, x, y


@given(st.data())
@settings(max_examples=25, **QUIET)
def test_random_networks_agree_with_the_reference(data: st.DataObject) -> None:
    check_against_reference(*draw(data, data.draw(st.sampled_from([SMOOTH, KINKED, MAPPED]))))


@given(st.data())
@settings(max_examples=10, **QUIET)
def test_random_networks_give_the_same_bits_in_any_tile(data: st.DataObject) -> None:
    network, x, _ = draw(data, KINKED)
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    whole = kernels(network, x, dtype=dtype)
    for key, value in kernels(network, x, dtype=dtype, threads=2).items():
        np.testing.assert_array_equal(value, whole[key])
        np.testing.assert_array_equal(value, value.T)
    part = kernels(network, x[:1], x, dtype=dtype)
    if not any("Dropout" in path for path, _, _ in network.shapes()):
        for key, value in part.items():
            np.testing.assert_array_equal(value[0, 1:], whole[key][0, 1:])
    for key in BOTH:
        eigenvalues = np.linalg.eigvalsh(whole[key].astype(np.float64))
        # n times the entries' errors as a perturbation of the spectrum (test_cpu_properties)
        slack = {"float64": 1e-6, "float32": 1e-4}[dtype] * len(x) * max(whole[key].max(), 1e-3)
        assert eigenvalues[0] >= -slack


# Networks as data -----------------------------------------------------------------------------


@pytest.mark.parametrize(("given_", "kept"), [
    (float("nan"), "nan"), ("NaN", "nan"), (float("inf"), "inf"), ("+inf", "inf"),
    (-np.inf, "-inf"), ("-Infinity", "-inf"), (-0.0, 0.0), (3, 3.0), (np.float32(0.5), 0.5),
])  # fmt: skip
def test_masks_are_written_as_json_has_them(given_: Any, kept: Any) -> None:
    network = masked((3,), DENSE, mask=given_)
    assert network.mask == kept
    assert repr(network.mask) == repr(kept)
    again = load_network(network.to_json())
    assert again == network == pickle.loads(pickle.dumps(network))
    assert again.fingerprint() == network.fingerprint()
    plain = load((3,), DENSE)
    assert plain.fingerprint() != network.fingerprint()
    assert "mask" not in plain.canonical()


def test_toml_has_nan(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text('input_shape = [3]\nmask = nan\n[[layers]]\nlayer = "Dense"\n')
    assert load_network(path).mask == "nan"


@pytest.mark.parametrize("mask", ["no", True, [1], {}, 10**400, 1j, ""])
def test_what_is_no_number_is_refused(mask: Any) -> None:
    with pytest.raises(WidegramError, match=r"^mask: must be a number") as error:
        masked((3,), DENSE, mask=mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layers", [
    [POOL, CONV, GAP], [GAP], [{"layer": "Identity"}, {**POOL, "layer": "SumPool"}, CONV, GAP],
    [{"layer": "Readouts", "heads": {"a": [GAP]}}],
    [{**CONCAT, "branches": SIDES}, GAP], [{**CONCAT, "axis": 3, "branches": SIDES}, POOL, GAP],
])  # fmt: skip
def test_pools_of_masked_channels_are_refused(layers: list[Any]) -> None:
    with pytest.raises(WidegramError, match="single channels may be masked; put a Dense or Conv"):
        masked((4, 4, 2), *layers)
    if not any(layer["layer"] == "FanInConcat" for layer in layers):
        masked((4, 4, 1), *layers)
        return
    dense, *rest = layers
    masked((4, 4, 2), dense, DENSE, *rest)
    masked((4, 4, 2), {**dense, "axis": 1}, *rest)


@pytest.mark.parametrize(("layers", "even"), [
    ([BIASED, RELU, GAP], True), ([conv(3, 3, "VALID"), RELU, pool(1, 3), FLATTEN], True),
    ([BIASED, RELU, pool(2, 2, "VALID", strides=[2, 2]), FLATTEN], False),
])  # fmt: skip
def test_flips_go_with_masks(layers: list[Any], even: bool) -> None:
    network = masked((4, 4, 1), *layers, augment=["flip-lr"])
    assert commutes(network) == even
    assert commutes(load_network({**network.canonical(), "mask": None}))
    x = holed(np.random.default_rng(3), 3, (4, 4, 1))
    wanted, found = reference.kernel(network, x), kernel(network, x)
    for key in BOTH:
        np.testing.assert_allclose(getattr(found, key), getattr(wanted, key), atol=1e-11)


def test_masks_are_applied_once_to_each_block() -> None:
    """Behind convolutions and activations, before what mixes pixels; nowhere without a mask."""

    def hides(network: Network) -> int:
        return sum(isinstance(node.operation, Hide) for node in build(network).nodes)

    body = [BIASED, RELU, {**DENSE, "b_std": 1}, RELU]
    layers = [*body, *body, BIASED, residual(RELU, *body, DENSE), GAP]
    assert hides(masked((4, 4, 1), *layers)) == 4
    assert hides(load((4, 4, 1), *layers)) == 0


# Data and kernel_fn ---------------------------------------------------------------------------


def test_what_is_not_masked_is_finite(tmp_path: Path) -> None:
    x = np.zeros((3, 4))
    x[1, 2], x[2, 0] = np.nan, np.inf
    network = masked((4,), DENSE)
    with pytest.raises(WidegramError, match=r"row 2 holds an infinite value; every input must be"):
        kernel(network, x)
    with pytest.raises(WidegramError, match=r"row 1 holds NaN"):
        kernel(masked((4,), DENSE, mask="inf"), x)
    with pytest.raises(WidegramError, match=r"row 1 holds NaN"):
        kernel(load((4,), DENSE), x)


def test_fingerprints_are_those_of_the_numbers() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    x[1, 1], x[2, 2] = 0.0, -0.0
    plain = open_source(x)
    for mask in (0.0, 7.0, np.nan):
        assert plain.masked(mask).fingerprint() == plain.fingerprint()
    first = plain.masked(0.0)
    assert np.signbit(first.read(0, 5))[[1, 2], [1, 2]].all()
    assert open_source(first, 2).marked
    assert len(open_source(first, 2)) == 2
    assert not np.signbit(plain.masked(7.0).read(0, 5)[1:3][[0, 1], [1, 2]]).any()
    assert not np.isinf(open_source(x.astype(np.float32)).masked(1e300).read(0, 5)).any()


def test_kernel_fn_reads_masks_in_the_dtype_of_its_inputs() -> None:
    _, _, kernel_fn = stax.serial(stax.Dense(1, 1.0, 0.2), stax.Relu(), stax.Dense(1))
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float16)
    x[1] = 0.1
    found = kernel_fn(x, None, "nngp", mask_constant=0.1)
    assert found.dtype == np.float32
    assert not found[1].any()
    assert found[0, 0] > 0
    whole = np.array([[1, -1], [2, 3]])
    assert kernel_fn(whole, None, mask_constant=-1).mask1.tolist() == [[False], [False]]
    assert kernel_fn(whole, None, ("mask1", "mask2"), mask_constant=9) == (
        pytest.approx(np.zeros((2, 1))), None
    )  # fmt: skip
    assert kernel_fn(x).mask1 is None


@pytest.mark.parametrize(("mask1", "message"), [
    (np.zeros((3, 1)), "mask1 holds float64; it must be boolean, True where masked"),
    (np.zeros((2, 1), bool), r"mask1 has shape \(2, 1\); it must be \(3, 1\)"),
    (np.zeros(3, bool), r"mask1 has shape \(3,\); it must be \(3, 1\)"),
    (np.zeros((3, 2), bool), r"mask1 has shape \(3, 2\); it must be \(3, 1\)"),
])  # fmt: skip
def test_masks_of_a_kernel_are_checked(mask1: Any, message: str) -> None:
    _, _, kernel_fn = stax.Dense(1)
    made = kernel_fn(np.eye(3))
    with pytest.raises(WidegramError, match=f"^Kernel.mask: {message}$"):
        made.mask(mask1, None)
    if mask1.ndim == 2 and mask1.shape != (3, 2):
        with pytest.raises(WidegramError, match=f"^kernel_fn: mask1 of the Kernel {message[6:]}$"):
            kernel_fn(made.replace(mask1=mask1))


def test_kernels_keep_their_masks() -> None:
    x1, x2 = mask_examples.holed("kept", (4, 5, 2), np.nan)
    _, _, kernel_fn = stax.serial(stax.Conv(1, (3, 3), padding="SAME"), stax.Relu())
    made = kernel_fn(x1, x2, mask_constant=np.nan)
    assert made.mask1.shape == (3, 4, 5, 1)
    assert made.mask2.shape == (2, 4, 5, 1)
    turned = made.transpose((1, 0))
    np.testing.assert_array_equal(turned.mask1, made.mask1.transpose(0, 2, 1, 3))
    again = made.reverse().mask(made.mask1, made.mask2).reverse()
    for field in ("nngp", "ntk", "cov1", "cov2"):
        np.testing.assert_array_equal(getattr(again, field), getattr(made, field))
    same = kernel_fn(x1, mask_constant=np.nan)
    part = same.slice(slice(0, 1), slice(1, 3))
    np.testing.assert_array_equal(part.mask1, made.mask1[:1])
    np.testing.assert_array_equal(part.mask2, made.mask1[1:])
    on_equal_pixels = kernel_fn(x1, x2, diagonal_spatial=True, mask_constant=np.nan)
    again = on_equal_pixels.mask(made.mask1, made.mask2)
    np.testing.assert_array_equal(again.nngp, on_equal_pixels.nngp)


def test_a_mask_that_hides_all_hides_all() -> None:
    x = np.random.default_rng(2).standard_normal((3, 4, 5, 2))
    made = stax.Conv(1, (3, 3))[2](x)
    rows = np.array([True, False, True]).reshape(3, 1, 1, 1)
    hidden = made.mask(np.broadcast_to(rows, (3, 2, 3, 1)), None)
    assert not hidden.nngp[0].any()
    assert not hidden.nngp[:, 2].any()
    assert not hidden.cov1[0].any()
    np.testing.assert_array_equal(hidden.nngp[1, 1], made.nngp[1, 1])
