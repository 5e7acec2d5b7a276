"""Layers that need not be a whole network: what comes before or behind them is not there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from widegram.network.kinds import layer_name
from widegram.network.layers import (
    Activation,
    Convolution,
    Dense,
    DotGeneral,
    Dropout,
    FanIn,
    Flatten,
    GlobalSelfAttention,
    Index,
    Layer,
    LayerNorm,
    Repeat,
    Residual,
    named_lists,
)
from widegram.network.masking import check_masked
from widegram.network.model import Network
from widegram.network.shapes import Ending, LayerShapes, follow

# Layers whose output at equal pixels is made of their input at equal pixels.
_LOCAL = (Convolution, Dense, Activation, LayerNorm, Dropout, Index)


@dataclass(frozen=True)
class Piece(Network):
    """Checked layers that may begin with values of other layers and end with an image.

    * ``raw``: they begin with inputs, of ``input_shape``; otherwise with what other layers made
    * ``gaussian``: whether that is Gaussian

    The dense reference alone computes it. Raises WidegramError as :class:`Network` does, but for
    an output that is an image.
    """

    raw: bool = True
    gaussian: bool = False

    def __post_init__(self) -> None:
        self.end  # noqa: B018  (found once, refused where layers do not fit)
        if self.mask is not None:
            check_masked(self.layers, [self.input_shape[-1]], {})

    @cached_property
    def end(self) -> Ending:
        """What it ends with."""
        return follow(self.input_shape, self.layers, self.raw, self.gaussian)

    def shapes(self) -> list[LayerShapes]:
        return list(self.end.rows)

    def measured(self) -> list[tuple[str, Layer]]:
        """Every activation and LayerNorm with its path, in the order in which values meet them."""
        return _measured(self.layers, "layers")

    def first_coupling(self) -> str | None:
        """The path of a layer that needs pairs of different pixels, None without."""
        found: list[str] = []
        _couplings(self.layers, "layers", found)
        return found[0] if found else None


def _measured(layers: tuple[Layer, ...], where: str) -> list[tuple[str, Layer]]:
    found: list[tuple[str, Layer]] = []
    for i, layer in enumerate(layers):
        path = f"{where}[{i}] {layer_name(layer)}"
        match layer:
            case Activation() | LayerNorm() | GlobalSelfAttention(linear_scaling=True):
                found.append((path, layer))
            case Repeat():
                found += layer.times * _measured(layer.body, f"{path}.body")
            case _:
                for name, inner in named_lists(layer):
                    found += _measured(inner, f"{path}.{name}")
    return found


def _couplings(layers: tuple[Layer, ...], where: str, found: list[str]) -> bool:
    """Note layers that are not known to need equal pixels alone, up to a Flatten, behind which
    there are no pixels; whether there was one."""
    for i, layer in enumerate(layers):
        path = f"{where}[{i}] {layer_name(layer)}"
        match layer:
            case Flatten():
                return True
            case Residual() | FanIn() | Repeat():
                ends = [
                    _couplings(inner, f"{path}.{name}", found) for name, inner in named_lists(layer)
                ]
                if any(ends):
                    return True
            case DotGeneral(dimension_numbers=((first, _), _)) if not first:
                pass
            case _ if not isinstance(layer, _LOCAL):
                found.append(path)
            case _:
                pass
    return False
