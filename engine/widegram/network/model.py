"""A validated network as a value: canonical form, fingerprint, depth sweeps."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from widegram.errors import WidegramError
from widegram.network.checks import nearest
from widegram.network.inputs import Shapes, check_first, parse_shapes
from widegram.network.layers import Layer, Readouts, Repeat, with_lists
from widegram.network.masking import Masks, check_masked, parse_masks
from widegram.network.shapes import LayerShapes, infer
from widegram.network.spec import (
    parse_augment,
    parse_input_shape,
    parse_layers,
    write_layers,
)
from widegram.network.trained import without_unread_widths
from widegram.tiling import End, ends


@dataclass(frozen=True)
class Network:
    """A network with its input shape: (D,) for vectors, (L, C) for sequences, (H, W, C) for images.

    * ``augment``: flips of the images; its kernels are the means over all that they make of both.
      A flip turns all images of a list at once, and leaves its vectors and sequences as they are.
    * ``mask``: numbers of inputs that equal it are masked, None without; NaN and the infinities are
      their names (see :mod:`widegram.network.masking`). Of several inputs one for each.
    * ``inputs``: of a network whose input is a list, the shape of each; ``input_shape`` is then
      (D,) of all their numbers, one after the other (:mod:`widegram.network.inputs`).

    Construction checks every layer and fills in the defaults of activations, so that two equal
    networks compare and hash as equal.

    Raises WidegramError, which names the layer and what to do, for a bad parameter, layers that do
    not fit, and where there is no exact kernel.
    """

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    augment: tuple[str, ...] = ()
    mask: Masks = None
    inputs: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        layers = without_unread_widths(parse_layers(write_layers(self.layers)))
        if not layers:
            raise WidegramError("layers: the network has no layers")
        inputs = parse_shapes(self.inputs) if self.inputs else ()
        row = (sum(map(math.prod, inputs)),) if inputs else parse_input_shape(self.input_shape)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "input_shape", row)
        object.__setattr__(self, "layers", layers)
        check_first(layers, self.inputs)
        rows = infer(self.input_shape, layers, self.inputs)
        object.__setattr__(self, "augment", parse_augment(self.augment))
        if self.augment:
            self._check_augment()
        object.__setattr__(self, "mask", parse_masks(self.mask, len(self.inputs)))
        if self.mask is not None:
            channels = [shape[-1] for shape in self.inputs] or [self.input_shape[-1]]
            check_masked(layers, channels, {path: after for path, _, after in rows})

    @property
    def expects(self) -> Shapes:
        """The shape of its input, of a list that of each."""
        return self.inputs or self.input_shape

    def _check_augment(self) -> None:
        if not any(len(shape) == 3 for shape in self.inputs or (self.input_shape,)):
            found = "list has none" if self.inputs else f"input has shape {list(self.input_shape)}"
            raise WidegramError(
                f"augment: {', '.join(self.augment)} turns images (H, W, C), the {found}"
            )
        dropout = [path for path, _, _ in self.shapes() if path.endswith("Dropout")]
        if dropout:
            raise WidegramError(
                f"{dropout[0]}: Dropout treats an input and its flip apart, and augment "
                "cannot say which of the two it sees; leave one of them out"
            )

        patterns = [path for path, _, _ in self.shapes() if path.endswith("Aggregate")]
        if patterns:
            raise WidegramError(
                f"{patterns[0]}: augment turns images, but not the patterns that Aggregate takes; "
                "leave one of them out"
            )

    def canonical(self) -> dict[str, Any]:
        """Return the specification with every parameter spelt out (``b_std`` null is 0.0 in the
        'ntk' parameterization), but for later ones that have their defaults."""
        shape = [list(s) if isinstance(s, tuple) else s for s in self.expects]
        found = {"input_shape": shape, "layers": write_layers(self.layers)}
        found |= {"augment": list(self.augment)} if self.augment else {}
        mask = list(self.mask) if isinstance(self.mask, tuple) else self.mask
        return found | ({} if mask is None else {"mask": mask})

    def to_json(self) -> str:
        """Return the canonical form as one line of JSON; ``load_network`` reads it back."""
        return json.dumps(self.canonical(), separators=(", ", ": "), allow_nan=False)

    def fingerprint(self) -> str:
        """Return the hex SHA-256 of the canonical form, whatever the formatting of its source."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def shapes(self) -> list[LayerShapes]:
        """Return (path, shape before, shape after) of every layer, nested ones included.

        Shapes are spatial: (H, W) for images, (L,) for sequences, () for vectors (channels are
        infinite).
        """
        return infer(self.input_shape, self.layers, self.inputs)

    @property
    def plain(self) -> Network:
        """The network without flips."""
        return replace(self, augment=()) if self.augment else self

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of its Readouts, sorted; () without."""
        last = self.layers[-1]
        return tuple(name for name, _ in last.heads) if isinstance(last, Readouts) else ()

    def at_head(self, name: str) -> Network:
        """Return the network that ends with one head of its Readouts.

        Raises WidegramError where there is no such head.
        """
        last = self.layers[-1]
        heads = dict(last.heads) if isinstance(last, Readouts) else {}
        if name not in heads:
            raise WidegramError(f"network: has no head {name!r}{nearest(name, heads)}")
        return replace(self, layers=(*self.layers[:-1], *heads[name]))

    def ending(self, depths: tuple[int, ...] = ()) -> dict[End, Network]:
        """Return a network without Readouts for each place where the kernels of this one are read
        out, at each of ``depths`` where there are any."""
        found = {}
        for end in ends(depths, self.heads):
            network = self if end.depth is None else self.at_depth(end.depth)
            found[end] = network if end.head is None else network.at_head(end.head)
        return found

    def unrolled(self) -> Network:
        """Return the same network with every Repeat written out."""
        return replace(self, layers=_unroll(self.layers))

    def sweep(self) -> tuple[tuple[Layer, ...], tuple[Layer, ...], int, tuple[Layer, ...]]:
        """Return (prefix, body, times, suffix) around the one top-level Repeat.

        Raises WidegramError unless there is exactly one.
        """
        at = [i for i, layer in enumerate(self.layers) if isinstance(layer, Repeat)]
        if len(at) != 1:
            raise WidegramError(
                "a depth sweep needs exactly one Repeat at the top level of the network, "
                f"found {len(at)}; write the repeated layers as "
                '{"layer": "Repeat", "times": n, "body": [...]}'
            )
        repeat = self.layers[at[0]]
        assert isinstance(repeat, Repeat)
        return self.layers[: at[0]], repeat.body, repeat.times, self.layers[at[0] + 1 :]

    def at_depth(self, depth: int) -> Network:
        """Return the network whose one top-level Repeat runs ``depth`` times (>= 1).

        Raises WidegramError without such a Repeat, and where the network does not fit at this
        depth.
        """
        prefix, body, _, suffix = self.sweep()
        try:
            return replace(self, layers=(*prefix, Repeat(depth, body), *suffix))
        except WidegramError as error:
            raise WidegramError(f"at depth {depth}: {error}") from None


def _unroll(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    out: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Repeat):
            out.extend(_unroll(layer.body) * layer.times)
        else:
            out.append(with_lists(layer, _unroll))
    return tuple(out)


def network_of(
    shape: Shapes, layers: tuple[Layer, ...], augment: tuple[str, ...] = (), mask: Any = None
) -> Network:
    """The network for an input of that shape, or for a list of inputs; raises as
    :class:`Network`."""
    inputs = tuple(one for one in shape if isinstance(one, tuple))
    row = tuple(one for one in shape if isinstance(one, int))
    return Network(row, layers, augment, mask, inputs)
