"""Networks whose input is a list: what there is of each of several inputs.

Their first layer is a fan-in with ``parallel``, whose branch n acts on input n. All that lies
beneath layers sees one row of numbers for each list: those of its inputs, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from widegram.errors import WidegramError
from widegram.network.layers import Aggregate, FanIn, Layer, lists_inside
from widegram.network.spec import parse_input_shape
from widegram.validation import bounds

MOST = 64
Shape = tuple[int, ...]
# (D,), (L, C) or (H, W, C) of one input; of several, that of each.
Shapes = Shape | tuple[Shape, ...]


@dataclass(frozen=True)
class InputPart:
    """Where an input of a list lies in its row of numbers.

    * ``shape``: (h, w, C), as an image, whatever the input is
    * ``spatial``: its spatial axes: 2 of an image, 1 of a sequence, 0 of a vector
    * ``begin``: its first number in the row
    """

    shape: tuple[int, int, int]
    spatial: int
    begin: int

    @property
    def size(self) -> int:
        """How many numbers the input has."""
        return math.prod(self.shape)

    @property
    def numbers(self) -> slice:
        """The place of its numbers in a row."""
        return slice(self.begin, self.begin + self.size)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of (h, w), 0 and 1, that it has for layers."""
        return (0, 1)[2 - self.spatial :]


def parts_of(inputs: Sequence[Shape]) -> tuple[InputPart, ...]:
    """The parts of a row, of inputs (D,), (L, C) or (H, W, C); () without any."""
    found: list[InputPart] = []
    begin = 0
    for *spatial, channels in inputs:
        h, w = [1] * (2 - len(spatial)) + spatial
        found.append(InputPart((h, w, channels), len(spatial), begin))
        begin = found[-1].begin + found[-1].size
    return tuple(found)


def is_list(shape: Any) -> bool:
    """Whether a shape is that of several inputs."""
    return isinstance(shape, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in shape)


def parse_shapes(value: Any) -> Any:
    """Return a checked input shape, or for ``[[H, W, C], [D], ...]`` that of each input of a list.

    Raises WidegramError for what is no shape, and for a list of one.
    """
    if not is_list(value):
        return parse_input_shape(value)
    if len(value) == 1:
        raise WidegramError(
            "input_shape: is a list of one input; write its shape itself, and a first layer "
            "without 'parallel'"
        )
    if len(value) > MOST:
        raise WidegramError(f"input_shape: a list has at most {MOST} inputs, found {len(value):,}")
    if any(map(is_list, value)):
        raise WidegramError(
            "input_shape: has a list in the list; a network as data takes one list, a kernel_fn of "
            "stax lists in lists"
        )
    found = tuple(map(parse_input_shape, value))
    numbers = sum(map(math.prod, found))
    if numbers > bounds.NUMBERS:
        raise WidegramError(
            f"input_shape: inputs of one list have at most {bounds.NUMBERS:,} numbers together, "
            f"found {numbers:,}"
        )
    return found


def check_first(layers: Sequence[Layer], inputs: Sequence[Shape]) -> None:
    """Refuse layers that do not begin with a branch for each input, or have one of several inputs
    elsewhere.

    Raises WidegramError that names the layer.
    """
    first = layers[0]
    if inputs and not (isinstance(first, FanIn) and first.parallel):
        raise WidegramError(
            f"layers[0]: the input is a list of {len(inputs)}; begin with FanInSum, FanInProd or "
            'FanInConcat with "parallel": true and a branch for each of them'
        )
    if inputs and isinstance(first, FanIn) and len(first.branches) != len(inputs):
        raise WidegramError(
            f"layers[0] {type(first).__name__}: has {len(first.branches)} branches for "
            f"{len(inputs)} inputs; give one for each"
        )
    if not inputs and isinstance(first, FanIn) and first.parallel:
        raise WidegramError(
            f'layers[0] {type(first).__name__}: "parallel" takes a list of '
            f"{len(first.branches)} inputs, found one; give as many, or leave it out"
        )
    rest = (*lists_inside(first), tuple(layers[1:]))
    if any(_has(part, lambda layer: isinstance(layer, FanIn) and layer.parallel) for part in rest):
        raise WidegramError(
            'layers: "parallel" stands in the first layer alone; leave it out elsewhere'
        )
    if inputs and _has(layers, lambda layer: isinstance(layer, Aggregate)):
        raise WidegramError(
            "layers: Aggregate takes the pattern of one input, and is not supported where the "
            "input is a list; leave one of them out"
        )


def _has(layers: Sequence[Layer], wanted: Any) -> bool:
    return any(
        wanted(layer) or any(_has(inner, wanted) for inner in lists_inside(layer))
        for layer in layers
    )


def in_words(shape: Shapes) -> str:
    """A shape as specifications have it."""
    return str([list(s) if isinstance(s, tuple) else s for s in shape])
