"""Layers whose first and last weights stay as they were drawn: learning rates 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from widegram.network.layers import Convolution, Dense, Layer, Repeat, lists_inside, with_lists


def count_weights(layers: Iterable[Layer]) -> int:
    """How many Dense and convolutions there are, each repeat counted."""
    count = 0
    for layer in layers:
        match layer:
            case Convolution() | Dense():
                count += 1
            case Repeat(times=times, body=body):
                count += times * count_weights(body)
            case _:
                count += sum(count_weights(inner) for inner in lists_inside(layer))
    return count


def with_fixed(layers: tuple[Layer, ...], first: int, last: int) -> tuple[Layer, ...]:
    """The layers, the ``first`` and ``last`` of those with weights fixed, in the order of a
    specification. What is fixed inside of a Repeat is written out before and behind it."""
    return _Fixing(first, count_weights(layers) - last).through(layers)


@dataclass
class _Fixing:
    """``at``: layers with weights passed so far; those from ``first`` to ``last`` are trained."""

    first: int
    last: int
    at: int = 0

    def through(self, layers: Iterable[Layer]) -> tuple[Layer, ...]:
        return tuple(made for layer in layers for made in self.layer(layer))

    def layer(self, layer: Layer) -> tuple[Layer, ...]:
        match layer:
            case Convolution() | Dense():
                trained = self.first <= self.at < self.last
                self.at += 1
                return (layer if trained else replace(layer, W_rate=0.0, b_rate=0.0, b_grad=None),)
            case Repeat(times=times, body=body):
                return self.repeat(times, body)
        return (with_lists(layer, self.through),)

    def repeat(self, times: int, body: tuple[Layer, ...]) -> tuple[Layer, ...]:
        size = max(1, count_weights(body))
        begin = min(times, max(0, -(-(self.first - self.at) // size)))
        end = max(begin, min(times, (self.last - self.at) // size))
        before = [made for _ in range(begin) for made in self.through(body)]
        self.at += (end - begin) * size
        inside = [Repeat(end - begin, body)] if end > begin else []
        behind = [made for _ in range(times - end) for made in self.through(body)]
        return (*before, *inside, *behind)
