"""How many entries the dense reference can compute as a second opinion, from the size of a network.

A run on one pair of images passes tensors over all pixel pairs through every layer. An entry takes
three: its two images with themselves, and with each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from widegram import activations
from widegram.activations.hermite import Series
from widegram.data.flipped import turns
from widegram.network import Network
from widegram.network.layers import Activation, Layer, lists_inside

# Numbers that pass through a layer in all: 10 to 20 s of one core at about 0.1 us each.
WORK = 2e8
MOST = 16
_RUNS = 3
_TENSORS = 10
# A Hermite series takes as long as this many layers (measured: 5 to 50, the more the fewer pixels).
_SERIES = 10


def affordable_entries(
    network: Network, depths: Sequence[int] = (), memory: int = 2**30
) -> int:
    """How many entries the reference computes within :data:`WORK`, at most 16; 0: the images are
    too large for it, by that or because the tensors of one pair exceed half of ``memory`` bytes.

    ``depths``: those of a sweep, each of which is computed on its own, as are heads.
    """
    pixels = max(_pixels(before) for _, before, _ in network.unrolled().shapes())
    if 8 * _TENSORS * pixels**2 > memory // 2:
        return 0
    turned = len(turns(network.augment)) ** 2
    cost = _RUNS * turned * sum(_work(each) for each in network.ending(tuple(depths)).values())
    return min(MOST, int(WORK // cost))


def _work(network: Network) -> float:
    """Numbers that pass through the layers of one run, counted as of plain layers."""
    unrolled = network.unrolled()
    shapes = (_pixels(before) ** 2 for _, before, _ in unrolled.shapes())
    return float(sum(n * w for n, w in zip(shapes, _weights(unrolled.layers), strict=True)))


def _weights(layers: tuple[Layer, ...]) -> list[int]:
    """The cost of each layer in the order of :meth:`Network.shapes`, as a multiple."""
    found: list[int] = []
    for layer in layers:
        found.append(1)
        for inner in lists_inside(layer):
            found += _weights(inner)
        if isinstance(layer, Activation):
            formula = activations.get(layer.name, dict(layer.params))
            found[-1] = _SERIES if isinstance(formula, Series) else 1
    return found


def _pixels(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
