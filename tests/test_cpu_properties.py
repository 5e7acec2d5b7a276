"""Properties of the CPU backend on random networks, with the dense reference as the judge."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import strategies
from jobs import job
from strategies import settings_of
from vocabulary import CONTINUOUS, HOMOGENEOUS, KINKED, SMOOTH, Vocabulary
from widegram import reference
from widegram.backends.evaluator import Evaluator
from widegram.computing.choosing import make_evaluator
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.network.layers import Activation, lists_inside

BOTH = ("nngp", "ntk")
MEMORY = 2**28
REFUSED = re.compile(r"variances up to .* are too large|leaves out .* of the values at variances")
EVERY_ACTIVATION = Vocabulary()
SMOOTH_ONLY = Vocabulary(activations=SMOOTH)
DROPOUT_FREE = CONTINUOUS._replace(dropout=False)
# phi(a x) = a phi(x), nothing normalised or multiplied, no bias.
SCALING = Vocabulary(
    activations=(*HOMOGENEOUS, "Identity"), layer_norm=False, bias=False,
    joins=("FanInSum", "FanInConcat"),
)

def evaluator(
    network: Network,
    x1: np.ndarray,
    x2: np.ndarray | None = None,
    dtype: str = "float64",
    get: tuple[str, ...] = BOTH,
    depths: tuple[int, ...] = (),
    threads: int = 1,
) -> Evaluator:
    second = None if x2 is None else open_source(x2)
    try:
        # As every command makes it: in float64, rounded, where float32 does not do.
        of = job(network, x1, second, kernels=get, depths=depths, dtype=dtype, threads=threads)
        return make_evaluator("cpu", of)
    except WidegramError as error:
        # Refused by name, as variances beyond an activation's reach are: no case of a value.
        assume(not REFUSED.search(str(error)))
        raise


def kernels(
    network: Network, x1: np.ndarray, x2: np.ndarray | None = None, **options: object
) -> dict[str, np.ndarray]:
    columns = range(len(x1 if x2 is None else x2))
    return evaluator(network, x1, x2, **options).tile(range(len(x1)), columns, x2 is None)


def scale(value: np.ndarray) -> float:
    """What errors are relative to: the largest entry, or, where pixels cancel (a global pool of a
    linear network may give 0), a thousandth of the order of what was summed, one."""
    return max(float(np.abs(value).max()), 1e-3)


def names(layers: tuple) -> set[str]:
    """The activations of a network."""
    found: set[str] = set()
    for layer in layers:
        match layer:
            case Activation(name=name):
                found.add(name)
            case _:
                found |= set().union(*map(names, lists_inside(layer)))
    return found


def check_against_reference(network: Network, x: np.ndarray, y: np.ndarray | None) -> None:
    wanted = reference.kernel(network, x, y)
    made = evaluator(network, x, y)
    found = made.tile(range(len(x)), range(len(x if y is None else y)), y is None)
    # Smooth: some 30 layers of sums of up to 81 taps, and the tails of series (1e-13 squared
    # into E[phi^2], 1e-14 in the reference). Kinked: rounding of c = 1 (2e-16) between coinciding
    # inputs or pixels enters the angle as its square root, once per layer and times W_std^2.
    # What both sides announce to leave out of sums without an end is an error of one layer; ten
    # times that is room for a few of them.
    announced = 10 * (made.series_error or 0.0)
    tolerance = max(1e-6 if names(network.layers) & set(KINKED) else 1e-11, announced)
    for key in BOTH:
        value = getattr(wanted, key)
        error = np.abs(found[key] - value).max() / scale(value)
        # What the inputs' rounding already does to the reference, with room for each layer's own.
        allowed = tolerance
        if error > tolerance:
            allowed = max(tolerance, 10 * sensitivity(network, x, y, key))
        assert error <= allowed, f"{key} off by {error:.1e} of max|K|: {network.to_json()}"


def sensitivity(network: Network, x: np.ndarray, y: np.ndarray | None, key: str) -> float:
    """How far the reference itself moves when its inputs move in their last bits: far where a
    LayerNorm divides by a variance in which pixels cancelled."""
    rng = np.random.default_rng(0)
    near = [None if a is None else a * (1 + 1e-15 * rng.standard_normal(a.shape)) for a in (x, y)]
    wanted, moved = (getattr(reference.kernel(network, *pair), key) for pair in ((x, y), near))
    return float(np.abs(moved - wanted).max() / scale(wanted))


def draw_case(data: st.DataObject, vocabulary: Vocabulary, most: int = 20) -> tuple:
    network = data.draw(strategies.networks(vocabulary))
    x = data.draw(strategies.inputs(network, most))
    y = data.draw(st.none() | strategies.inputs(network, most, special=False))
    return network, x, y


@given(st.data())
@settings_of(25)
def test_smooth_networks_agree_with_the_reference(data: st.DataObject) -> None:
    # Few inputs: mixtures take thousands of arc sines an element, in the dense reference too.
    check_against_reference(*draw_case(data, SMOOTH_ONLY, most=4))


@given(st.data())
@settings_of(25)
def test_networks_agree_with_the_reference(data: st.DataObject) -> None:
    check_against_reference(*draw_case(data, CONTINUOUS))


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [SMOOTH_ONLY, CONTINUOUS], ids=["smooth", "continuous"])
def test_many_networks_agree_with_the_reference(vocabulary: Vocabulary) -> None:
    @given(st.data())
    @settings_of(1000)
    def check(data: st.DataObject) -> None:
        check_against_reference(*draw_case(data, vocabulary))

    check()


@given(st.data())
@settings_of(20)
def test_single_precision_agrees_with_the_reference(data: st.DataObject) -> None:
    network, x, y = draw_case(data, CONTINUOUS)
    wanted, found = reference.kernel(network, x, y), kernels(network, x, y, dtype="float32")
    for key in BOTH:
        value = getattr(wanted, key)
        assert found[key].dtype == np.float32
        # The contract's 1e-4 near c = 1, where pixels coincide by chance of a small image; entries
        # in which pixels cancel lose as much again.
        error = np.abs(found[key] - value).max() / max(float(np.abs(value).max()), 1e-1)
        assert error <= 1e-4, f"{key} off by {error:.1e} of max|K|: {network.to_json()}"


@given(st.data())
@settings_of(15)
def test_own_matrix_is_symmetric_and_positive(data: st.DataObject) -> None:
    network, x, _ = draw_case(data, CONTINUOUS)
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    found = kernels(network, x, dtype=dtype)
    for key in BOTH:
        assert np.isfinite(found[key]).all()
        np.testing.assert_array_equal(found[key], found[key].T)
        eigenvalues = np.linalg.eigvalsh(found[key].astype(np.float64))
        # n times the entries' errors (see the two tests above), as a perturbation of the spectrum
        slack = {"float64": 1e-6, "float32": 1e-4}[dtype] * len(x) * scale(found[key])
        assert eigenvalues[0] >= -slack


@given(st.data())
@settings_of(15)
def test_exchanged_inputs_give_the_transpose(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(SMOOTH_ONLY))
    # Few inputs, as above.
    x, y = (data.draw(strategies.inputs(network, 6)) for _ in range(2))
    first, second = kernels(network, x, y), kernels(network, y, x)
    for key in BOTH:
        # the same sums, x and y in each other's place: a few roundings per layer
        np.testing.assert_allclose(
            first[key], second[key].T, rtol=0, atol=1e-12 * scale(first[key])
        )


@given(st.data())
@settings_of(12)
def test_threads_and_tiles_give_the_same_bits(data: st.DataObject) -> None:
    network, x, y = draw_case(data, EVERY_ACTIVATION, most=24)
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    columns = range(len(x if y is None else y))
    whole = kernels(network, x, y, dtype=dtype)
    for threads in (2, 3):
        again = kernels(network, x, y, dtype=dtype, threads=threads)
        for key in BOTH:
            np.testing.assert_array_equal(whole[key], again[key])
    cut = data.draw(st.integers(1, max(1, len(x) - 1)))
    column_cut = cut if y is None else data.draw(st.integers(1, max(1, len(y) - 1)))
    parts = evaluator(network, x, y, dtype=dtype, threads=2)
    row_tiles = (range(cut), range(cut, len(x)))
    column_tiles = (range(column_cut), range(column_cut, len(columns)))
    for rows, cols in itertools.product(row_tiles, column_tiles):
        if not len(rows) or not len(cols) or (y is None and rows.start > cols.start):
            continue
        part = parts.tile(rows, cols, y is None)
        for key in BOTH:
            np.testing.assert_array_equal(whole[key][np.ix_(rows, cols)], part[key])


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["series", "mixture"])
@pytest.mark.parametrize("act", ["Tanh", "Arctan", "Softplus"])
def test_vectors_give_the_same_bits_in_any_tile(act: str, scale: float) -> None:
    """Sums over the terms of an activation without a closed form, and over pairs of them, have one
    order: for a lone vector as among others, and on either side of a diagonal."""
    layers = [{"layer": "Dense"}, {"layer": act}, {"layer": "Dense"}]
    network = load_network({"input_shape": [1], "layers": layers})
    # 16 rows: whole blocks of lanes, whose transposes kernels write; 19: not.
    x = scale * np.random.default_rng(0).standard_normal((19, 1))
    whole = kernels(network, x)
    made = evaluator(network, x)
    for key in BOTH:
        np.testing.assert_array_equal(whole[key], whole[key].T)
    for low, middle, high in ((0, 1, 19), (0, 8, 19), (0, 16, 19), (1, 9, 18), (3, 18, 19)):
        for rows, cols in ((range(low, middle), range(low, middle)),
                           (range(low, middle), range(middle, high)),
                           (range(middle, high), range(middle, high))):  # fmt: skip
            part = made.tile(rows, cols, True)
            for key in BOTH:
                np.testing.assert_array_equal(whole[key][np.ix_(rows, cols)], part[key])


@given(st.data())
@settings_of(10)
def test_nngp_alone_is_the_nngp_of_both(data: st.DataObject) -> None:
    network, x, y = draw_case(data, SMOOTH_ONLY)
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    both = kernels(network, x, y, dtype=dtype)
    alone = kernels(network, x, y, dtype=dtype, get=("nngp",))
    assert list(alone) == ["nngp"]
    # The compiler may contract products differently where T is not carried.
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype] * max(np.abs(both["nngp"]).max(), 0.1)
    np.testing.assert_allclose(alone["nngp"], both["nngp"], rtol=0, atol=tolerance)


@given(st.data())
@settings_of(12)
def test_sweep_equals_networks_of_each_depth(data: st.DataObject) -> None:
    network = data.draw(strategies.sweeps(CONTINUOUS))
    x = data.draw(strategies.inputs(network, 6))
    y = data.draw(st.none() | strategies.inputs(network, 6))
    depths = tuple(sorted(data.draw(st.sets(st.integers(1, 5), min_size=1, max_size=3))))
    swept = kernels(network, x, y, depths=depths)
    assert list(swept) == [f"depth/{depth}/{key}" for depth in depths for key in BOTH]
    for depth in depths:
        single = kernels(network.at_depth(depth), x, y)
        for key in BOTH:
            # The same operations in other buffers; a series may keep more terms in one of them.
            np.testing.assert_allclose(
                swept[f"depth/{depth}/{key}"], single[key], rtol=0, atol=1e-12 * scale(single[key])
            )


@given(st.data(), st.sampled_from([0.25, 2.0, 16.0]))
@settings_of(15)
def test_homogeneous_networks_scale(data: st.DataObject, factor: float) -> None:
    network, x, y = draw_case(data, SCALING)
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    small, large = kernels(network, x, y, dtype=dtype), kernels(network, factor * x, y, dtype=dtype)
    times = factor**2 if y is None else factor
    for key in BOTH:
        # Powers of two leave every rounding as it is; the standard deviation of a zero image is a
        # constant instead (1e-18 in float32).
        atol = 1e-15 * scale(large[key])
        np.testing.assert_allclose(large[key], times * small[key], rtol=1e-12, atol=atol)


@given(st.data())
@settings_of(12)
def test_zero_inputs_are_finite(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(EVERY_ACTIVATION))
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    x = data.draw(strategies.inputs(network, 6))
    x[-1] = 0
    for value in (*kernels(network, x, dtype=dtype).values(), *kernels(network, x, x).values()):
        assert np.isfinite(value).all()


@given(st.data())
@settings_of(15)
def test_same_rows_in_another_order_give_the_same_kernel(data: st.DataObject) -> None:
    network = data.draw(strategies.networks(DROPOUT_FREE))
    x = data.draw(strategies.inputs(network))
    assume(len(x) > 1)
    order = np.random.default_rng(0).permutation(len(x))
    found, turned = kernels(network, x, x[:1]), kernels(network, x[order], x[:1])
    for key in BOTH:
        np.testing.assert_array_equal(found[key][order], turned[key])


@pytest.mark.parametrize("window", [(2, 2), (5, 5), (8, 8), (9, 9), (1, 6), (11, 3)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
def test_windows_of_every_size_agree_with_the_reference(
    window: tuple[int, int], padding: str
) -> None:
    conv = {"layer": "Conv", "filter_shape": list(window), "padding": padding, "b_std": 0.1}
    layers = [conv, {"layer": "Erf"}, {**conv, "padding": "SAME"}, {"layer": "GlobalAvgPool"}]
    network = load_network({"input_shape": [12, 10, 2], "layers": layers})
    x = np.random.default_rng(1).standard_normal((4, *network.input_shape))
    check_against_reference(network, x, None)
