"""Parameters of :class:`~widegram.network.layers.Trained` that must agree with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from widegram.errors import WidegramError
from widegram.network.layers import (
    Convolution,
    Dense,
    FanInConcat,
    GlobalSelfAttention,
    Layer,
    lists_inside,
    with_lists,
)


def check(values: Mapping[str, Any], path: str) -> None:
    """Refuse checked parameters of a layer that contradict each other.

    Raises WidegramError for 'standard' without ``width``, and for ``b_grad`` together with
    ``b_rate``.
    """
    if values.get("b_grad") is not None and values["b_rate"] != 1:
        raise WidegramError(
            f"{path}: b_grad sets what b_rate multiplies; leave one of the two parameters out"
        )
    if values.get("parameterization") == "standard" and values["width"] is None:
        raise WidegramError(
            f"{path}: parameter 'width' is missing; parameterization 'standard' depends on the "
            "output channels of layers"
        )


def without_unread_widths(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers without widths where none reads any: of the 'standard' parameterization, or one
    that counts branches or embeddings by their channels."""
    return layers if _reads_widths(layers) else _without_widths(layers)


def _reads_widths(layers: Iterable[Layer]) -> bool:
    for layer in layers:
        match layer:
            case Convolution() | Dense():
                if layer.parameterization == "standard":
                    return True
            case GlobalSelfAttention():
                if layer.n_chan_pos_emb is not None:
                    return True
            case FanInConcat():
                return True
            case _ if any(_reads_widths(inner) for inner in lists_inside(layer)):
                return True
    return False


def _without_widths(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(_without_width(layer) for layer in layers)


def _without_width(layer: Layer) -> Layer:
    if isinstance(layer, Convolution | Dense | GlobalSelfAttention):
        return layer if layer.width is None else replace(layer, width=None)
    return with_lists(layer, _without_widths)
