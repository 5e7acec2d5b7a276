"""The package's own names: what stands for a network, what is refused by name, odd arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import widegram
from widegram import WidegramError, stax

X = np.random.default_rng(8).standard_normal((5, 4))
TRIPLE = stax.serial(stax.Dense(1, 1.5, 0.1), stax.Relu(), stax.Dense(1))
SMALL = (1e-9, 1e-13, 1e-15, 1e-30)


@pytest.mark.parametrize("network", [TRIPLE, TRIPLE[2]], ids=["triple", "kernel_fn"])
def test_stax_networks_are_networks(network: Any, tmp_path: Path) -> None:
    expected = TRIPLE[2](X, None, ("nngp", "ntk"))
    found = widegram.kernel(network, X)
    np.testing.assert_array_equal(found.ntk, expected.ntk)
    widegram.gram(network, X, tmp_path / "K.h5", dtype="float64")
    with widegram.GramFile(tmp_path / "K.h5") as file:
        np.testing.assert_array_equal(file.dataset("nngp")[...], expected.nngp)
    assert widegram.load_network(network, (4,)) == TRIPLE[2].network((4,))
    with pytest.raises(WidegramError, match="give input_shape"):
        widegram.load_network(network)


def test_estimators_take_stax_networks() -> None:
    sklearn = pytest.importorskip("widegram.sklearn")
    y = X[:, 0]
    one, other = (
        sklearn.WidegramRegressor(network).fit(X, y).predict(X + 0.1)
        for network in (TRIPLE, TRIPLE[2].network((4,)))
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["monte_carlo_kernel_fn", "empirical_ntk_fn", "linearize"])
def test_missing_names_say_what_to_use(name: str) -> None:
    with pytest.raises(WidegramError, match=f"widegram.{name} is not supported: "):
        getattr(widegram, name)(TRIPLE)
    with pytest.raises(AttributeError, match="module 'widegram' has no attribute 'batches'"):
        widegram.batches  # noqa: B018


def test_batch_has_nothing_to_add() -> None:
    """neural-tangents' scripts call it with sizes that divide theirs, and others."""
    kernel_fn = TRIPLE[2]
    batched = widegram.batch(kernel_fn, device_count=0, batch_size=np.int64(7))
    np.testing.assert_array_equal(batched(X, None, "ntk"), kernel_fn(X, None, "ntk"))
    for arguments, message in (
        ((TRIPLE,), "kernel_fn is a tuple; it must be the third"),
        ((kernel_fn, -1), "batch_size must be an integer >= 0, found -1"),
        ((kernel_fn, 1.5), "batch_size must be an integer >= 0, found 1.5"),
        ((kernel_fn, True), "batch_size must be an integer >= 0, found True"),
        ((kernel_fn, 0, -2), "device_count must be an integer >= -1, found -2"),
    ):
        with pytest.raises(WidegramError, match=f"^batch: {message}"):
            widegram.batch(*arguments)


@pytest.mark.parametrize("scale", SMALL)
@pytest.mark.parametrize("activation", [stax.Relu(), stax.Erf()], ids=["relu", "erf"])
def test_small_test_inputs_are_not_the_training_inputs(scale: float, activation: Any) -> None:
    fn = stax.serial(stax.Dense(1), activation, stax.Dense(1))[2]
    a, b = X[:3] * scale, X[2:] * scale
    whole = fn(np.concatenate([a, b]), None, ("nngp", "ntk"))
    found = fn(a, b, None)
    assert not found.x1_is_x2
    for name in ("nngp", "ntk"):
        # Both are float64 and of one size; rounding is 1e-16 of an entry.
        size = np.abs(getattr(whole, name)).max()
        assert np.abs(getattr(found, name) - getattr(whole, name)[:3, 3:]).max() <= 1e-12 * size
    assert fn(a, a.copy(), "x1_is_x2")


ODD = [1.5, float("nan"), float("inf"), True, "4", object(), [1], np.array([2.0])]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["threads", "tile"])
def test_counts_are_integers(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(WidegramError, match=f"{name} is .*; it must be an integer"):
        widegram.gram(TRIPLE, X, tmp_path / "K.h5", **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("dtype 5 is unknown", {"dtype": 5}),
        ("dtype None is unknown", {"dtype": None}),
        ("dtype 'float16' is unknown", {"dtype": "float16"}),
        ("get 5 is not understood", {"get": 5}),
        ("get", {"get": []}),
        ("masked array", {"x1": np.ma.masked_less(X, 0)}),
        ("masked array", {"x2": np.ma.masked_less(X, 0)}),
        ("is not an array", {"x1": [[1.0], [1.0, 2.0]]}),
    ],
)
def test_odd_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(WidegramError, match=message):
        widegram.kernel(**{"network": TRIPLE, "x1": X, **options})
