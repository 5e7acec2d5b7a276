"""Parameters of :class:`~widegram.network.layers.Trained` that must agree with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from widegram.errors import WidegramError
from widegram.network.layers import Convolution, Dense, Layer, Readouts, Repeat, Residual


def check(values: Mapping[str, Any], path: str) -> None:
    """Refuse checked parameters of a layer that contradict each other.

    Raises:
        WidegramError: 'standard' without ``width``, or ``b_grad`` together with ``b_rate``.
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
    """The layers without widths where no layer of the 'standard' parameterization reads any."""
    return layers if _has_standard(layers) else _without_widths(layers)


def _has_standard(layers: Iterable[Layer]) -> bool:
    for layer in layers:
        match layer:
            case Convolution() | Dense():
                if layer.parameterization == "standard":
                    return True
            case Residual(branch=branch, shortcut=shortcut):
                if _has_standard((*branch, *shortcut)):
                    return True
            case Repeat(body=body):
                if _has_standard(body):
                    return True
            case Readouts(heads=heads):
                if any(_has_standard(head) for _, head in heads):
                    return True
    return False


def _without_widths(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(_without_width(layer) for layer in layers)


def _without_width(layer: Layer) -> Layer:
    match layer:
        case Convolution() | Dense() if layer.width is not None:
            return replace(layer, width=None)
        case Residual(branch=branch, shortcut=shortcut):
            return Residual(_without_widths(branch), _without_widths(shortcut))
        case Repeat(times=times, body=body):
            return Repeat(times, _without_widths(body))
        case Readouts(heads=heads):
            return Readouts(tuple((name, _without_widths(head)) for name, head in heads))
    return layer
