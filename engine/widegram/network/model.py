"""A validated network as a value: canonical form, fingerprint, depth sweeps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from widegram.errors import WidegramError
from widegram.network.checks import nearest
from widegram.network.layers import Layer, Readouts, Repeat, with_lists
from widegram.network.masking import Mask, check_masked, parse_mask
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

    ``augment``: flips of the images; its kernels are the means over all that they make of both.
    ``mask``: numbers of inputs that equal it are masked, None without; NaN and the infinities are
    their names (see :mod:`widegram.network.masking`).

    Construction checks every layer and fills in the defaults of activations, so that two equal
    networks compare and hash as equal.

    Raises:
        WidegramError: a bad parameter, layers that do not fit, or no exact kernel (names the
            layer and what to do).
    """

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    augment: tuple[str, ...] = ()
    mask: Mask = None

    def __post_init__(self) -> None:
        layers = without_unread_widths(parse_layers(write_layers(self.layers)))
        if not layers:
            raise WidegramError("layers: the network has no layers")
        object.__setattr__(self, "input_shape", parse_input_shape(self.input_shape))
        object.__setattr__(self, "layers", layers)
        rows = infer(self.input_shape, layers)
        object.__setattr__(self, "augment", parse_augment(self.augment))
        if self.augment:
            self._check_augment()
        object.__setattr__(self, "mask", parse_mask(self.mask))
        if self.mask is not None:
            check_masked(layers, self.input_shape[-1], {path: after for path, _, after in rows})

    def _check_augment(self) -> None:
        if len(self.input_shape) != 3:
            raise WidegramError(
                f"augment: {', '.join(self.augment)} turns images (H, W, C), the input has shape "
                f"{list(self.input_shape)}"
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
        found = {"input_shape": list(self.input_shape), "layers": write_layers(self.layers)}
        found |= {"augment": list(self.augment)} if self.augment else {}
        return found | ({} if self.mask is None else {"mask": self.mask})

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
        return infer(self.input_shape, self.layers)

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

        Raises:
            WidegramError: there is no such head.
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

        Raises:
            WidegramError: there is not exactly one.
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

        Raises:
            WidegramError: no such Repeat, or the network does not fit at this depth.
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
