"""The dense reference: golden kernels, its window sums against plain loops, tiles and depths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import golden_cases
import widegram
from jobs import job
from widegram import reference
from widegram.errors import WidegramError
from widegram.network import Conv, Pool, load_network, padding
from widegram.reference.pixel_pairs import pool_windows, window_means


def network(shape, *layers):
    return load_network({"input_shape": list(shape), "layers": list(layers)})


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.4, "b_std": 0.1}
RELU, DENSE = {"layer": "Relu"}, {"layer": "Dense", "W_std": 1.3, "b_std": 0.2}
FLATTEN, GAP = {"layer": "Flatten"}, {"layer": "GlobalAvgPool"}


@pytest.mark.parametrize("name", golden_cases.params(frozenset({"conv-relu-flatten-32x32"})))
def test_golden(name):
    golden = golden_cases.load(name)
    net = load_network(golden.spec)
    cross, own = reference.kernel(net, golden.x1, golden.x2), reference.kernel(net, golden.x1)
    values = {"nngp": cross.nngp, "ntk": cross.ntk, "nngp_11": own.nngp, "ntk_11": own.ntk}
    for key, value in values.items():
        golden_cases.assert_matches(golden, key, value, "float64")
    np.testing.assert_array_equal(own.nngp, own.nngp.T)
    np.testing.assert_array_equal(own.ntk, own.ntk.T)


def value_at(a, p, q, mode):
    """K at two pixels, with the padding that the mode prescribes."""
    h, w = a.shape[:2]
    if mode == "CIRCULAR":
        return a[p[0] % h, p[1] % w, q[0] % h, q[1] % w]
    inside = 0 <= p[0] < h and 0 <= p[1] < w and 0 <= q[0] < h and 0 <= q[1] < w
    return a[(*p, *q)] if inside else 0.0


def windows(shape, window, strides, mode):
    """Output shape, and the input pixel that tap t of output pixel p reads."""
    axes = [padding(n, f, s, mode) for n, f, s in zip(shape, window, strides, strict=True)]
    out = tuple(axis[0] for axis in axes)

    def pixel(p, t):
        return tuple(s * a + b - ax[1] for s, a, b, ax in zip(strides, p, t, axes, strict=True))

    return out, pixel


BOTH_AXES = (0, 1)
WINDOWS = [
    ((5, 4), (3, 3), (1, 1)),
    ((5, 4), (2, 4), (1, 1)),
    ((5, 4), (3, 2), (2, 1)),
    ((3, 5), (1, 1), (2, 3)),
    ((3, 3), (3, 2), (2, 2)),
]


@pytest.mark.parametrize("mode", ["SAME", "VALID", "CIRCULAR"])
@pytest.mark.parametrize(("shape", "window", "strides"), WINDOWS)
def test_convolution_and_pool_against_loops(shape, window, strides, mode):
    a = normal(*shape, *shape)
    out, pixel = windows(shape, window, strides, mode)
    taps = list(np.ndindex(*window))
    conv, pool = np.empty(out + out), np.empty(out + out)
    for p, q in itertools.product(np.ndindex(*out), repeat=2):
        conv[p + q] = sum(value_at(a, pixel(p, t), pixel(q, t), mode) for t in taps) / len(taps)
        pool[p + q] = sum(value_at(a, pixel(p, t), pixel(q, u), mode) for t in taps for u in taps)
    # sums of up to 81 terms of order one in another order: a few hundred eps
    close = {"rtol": 0, "atol": 1e-13}
    summed, averaged = (Pool(kind, window, strides, mode) for kind in ("sum", "avg"))
    found = window_means(a[None], Conv(window, strides, mode), BOTH_AXES)[0]
    np.testing.assert_allclose(found, conv, **close)
    np.testing.assert_allclose(pool_windows(a[None], summed, BOTH_AXES)[0], pool, **close)
    mean = pool_windows(a[None], averaged, BOTH_AXES)[0]
    np.testing.assert_allclose(mean, pool / len(taps) ** 2, **close)


def test_filter_larger_than_the_image_wraps_around():
    x = normal(1, 2, 2, 1)
    net = network((2, 2, 1), {**CONV, "filter_shape": [6, 6], "padding": "CIRCULAR"}, FLATTEN)
    # 6 taps wrap exactly three times over 2 pixels: every pixel sees the image's mean square
    want = 1.4**2 * np.mean(x**2) + 0.1**2
    assert reference.kernel(net, x).nngp[0, 0] == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize(
    ("axis", "mean_over"), [(-1, ()), ([1, 3], 0), ([2, 3], 1), ([1, 2, 3], (0, 1))]
)
def test_layer_norm_axes(axis, mean_over):
    x1, x2 = normal(1, 3, 4, 2), normal(1, 3, 4, 2, seed=1)
    first = {**CONV, "filter_shape": [1, 1]}
    net = network((3, 4, 2), first, {"layer": "LayerNorm", "axis": axis}, FLATTEN)
    k, q1, q2 = (1.4**2 * (a * b).mean(-1)[0] + 0.01 for a, b in ((x1, x2), (x1, x1), (x2, x2)))
    if mean_over != ():
        q1, q2 = (q.mean(axis=mean_over, keepdims=True) for q in (q1, q2))
    want = np.mean(k / np.sqrt(q1 * q2))
    # eps = 1e-12 inside the layer
    assert reference.kernel(net, x1, x2).nngp[0, 0] == pytest.approx(want, rel=1e-10)


def test_dropout_knows_the_same_input_only_within_x1():
    x = normal(3, 6)
    net = network((6,), DENSE, RELU, {"layer": "Dropout", "rate": 0.5}, DENSE)
    without = network((6,), DENSE, RELU, DENSE)
    own, cross, plain = (
        reference.kernel(net, x),
        reference.kernel(net, x, x),
        reference.kernel(without, x),
    )
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(own.nngp[off], plain.nngp[off])
    # K of the same input before the readout is doubled, its bias is not
    want = 2 * (np.diag(plain.nngp) - 0.2**2) + 0.2**2
    np.testing.assert_allclose(np.diag(own.nngp), want, rtol=1e-13)
    # 1e-7: here the diagonal is computed as if the inputs were different, with rounding at c = 1
    np.testing.assert_allclose(cross.nngp, plain.nngp, rtol=1e-7)


def test_transposed_inputs_give_the_transposed_kernel():
    x1, x2 = normal(3, 5, 4, 2), normal(2, 5, 4, 2, seed=1)
    pool = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 1]}
    net = network((5, 4, 2), CONV, RELU, pool, CONV, {"layer": "Erf"}, GAP, DENSE)
    a, b = reference.kernel(net, x1, x2), reference.kernel(net, x2, x1)
    # the same sums in another order
    np.testing.assert_allclose(a.nngp, b.nngp.T, rtol=1e-13)
    np.testing.assert_allclose(a.ntk, b.ntk.T, rtol=1e-13)


def test_zero_images_give_finite_values():
    x = np.concatenate([normal(2, 4, 4, 1), np.zeros((1, 4, 4, 1))])
    net = network((4, 4, 1), {**CONV, "b_std": None}, RELU, CONV, RELU, GAP, DENSE)
    for value in (*reference.kernel(net, x), *reference.kernel(net, x, x)):
        assert np.isfinite(value).all()


def test_tiles_are_parts_of_the_whole():
    x = normal(5, 4, 3, 2)
    net = network((4, 3, 2), CONV, RELU, {"layer": "Dropout", "rate": 0.8}, CONV, RELU, GAP)
    whole = reference.kernel(net, x)
    evaluator = reference.ReferenceEvaluator(job(net, x))
    counts = []
    for rows, cols in itertools.product((range(3), range(3, 5)), repeat=2):
        tile = evaluator.tile(rows, cols, symmetric=True, progress=counts.append)
        part = np.ix_(rows, cols)
        np.testing.assert_array_equal(tile["nngp"], whole.nngp[part])
        np.testing.assert_array_equal(tile["ntk"], whole.ntk[part])
    assert counts == [9, 6, 6, 4]


def test_depths_are_networks_of_their_own():
    x, y = normal(3, 6), normal(2, 6, seed=1)
    repeat = {"layer": "Repeat", "times": 4, "body": [DENSE, RELU]}
    net = network((6,), repeat, DENSE)
    evaluator = reference.ReferenceEvaluator(
        job(net, x, y, kernels=("ntk",), depths=(1, 3), dtype="float32")
    )
    assert evaluator.keys == ("depth/1/ntk", "depth/3/ntk")
    tile = evaluator.tile(range(3), range(2), symmetric=False)
    for depth in (1, 3):
        want = reference.kernel(network((6,), *[DENSE, RELU] * depth, DENSE), x, y).ntk
        got = tile[f"depth/{depth}/ntk"]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want.astype(np.float32))


def test_inputs_of_another_shape_are_refused():
    net = network((6,), DENSE)
    with pytest.raises(WidegramError, match=r"x2: .* shape \(6,\), found \(7,\)"):
        reference.kernel(net, normal(2, 6), normal(2, 7))


def random_network_output(x, width, rng):
    """Channels of conv, residual(relu, conv), relu, 2 x 2 average pool, conv at finite width."""

    def conv(h, w_std):
        padded = np.pad(h, [(0, 0), (1, 1), (1, 1), (0, 0)])
        patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        weights = rng.standard_normal((h.shape[-1], 3, 3, width))
        return (
            w_std
            * np.einsum("nhwcij,cijo->nhwo", patches, weights, optimize=True)
            / np.sqrt(9 * h.shape[-1])
        )

    h = conv(x, 1.2)
    h = h + conv(np.maximum(h, 0), 1.1)
    h = np.maximum(h, 0)
    n, height, w, c = h.shape
    h = h.reshape(n, height // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    return conv(h, 1.3).mean(axis=(1, 2))


def test_nngp_is_the_covariance_of_wide_random_networks():
    x, rng, width, draws = normal(3, 4, 4, 2), np.random.default_rng(1), 96, 60
    same = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
    branch = [RELU, {**same, "W_std": 1.1}]
    pool = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}
    net = network(
        (4, 4, 2),
        {**same, "W_std": 1.2},
        {"layer": "Residual", "branch": branch, "shortcut": []},
        RELU,
        pool,
        {**same, "W_std": 1.3},
        GAP,
    )
    samples = [random_network_output(x, width, rng) for _ in range(draws)]
    empirical = np.mean([s @ s.T / width for s in samples], axis=0)
    want = reference.kernel(net, x).nngp
    # a standard error of 2 % of the largest entry plus a bias of order 1 / width: 1 to 3 % were
    # seen over seeds
    np.testing.assert_allclose(empirical, want, rtol=0, atol=0.1 * want.max())


def test_zero_images_stay_exactly_zero_behind_a_sign() -> None:
    """2/pi asin(0) by a rounded angle is 1e-16, which a LayerNorm and a Sign behind it make 1."""
    body = [DENSE | {"b_std": 0.0}, {"layer": "LayerNorm"}, {"layer": "Sign"}]
    pool = {"layer": "AvgPool", "window_shape": [2, 1], "padding": "CIRCULAR"}
    body = [pool, *body]
    net = network((4, 3, 2), {"layer": "Repeat", "times": 2, "body": body}, GAP, DENSE)
    x = normal(3, 4, 3, 2)
    x[1] = 0
    found = reference.kernel(net, x)
    bias = DENSE["b_std"] ** 2
    np.testing.assert_array_equal(found.nngp[1], [bias] * 3)
    np.testing.assert_array_equal(found.ntk[1], [bias] * 3)
    assert found.nngp[0, 0] > 0.1


def test_two_zero_inputs_are_one_input() -> None:
    """Biases that are trained at variance 0 make T of zeros, with Kdot where c has no value: the
    kernel of two zero inputs is that of one with itself, as the engine has it."""
    trained = {"layer": "Dense", "b_std": 0.0, "b_grad": 1.3}
    plain = {"layer": "Dense"}
    x = np.array([[0.0, 0.0], [1.0, 2.0], [0.0, -0.0]])
    net = network((2,), trained, RELU, plain)
    found = reference.kernel(net, x).ntk
    assert found[0, 0] == found[0, 2] == found[2, 0] == 1.3 / 2
    np.testing.assert_allclose(widegram.kernel(net, x, get="ntk"), found, rtol=1e-14)
    # Dropout treats them apart: an input alone is divided by its rate.
    net = network((2,), trained, RELU, {"layer": "Dropout", "rate": 0.5}, plain)
    found = reference.kernel(net, x).ntk
    assert found[0, 2] < found[0, 0] == 1.3
