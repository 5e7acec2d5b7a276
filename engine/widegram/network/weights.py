"""Which branches have weights of their own.

Branches that meet are taken for independent. Two without weights of their own are not: both have
their values from the same weights in front of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from widegram.machine.log import logger
from widegram.network.kinds import layer_name
from widegram.network.layers import (
    Convolution,
    Dense,
    FanIn,
    FanInConcat,
    GlobalSelfAttention,
    Layer,
    Repeat,
    Residual,
    lists_inside,
    named_lists,
)


def have_weights(layers: Iterable[Layer]) -> bool:
    """Whether some layer has weights; of a Residual or another fan-in, in its first branch."""
    for layer in layers:
        match layer:
            case Convolution() | Dense() | GlobalSelfAttention():
                return True
            case Residual(branch=inner) | Repeat(body=inner) | FanIn(branches=(inner, *_)):
                if have_weights(inner):
                    return True
    return False


def have_own(layers: Iterable[Layer]) -> bool:
    """Whether no way through ``layers`` is without a layer that has weights."""
    return any(_has_own(layer) for layer in layers)


def _has_own(layer: Layer) -> bool:
    match layer:
        case Convolution() | Dense() | GlobalSelfAttention():
            return True
        case Residual(branch, shortcut):
            return have_own(branch) and have_own(shortcut)
        case FanIn(branches=branches):
            return all(have_own(branch) for branch in branches)
        case Repeat(body=body):
            return have_own(body)
    return False


def announce(layers: Sequence[Layer]) -> None:
    """Log a warning, once in a process, for layers where several branches without weights meet:
    they count as independent, as in neural-tangents, but a finite network's are not."""
    for path, branches in _dependent(layers, "layers"):
        _say(
            f"{path}: {branches} of its branches have no weights of their own and count as "
            "independent, as in neural-tangents; of a finite network they are not"
        )


@cache
def _say(message: str) -> None:
    logger.warning("%s", message)


def _dependent(layers: Sequence[Layer], where: str) -> Iterator[tuple[str, int]]:
    """Paths of layers where several branches without weights of their own meet, and how many."""
    for i, layer in enumerate(layers):
        path = f"{where}[{i}] {layer_name(layer)}"
        # Of channels side by side each is one branch's: no kernel of two branches is needed.
        channels = isinstance(layer, FanInConcat) and layer.axis in (-1, 3)
        if isinstance(layer, Residual | FanIn) and not channels:
            bare = sum(not have_own(branch) for branch in lists_inside(layer))
            if bare > 1:
                yield path, bare
        for name, inner in named_lists(layer):
            yield from _dependent(inner, f"{path}.{name}")
