"""What one entry of K behind a layer reads of K before it, from the dense reference itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.network.layers import Conv, ConvLocal, ConvTranspose, ImageResize, Pool
from widegram.network.load import load_network
from widegram.reference import pixel_pairs as pairs

Array = NDArray[np.float64]
PIXELS = 8
_ALONG = (1,)  # the axis of a sequence


def _layer(name: str, **parameters: Any) -> Any:
    layers = [{"layer": name, **parameters}, {"layer": "Flatten"}]
    return load_network({"input_shape": [PIXELS, 1], "layers": layers}).layers[0]


def _conv(**more: Any) -> Conv:
    found: Conv = _layer("Conv", filter_shape=[3], padding="SAME", **more)
    return found


def _pool(**more: Any) -> Pool:
    found: Pool = _layer("AvgPool", window_shape=[2], strides=[2], **more)
    return found


def _local() -> Callable[[Array], Array]:
    layer: ConvLocal = _layer("ConvLocal", filter_shape=[3], padding="SAME")
    return lambda a: pairs.between_equal_pixels(pairs.window_means(a, layer, _ALONG))


def _transposed() -> Callable[[Array], Array]:
    layer: ConvTranspose = _layer(
        "ConvTranspose", filter_shape=[3], strides=[2], padding="SAME"
    )
    return lambda a: pairs.transposed(a, layer, _ALONG)


def _resized() -> Callable[[Array], Array]:
    layer: ImageResize = _layer("ImageResize", shape=[-1, PIXELS // 2, -1], method="linear")
    return lambda a: pairs.resized(a, layer, _ALONG)


_GRAPH = np.zeros((1, PIXELS, PIXELS))
_GRAPH[0, [0, 2, 3, 5, 6], [3, 3, 6, 6, 6]] = 1.0


def _aggregated(a: Array) -> Array:
    once = pairs.aggregated(a, _GRAPH, [1])
    return pairs.turned(pairs.aggregated(pairs.turned(once), _GRAPH, [1]))


# name -> (what K becomes, the pixels (p, p') of the entry that is shown)
LAYERS: dict[str, tuple[Callable[[Array], Array], tuple[int, int]]] = {
    "Dense, activations, Dropout": (lambda a: a, (2, 5)),
    "Conv 3, SAME": (lambda a: pairs.window_means(a, _conv(), _ALONG), (2, 5)),
    "Conv 3, strides 2": (lambda a: pairs.window_means(a, _conv(strides=[2]), _ALONG), (1, 2)),
    "ConvLocal 3, p = p'": (_local(), (3, 3)),
    "ConvLocal 3, p ≠ p'": (_local(), (2, 5)),
    "AvgPool 2, strides 2": (lambda a: pairs.pool_windows(a, _pool(), _ALONG), (1, 3)),
    "GlobalAvgPool": (lambda a: pairs.over_all_pixels(a, "avg"), (0, 0)),
    "Flatten": (pairs.mean_of_equal_pixels, (0, 0)),
    "ConvTranspose 3, strides 2": (_transposed(), (5, 9)),
    "ImageResize 8 to 4": (_resized(), (1, 2)),
    "Aggregate": (_aggregated, (3, 6)),
}


def footprint(name: str) -> Array:
    """Weights (PIXELS, PIXELS) of the entries of K before that one entry behind the layer reads."""
    made, (p, q) = LAYERS[name]
    units = np.eye(PIXELS**2).reshape(-1, 1, PIXELS, 1, PIXELS)
    return np.asarray(made(units))[:, 0, p, 0, q].reshape(PIXELS, PIXELS)
