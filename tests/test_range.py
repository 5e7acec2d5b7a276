"""Values at both ends of the floating point range: right, exactly 0, or refused by name."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import widegram
from cuda_support import assert_equal
from jobs import job
from virtual_card.devices import Emulated
from widegram import stax
from widegram.computing.choosing import make_evaluator
from widegram.computing.job import make_job
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram.plan import build
from widegram.reference import ReferenceEvaluator
from widegram.reference.evaluator import DenseKernels as Kernels
from widegram.reference.evaluator import kernel as dense
from widegram.verifying.verify import verify

# Relative to the largest entry: the contract's float64 and float32 away from c = 1.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
# Deep ReLU networks take all inputs towards c = 1, where the contract promises less.
NEAR_ONE = {"float64": 1e-8, "float32": 1e-4}
RELU, GAP, FLAT, DENSE = (
    {"layer": "Relu"},
    {"layer": "GlobalAvgPool"},
    {"layer": "Flatten"},
    {"layer": "Dense"},
)


def conv(W_std: float = 1.4, b_std: float = 0.0, **extra: Any) -> dict[str, Any]:
    window = {"filter_shape": [3, 3], "padding": "SAME"} | extra
    return {"layer": "Conv", "W_std": W_std, "b_std": b_std, **window}


def residual(branch: list[dict], shortcut: list[dict] | None = None) -> dict[str, Any]:
    return {"layer": "Residual", "branch": branch, "shortcut": shortcut or []}


POOL = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}
# Degree of homogeneity -> layers on images of 6 x 5 x 2.
HOMOGENEOUS: dict[str, tuple[int, list[dict]]] = {
    "pooled": (1, [conv(), RELU, POOL, conv(), {"layer": "LeakyRelu", "alpha": 0.2}, GAP, DENSE]),
    "flattened": (1, [conv(), RELU, conv(1.1), {"layer": "Abs"}, FLAT, DENSE]),
    "residual": (1, [conv(), {"layer": "Repeat", "times": 3,
                              "body": [residual([RELU, conv()])]}, GAP]),
    "circular": (1, [conv(padding="CIRCULAR"), RELU, conv(padding="CIRCULAR", strides=[2, 2]),
                     {"layer": "Dropout", "rate": 0.8}, {"layer": "GlobalSumPool"}]),
    "signs": (0, [conv(), {"layer": "Sign"}, conv(1.0, 0.1), {"layer": "Tanh"}, FLAT, DENSE]),
}  # fmt: skip
# Between layers of tiny and of huge weights, where values leave the range of float32, or both.
EXTREME: dict[str, list[dict]] = {
    "down and up": [conv(1e-25), POOL, RELU, conv(1e25), GAP],
    "branches apart": [conv(1e-12), residual([RELU, conv(1e-12), RELU, conv(1.0)], [conv(1e-13)]),
                       conv(1e22), FLAT],
    "up and normalised": [conv(1e30), {"layer": "LayerNorm", "axis": -1}, RELU, conv(1.0, 0.1),
                          GAP],
    "down to a bias": [conv(1e-30), RELU, conv(1.0, 0.3), RELU, conv(), FLAT],
}  # fmt: skip


def images(n: int, seed: int) -> np.ndarray:
    """The second image has a zero half, the third zero columns; the first is as good as any."""
    x = np.random.default_rng(seed).standard_normal((n, 6, 5, 2))
    x[1, :3] = 0
    x[2, :, 2] = 0
    return x


def spec(layers: list[dict]) -> dict[str, Any]:
    return {"input_shape": [6, 5, 2], "layers": layers}


def computed(network: Any, x: Any, y: Any = None, dtype: str = "float64") -> Kernels:
    """Both kernels on the CPU; a warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = widegram.kernel(network, x, y, dtype=dtype, device="cpu")
    assert isinstance(found, tuple)
    return Kernels(*found)


def assert_close(found: Kernels, wanted: Kernels, tolerance: float, factor: float = 1.0) -> None:
    for got, want in zip(found, wanted, strict=True):
        right = want * factor
        np.testing.assert_allclose(got, right, rtol=0, atol=tolerance * np.abs(right).max())


# ordinary networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["myrtle7", "wide-resnet", "cnn-p:depth=8,act=erf,b_var=0.1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ordinary_networks_are_planned_as_ever(net: str, dtype: str) -> None:
    plan = build(load_network(net, (32, 32, 3)), dtype=dtype, largest=2.0)
    assert plan.exponents == (0,)
    assert plan.input_exponent == 0


# scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize(
    ("dtype", "a", "b"),
    [("float64", 1e-150, 1e150), ("float64", 1e-140, 1e-10), ("float64", 1e75, 1e75),
     ("float32", 1e-18, 1e18), ("float32", 1e-17, 1e-17), ("float32", 1e16, 1e18),
     ("float32", 1e-30, 1e25)],
)  # fmt: skip
def test_inputs_of_any_scale(name: str, dtype: str, a: float, b: float) -> None:
    degree, layers = HOMOGENEOUS[name]
    x, y = images(4, 0), images(3, 1)
    found = computed(spec(layers), a * x, b * y, dtype)
    wanted = dense(load_network(spec(layers)), x, y)
    assert_close(found, wanted, TOLERANCE[dtype], (a * b) ** degree)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_image_has_its_own_scale(dtype: str) -> None:
    _, layers = HOMOGENEOUS["pooled"]
    x = images(5, 0)
    scales = 10.0 ** np.array([-18, 14, 0, 17, -9])
    found = computed(spec(layers), scales[:, None, None, None] * x, None, dtype)
    factors = np.outer(scales, scales)
    wanted = dense(load_network(spec(layers)), x)
    # Divided by their scales entries are of one size again.
    assert_close(Kernels(*(k / factors for k in found)), wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("name", EXTREME)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_of_any_scale(name: str, dtype: str) -> None:
    x, y = images(4, 0), images(3, 1)
    found = computed(spec(EXTREME[name]), x, y, dtype)
    assert_close(found, dense(load_network(spec(EXTREME[name])), x, y), TOLERANCE[dtype])


@pytest.mark.parametrize(("depth", "dtype"), [(40, "float32"), (118, "float32"), (119, "float32"),
                                              (300, "float64"), (1000, "float64")])  # fmt: skip
@pytest.mark.parametrize("power", [-1, 0, 1])
def test_deep_networks(depth: int, dtype: str, power: int) -> None:
    """W_std^2 = 2 4^power: kernels are those of W_std^2 = 2 times a power of two."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 7)), rng.standard_normal((3, 7))
    wanted = dense(load_network(f"fcn:depth={depth},w_var=2", (7,)), x, y)
    net = f"fcn:depth={depth},w_var={2 * 4.0**power}"
    limit, exponent = np.finfo(dtype), 2 * power * (depth + 1)
    if not limit.minexp < exponent < limit.maxexp:
        with pytest.raises(WidegramError, match="overflows" if power > 0 else "underflows"):
            computed(net, x, y, dtype)
        return
    found = computed(net, x, y, dtype)
    scaled = Kernels(*(np.ldexp(k.astype(float), -exponent) for k in found))
    assert_close(scaled, wanted, NEAR_ONE[dtype])


def test_depth_sweeps_reach_as_far_as_each_readout() -> None:
    body = [{"layer": "Dense", "W_std": 1.0}, RELU]
    net = {"input_shape": [7], "layers": [{"layer": "Repeat", "times": 140, "body": body}, DENSE]}
    x = open_source(np.random.default_rng(0).standard_normal((4, 7)))

    def sweep(*depths: int) -> dict[str, np.ndarray]:
        job = make_job(net, x, None, ("nngp", "ntk"), "float32", depths, None, None)
        return make_evaluator("cpu", job).tile(range(4), range(4), True)

    depths = (1, 60, 118, 124)
    network = load_network(net)
    tile = sweep(*depths)
    for depth in depths:
        wanted = dense(network.at_depth(depth), x.read(0, 4))
        found = Kernels(*(tile[f"depth/{depth}/{name}"].astype(float) for name in Kernels._fields))
        scale = np.ldexp(1.0, depth)
        assert_close(Kernels(*(k * scale for k in found)), Kernels(*(k * scale for k in wanted)),
                     NEAR_ONE["float32"])  # fmt: skip
    with pytest.raises(WidegramError, match="depth/130/nngp underflows at row 0, column 0"):
        sweep(*depths, 130)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e-17, 1e19, 1e60])
def test_normalised_inputs_of_any_scale(dtype: str, scale: float) -> None:
    layers = [conv(), {"layer": "LayerNorm", "axis": -1}, RELU, conv(1.0, 0.1), GAP]
    x, y = scale * images(4, 0), scale * images(3, 1)
    x[0] = 0
    wanted = dense(load_network(spec(layers)), x, y)
    assert_close(computed(spec(layers), x, y, dtype), wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e-17])
@pytest.mark.parametrize("act", ["Relu", "Erf", "Rbf", "Tanh", "Sin"])
def test_inputs_that_are_small_beside_a_bias(scale: float, act: str) -> None:
    layers = [conv(), {"layer": act}, conv(1.0, 0.4), RELU, conv(), FLAT]
    x, y = scale * images(4, 0), scale * images(3, 1)
    found = computed(spec(layers), x, y, "float32")
    assert_close(found, dense(load_network(spec(layers)), x, y), TOLERANCE["float32"])


# zeros ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["pooled", "flattened", "residual", "circular"])
def test_a_zero_image_has_kernel_0(name: str, dtype: str) -> None:
    x, y = images(4, 0), images(3, 1)
    x[0], y[2] = 0, 0
    for value in computed(spec(HOMOGENEOUS[name][1]), x, y, dtype):
        assert not value[0].any()
        assert not value[:, 2].any()
        assert value[1:, :2].all()
    for value in computed(spec(HOMOGENEOUS[name][1]), x, None, dtype):
        assert not value[0].any()
        assert not value[:, 0].any()


@pytest.mark.parametrize("act", ["Relu", "Abs", "Sign", "Erf", "Tanh", "Gelu", "Sin"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_zero_vector_has_kernel_0(act: str, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 7))
    x[2] = 0
    net = {"input_shape": [7], "layers": [DENSE, {"layer": act}, DENSE, RELU, DENSE]}
    for value in computed(net, x, None, dtype):
        assert not value[2].any()
        assert not value[:, 2].any()
    for value in computed(net, x[1:4], x, dtype):
        assert not value[1].any()
        assert not value[:, 2].any()


@pytest.mark.parametrize("act", ["Relu", "Abs", "Sign", "Erf", "Tanh", "Gelu", "Sin"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_patches_that_do_not_meet_have_kernel_0(act: str, dtype: str) -> None:
    x, y = images(4, 0)[:1], images(4, 1)[:1]
    x[:, :2], y[:, 2:] = 0, 0
    one = {"filter_shape": [1, 1]}
    layers = [conv(**one), {"layer": act}, conv(**one), RELU, conv(**one), FLAT]
    for value in computed(spec(layers), x, y, dtype):
        assert value == 0


def test_no_weights_is_kernel_0() -> None:
    x = np.random.default_rng(0).standard_normal((3, 7))
    net = {"input_shape": [7], "layers": [{"layer": "Dense", "W_std": 0.0}, RELU, DENSE]}
    for value in computed(net, x, None, "float32"):
        assert not value.any()


def test_small_entries_between_large_images_are_right() -> None:
    """Rbf falls below every number there is: its entries are 0, or what is left of them."""
    x = np.array([[0.0], [9.4], [40.0]])
    net = {"input_shape": [1], "layers": [DENSE, {"layer": "Rbf"}]}
    found = computed(net, x, None, "float32").nngp
    # exp(-9.4^2) = 4e-39 has 21 bits left in float32, exp(-900) none.
    assert 0 < found[0, 1] < np.finfo(np.float32).tiny
    np.testing.assert_allclose(found, np.exp(-((x - x.T) ** 2)), rtol=1e-5, atol=1e-44)


# refusals -------------------------------------------------------------------------------------

REFUSED = [
    ("fcn:depth=130,w_var=1", 1.0, "float32",
     r"nngp underflows at row 0, column 0: .* 1.2e-38, .* float32; .* or --dtype float64"),
    ("fcn:depth=100,w_var=1e-3", 1.0, "float64",
     r"nngp underflows at row 0, column 0: .* 2.2e-308, .* float64; use inputs or weights"),
    ("fcn:depth=3", 1e-20, "float32", "nngp underflows at row 0, column 0"),
    ("fcn:depth=3", 1e20, "float32", "nngp overflows at row 0, column 0; .* or --dtype float64"),
    ("fcn:depth=3", 1e160, "float64", "nngp overflows at row 0, column 0; use inputs or weights"),
    ("fcn:depth=3,act=erf", 1e-20, "float32", "variance behind some layer underflows at row 0"),
    ("fcn:depth=3,act=erf", 1e-160, "float64", "variance behind some layer underflows at row 0"),
    ("fcn:depth=3,b_var=0.1", 1e200, "float64", "squares leave the range of float64"),
]  # fmt: skip


@pytest.mark.parametrize(("net", "scale", "dtype", "message"), REFUSED)
def test_what_no_number_holds_is_refused(
    net: str, scale: float, dtype: str, message: str, tmp_path: Path
) -> None:
    x = scale * np.random.default_rng(0).standard_normal((4, 7))
    with pytest.raises(WidegramError, match=message):
        computed(net, x, None, dtype)
    with pytest.raises(WidegramError, match=message):
        computed(net, x[:2], x, dtype)
    with pytest.raises(WidegramError, match=message):
        widegram.gram(net, x, tmp_path / "K.h5", dtype=dtype, device="cpu")


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_stax_and_estimators_refuse_the_same(scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((6, 7))
    _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))
    single = (scale * x).astype(np.float32)
    word = "underflows" if scale < 1 else "overflows"
    for get in ("nngp", "ntk", "cov1"):
        with pytest.raises(WidegramError, match=word):
            kernel_fn(single, None, get)
    sklearn = pytest.importorskip("widegram.sklearn")
    regressor = sklearn.WidegramRegressor("fcn:depth=2")
    with pytest.raises(WidegramError, match=word):
        regressor.fit(scale**7 * x, x[:, 0])


def test_runs_that_are_rounded_refuse_the_same() -> None:
    """Erf of large variances is computed in float64; what float32 cannot hold is refused."""
    x = 1e4 * np.random.default_rng(0).standard_normal((4, 7))
    layers = [DENSE, {"layer": "Erf"}, {"layer": "Dense", "W_std": 1e-21}]
    with pytest.raises(WidegramError, match=r"nngp underflows .* or --dtype float64"):
        computed({"input_shape": [7], "layers": layers}, x, None, "float32")
    layers[-1]["W_std"] = 1e21
    with pytest.raises(WidegramError, match=r"nngp overflows .* or --dtype float64"):
        computed({"input_shape": [7], "layers": layers}, x, None, "float32")


@pytest.mark.parametrize(
    ("net", "scale"),
    [("fcn:depth=90,w_var=1e-3", 1.0), ("fcn:depth=2", 1e-150), ("fcn:depth=2", 1e-152),
     ("fcn:depth=2", 1e150), ("fcn:depth=2,w_var=1e-20", 1e160)],
)  # fmt: skip
def test_verify_finds_no_damage_where_the_dense_reference_ends(
    net: str, scale: float, tmp_path: Path
) -> None:
    x = scale * np.random.default_rng(0).standard_normal((4, 7))
    widegram.gram(net, x, tmp_path / "K.h5", dtype="float64", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = verify(tmp_path / "K.h5", x)
    assert report.ok
    assert report.entries_recomputed == 16


def test_an_overflow_is_said_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((20, 4)))
    command = ["gram", "--net", "fcn:depth=150,w_var=4", "--x", tmp_path / "x.npy",
               "--out", tmp_path / "o.h5", "--device", "cpu"]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-m", "widegram_cli", *command], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "overflows at row 0, column 0" in run.stderr
    assert run.stderr.count("\n") == 1


# cards ----------------------------------------------------------------------------------------


def on_a_card(net: dict, x: np.ndarray, y: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    sources = open_source(x), open_source(y)
    evaluator = CudaEvaluator(
        job(net, sources[0], sources[1], dtype=dtype),
        [Emulated()],
        block_threads=16,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return evaluator.tile(range(len(x)), range(len(y)), False)


@pytest.mark.parametrize(
    ("layers", "a", "b"),
    [(HOMOGENEOUS["pooled"][1], 1e-17, 1e18), (EXTREME["down and up"], 1.0, 1.0),
     (EXTREME["branches apart"], 1.0, 1.0), (HOMOGENEOUS["signs"][1], 1e-30, 1e30)],
    ids=["inputs", "pool", "residual", "signs"],
)  # fmt: skip
def test_cards_keep_values_in_range(layers: list[dict], a: float, b: float) -> None:
    x, y = images(3, 0)[1:], images(3, 1)[:1]
    x[0] = 0
    signs = layers is HOMOGENEOUS["signs"][1]
    dtype = "float64" if signs else "float32"  # float32 is computed in float64 there
    found = on_a_card(spec(layers), a * x, b * y, dtype)
    reference = ReferenceEvaluator(job(spec(layers), x, y))
    wanted = reference.tile(range(2), range(1), False)
    factor = 1.0 if signs else a * b
    for key, value in wanted.items():
        assert_equal({key: found[key] / factor}, {key: value}, TOLERANCE[dtype])
        if not signs:
            assert found[key][0, 0] == 0


def test_cards_refuse_the_same() -> None:
    layers = [DENSE, RELU, DENSE]
    x = 1e-25 * np.random.default_rng(0).standard_normal((2, 7))
    with pytest.raises(WidegramError, match="nngp underflows at row 0, column 0"):
        on_a_card({"input_shape": [7], "layers": layers}, x, x, "float32")
