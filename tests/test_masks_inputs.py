"""Which numbers of inputs are masked, and which are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agreement import PROMISED
from masked_networks import BOTH, CASES, masked
from network_specs import DENSE, RELU, load
from test_cpu_properties import kernels
from widegram import kernel, reference
from widegram.data import open_source
from widegram.errors import WidegramError


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


def test_what_is_not_masked_is_finite() -> None:
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
