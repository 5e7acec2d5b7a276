"""What masks mean in layers: against networks of finite width, and against unmasked inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mask_examples
from masked_networks import BIASED, BOTH, CASES, ERF, GSP, holed, masked, normed
from network_specs import DENSE, GAP, RELU, load
from widegram import kernel, reference


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
