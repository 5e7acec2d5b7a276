"""Networks of activations in closed form: values of neural-tangents, every backend, the ends of
the range, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import strategies
import widegram
from activation_networks import networks
from cuda_support import assert_equal, both, conv
from network_specs import DENSE, FLATTEN, GAP
from vocabulary import GROWING, Vocabulary
from widegram import WidegramError, activations, reference, stax
from widegram.activations.rectified_powers import LARGEST, polynomials
from widegram.backends.job import Job
from widegram.computing.choosing import make_evaluator
from widegram.data import open_source
from widegram.meanfield.theory.fixedpoint import fixed_points
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.network import load_network
from widegram.stax.kernel_fn import KernelFn
from widegram_cli.main import program

GOLDEN = Path(__file__).parent / "golden_activations" / "values.npz"
NETWORKS = networks(stax, np)
BOTH = ("nngp", "ntk")
LINEAR = {"layer": "Dense"}


def act(name: str, **parameters: Any) -> dict[str, Any]:
    return {"layer": name, **parameters}


def computed(network: Any, x1: np.ndarray, x2: np.ndarray | None, dtype: str = "float64") -> dict:
    second = None if x2 is None else open_source(x2)
    job = Job(network=network, x1=open_source(x1), x2=second, kernels=BOTH, dtype=dtype, threads=1)
    with make_evaluator("cpu", job) as evaluator:
        return evaluator.tile(range(len(x1)), range(len(x1 if x2 is None else x2)), x2 is None)


@pytest.mark.parametrize("name", NETWORKS)
def test_neural_tangents_values(name: str) -> None:
    """Values of neural-tangents 0.6.5 (golden_activations/README.md)."""
    shape, (_, _, kernel_fn) = NETWORKS[name]
    assert isinstance(kernel_fn, KernelFn)
    network = kernel_fn.network(shape)
    golden = np.load(GOLDEN)
    x1, x2 = (golden[f"{x}/{len(shape)}"] for x in ("x1", "x2"))
    wanted = {kernel: golden[f"{name}/{kernel}"] for kernel in BOTH}
    dense = reference.kernel(network, x1, x2)
    # relative to the largest entry: the promise of each dtype (docs/accuracy.md)
    assert_equal({kernel: getattr(dense, kernel) for kernel in BOTH}, wanted, 1e-10)
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-5)):
        assert_equal(computed(network, x1, x2, dtype), wanted, tolerance)


CARD = {
    "exp": [conv(), act("Exp", b=0.3), conv(), act("Exp", a=0.4, b=-0.2), GAP],
    "bells": [conv(), act("Gaussian", a=1.3, b=-0.4), conv(), act("Gabor"), FLATTEN, DENSE],
    "normalized": [conv(), act("ExpNormalized", gamma=2.0, shift=0.1), conv(), act("Gabor"), GAP],
    "powers": [conv(), act("Monomial", degree=3), conv(), act("RectifiedMonomial", degree=2), GAP],
    "steps": [conv(), act("RectifiedMonomial", degree=0), conv(), act("Hermite", degree=2), GAP],
    "polynomial": [LINEAR, act("Polynomial", coef=[0.3, -1.0, 0.5]), FLATTEN, DENSE],
}


@pytest.mark.parametrize("name", CARD)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    _, found, wanted = both({"input_shape": [3, 4, 2], "layers": CARD[name]})
    # some roundings of float64 per layer and pixel; a step's are roots where c = 1 comes near
    assert_equal(found, wanted, 1e-12)


@given(st.data())
@settings(max_examples=12, database=None, suppress_health_check=list(HealthCheck))
def test_growing_networks_agree_with_the_reference(data: st.DataObject) -> None:
    vocabulary = Vocabulary(activations=GROWING)
    network = data.draw(strategies.networks(vocabulary, blocks=2, largest=4))
    x = data.draw(strategies.inputs(network, 4))
    with np.errstate(all="ignore"):
        wanted = reference.kernel(network, x)
    assume(all(np.isfinite(getattr(wanted, kernel)).all() for kernel in BOTH))
    try:
        found = computed(network, x, None)
    except WidegramError as error:
        assume("too large" not in str(error) and "flows" not in str(error))
        raise
    for kernel in BOTH:
        value = getattr(wanted, kernel)
        # a high power multiplies the roundings of many layers; kinks take their root
        error = np.abs(found[kernel] - value).max() / max(np.abs(value).max(), 1e-3)
        assert error <= 1e-6, network.to_json()


def test_polynomials_of_rectified_monomials() -> None:
    """J_0 to J_3 of Cho and Saul; all are positive, so that nothing cancels between their terms."""
    assert [polynomials(n)[:2] for n in range(4)] == [
        ((), (1,)), ((1,), (0, 1)), ((0, 3), (1, 0, 2)), ((4, 0, 11), (0, 9, 0, 6)),
    ]  # fmt: skip
    assert min(min(part, default=0) for n in range(LARGEST + 1) for part in polynomials(n)) >= 0


def test_networks_of_a_gaussian_keep_their_fingerprint() -> None:
    plain = {"input_shape": [3], "layers": [LINEAR, act("Gaussian")]}
    spelt = {"input_shape": [3], "layers": [LINEAR, act("Gaussian", a=1, b=-1.0)]}
    known = "8314f6587de6256f5c4b93e6ff3c823b0a2be253cf289313ec6877097cf0182c"
    for spec in (plain, spelt):
        network = load_network(spec)
        assert network.fingerprint() == known
        assert network.canonical()["layers"][1] == act("Gaussian")
    other = load_network({"input_shape": [3], "layers": [LINEAR, act("Gaussian", b=-2)]})
    assert other.canonical()["layers"][1] == act("Gaussian", a=1.0, b=-2.0)
    assert load_network(other.canonical()) == other


def test_default_gaussian_is_the_scaled_one() -> None:
    """Two ways to write one function: a few roundings apart."""
    q, k, q2 = 0.7, np.linspace(-1, 1, 7), 1.9
    plain = activations.get("Gaussian").moments(q, k, q2)
    scaled = activations.get("Gaussian", {"a": 3.0, "b": -1.0}).moments(q, k, q2)
    np.testing.assert_allclose(scaled, 9 * np.array(plain), rtol=1e-14)


HOMOGENEOUS = {
    "powers": (6, [LINEAR, act("Monomial", degree=3), LINEAR, act("Monomial", degree=2), LINEAR]),
    "rectified": (6, [LINEAR, act("RectifiedMonomial", degree=2), LINEAR,
                      act("RectifiedMonomial", degree=3), LINEAR]),
    "one term": (4, [LINEAR, act("Polynomial", coef=[0, 0, 0.5]), LINEAR,
                     act("Hermite", degree=2), LINEAR]),
    "normalized": (1, [LINEAR, act("ExpNormalized"), LINEAR, act("Monomial", degree=1)]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_homogeneous_networks_of_any_degree(name: str, dtype: str) -> None:
    """K(a x, b y) = (a b)^d K(x, y), for powers of two to the bit: every image has its own."""
    degree, layers = HOMOGENEOUS[name]
    network = load_network({"input_shape": [3], "layers": layers})
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((3, 3)), rng.standard_normal((2, 3))
    plain = computed(network, x, y, dtype)
    for first, second in ((6, -5), (-9, -7), (8, 9)):
        found = computed(network, np.ldexp(x, first), np.ldexp(y, second), dtype)
        for kernel in BOTH:
            wanted = np.ldexp(plain[kernel].astype(np.float64), degree * (first + second))
            # which operations round differently depends on the power: a few roundings
            np.testing.assert_allclose(
                found[kernel], wanted, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(wanted).max()
            )


@pytest.mark.parametrize(
    ("dtype", "scale", "layers", "message"),
    [
        ("float64", 1e-3, [LINEAR, *[act("Monomial", degree=5), LINEAR] * 3], "underflows"),
        ("float64", 1e3, [LINEAR, *[act("Monomial", degree=5), LINEAR] * 3], "overflows"),
        ("float32", 10.0, [LINEAR, act("Monomial", degree=64), LINEAR], "overflows"),
        ("float32", 1e-10, [LINEAR, act("RectifiedMonomial", degree=4), LINEAR], "underflows"),
        ("float32", 10.0, [DENSE, act("Exp"), DENSE], "nngp overflows"),
        ("float64", 1e3, [DENSE, act("Exp"), DENSE],
         r"layers\[1\] Exp: variances .* too large \(its values are beyond .*\); divide .* by 60"),
        ("float64", 1.0, [DENSE, *[act("Exp", b=3), DENSE] * 3], r"layers\[3\] Exp: variances"),
        ("float64", 10.0, [DENSE, act("Gaussian", b=0.2), DENSE], r"layers\[1\] Gaussian: var"),
        ("float64", 1e9, [DENSE, act("Gabor"), DENSE], r"layers\[1\] Gabor: variances up to"),
        ("float64", 1e100, [DENSE, act("Polynomial", coef=[1, 0, 1]), DENSE], "overflows"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(
    dtype: str, scale: float, layers: list, message: str
) -> None:
    x = scale * np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises(WidegramError, match=message):
        widegram.kernel({"input_shape": [3], "layers": layers}, x, get="nngp", dtype=dtype)


def test_large_exponents_are_computed_in_float64() -> None:
    """K of float32's range, from exponents that float32 does not resolve."""
    layers = [LINEAR, act("Exp", a=1e-20)]
    root = np.sqrt([20.0, 40.0, 60.0])
    x = np.sqrt(3) * root[:, None] * np.eye(3)[:1]
    found = widegram.kernel({"input_shape": [3], "layers": layers}, x, get="nngp", dtype="float32")
    wanted = 1e-40 * np.exp(0.5 * (root[:, None] + root) ** 2)
    # rounded once
    np.testing.assert_allclose(found, wanted, rtol=1e-7)


def test_inputs_of_variance_zero() -> None:
    """phi(0) is the value: of (x >= 0) it is 1, so that K(0, y) is P(v >= 0)."""
    x = np.array([[0.0, 0.0], [1.0, 2.0]])
    for layer, wanted in (
        (act("RectifiedMonomial", degree=0), [[1.0, 0.5], [0.5, 0.5]]),
        (act("RectifiedMonomial", degree=2), [[0.0, 0.0], [0.0, 9.375]]),
        (act("Monomial", degree=0), [[1.0, 1.0], [1.0, 1.0]]),
        (act("ExpNormalized"), [[0.0, 0.0], [0.0, 2.5]]),
        (act("Polynomial", coef=[2.0, 1.0]), [[4.0, 4.0], [4.0, 6.5]]),
    ):
        for dtype in ("float32", "float64"):
            spec = {"input_shape": [2], "layers": [LINEAR, layer]}
            found = widegram.kernel(spec, x, get="nngp", dtype=dtype)
            # a rounding
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=0)


def test_mean_field_theory_of_a_kernel_of_no_function() -> None:
    """Variances are kept and gaps grow by gamma: q* = b / (1 - w), c* from c = w exp(gamma (c - 1))
    + 1 - w."""
    maps = LayerMaps.of("expnormalized:gamma=2")
    assert maps.homogeneity() is None
    assert LayerMaps.of("expnormalized").homogeneity() == 1
    found = fixed_points(maps, [0.4, 0.7], 0.05)
    np.testing.assert_allclose(found.q_star, 0.05 / np.array([0.6, 0.3]), rtol=1e-12)
    np.testing.assert_allclose(found.chi_1, [0.8, 1.4], rtol=1e-12)
    c = found.c_star[1]
    # to the solver's tolerance
    assert 0.7 * np.exp(2 * (c - 1)) + 0.3 == pytest.approx(c, abs=1e-12)
    assert c < 0.7


@pytest.mark.parametrize(
    ("act", "w", "q", "chi"),
    [
        # q = w a^2 exp(2 b^2 q) + b_var, chi = w b^2 a^2 exp(2 b^2 q): q = 0.2 by choice of w
        ("exp:b=0.5", 0.15 * np.exp(-0.1), 0.2, 0.0375),
        # q = w 15 q^3 + b_var, chi = 27 w q^2
        ("monomial:degree=3", 0.01 / (15 * 0.06**3), 0.06, 27 * 0.06**2 * 0.01 / (15 * 0.06**3)),
        # V = 3 q^2 / 2, E[phi'^2] = 2 q
        ("rectifiedmonomial:degree=2", 0.01 / (1.5 * 0.06**2), 0.06, 0.02 * 0.06 / (1.5 * 0.06**2)),
    ],
)
def test_mean_field_theory_of_powers(act: str, w: float, q: float, chi: float) -> None:
    found = fixed_points(LayerMaps.of(act), w, 0.05)
    # to the solver's tolerance
    assert float(found.q_star) == pytest.approx(q, rel=1e-10)
    assert float(found.chi_1) == pytest.approx(chi, rel=1e-10)


def test_presets_take_whole_numbers() -> None:
    network = load_network("fcn:depth=2,act=monomial,degree=3", input_shape=(4,))
    assert network.layers[0].body[1].params == (("degree", 3),)
    with pytest.raises(WidegramError, match=r"degree must be an integer from 0 to 64, found 2\.5"):
        load_network("fcn:act=monomial,degree=2.5", input_shape=(4,))
    with pytest.raises(WidegramError, match="parameter 'degree' is missing"):
        load_network("fcn:act=hermite", input_shape=(4,))
    with pytest.raises(WidegramError, match=r"coef must be a list of 1 to 65 numbers"):
        load_network("fcn:act=polynomial,coef=1", input_shape=(4,))


def test_long_parameters_are_counted_where_a_network_is_listed() -> None:
    spec = {"input_shape": [3], "layers": [LINEAR, act("Polynomial", coef=[0.5, 1.0]), LINEAR,
                                           act("Custom", expression="tanh(x)")]}  # fmt: skip
    found = CliRunner().invoke(program, ["net", json.dumps(spec)]).output
    assert "coef of 2 numbers or rows" in found
    assert "expression tanh(x)\n" in found
