"""Functions of distances that a user gives attention, as tables: a network is data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from widegram.errors import WidegramError, of_the_user
from widegram.network.attention import distances
from widegram.network.layers import GlobalSelfAttention, Layer, lists_inside, with_lists
from widegram.network.shapes import follow


def tabulated(
    layers: tuple[Layer, ...], shape: tuple[int, ...], raw: bool = True, gaussian: bool = False
) -> tuple[Layer, ...]:
    """The layers with a table in place of each function, of the distances between pixels that
    inputs of ``shape`` have there; ``raw`` and ``gaussian`` as of
    :class:`~widegram.network.piece.Piece`.

    Raises WidegramError where a function fails, or gives no number for a distance.
    """
    if not have_functions(layers):
        return layers
    rows = follow(shape, layers, raw, gaussian).rows
    shapes = (before for path, before, _ in rows if path.endswith(" GlobalSelfAttention"))

    def walk(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        return tuple(
            _with_table(layer, next(shapes)) if isinstance(layer, GlobalSelfAttention)
            else with_lists(layer, walk) for layer in layers
        )  # fmt: skip

    return walk(layers)


def have_functions(layers: Sequence[Layer]) -> bool:
    """Whether some attention has a function of Python's."""
    return any(callable(layer.pos_emb_decay_fn) for layer in _attentions(layers))


def _attentions(layers: Sequence[Layer]) -> Iterator[GlobalSelfAttention]:
    for layer in layers:
        if isinstance(layer, GlobalSelfAttention):
            yield layer
        for inside in lists_inside(layer):
            yield from _attentions(inside)


def _with_table(layer: GlobalSelfAttention, shape: tuple[int, ...]) -> GlobalSelfAttention:
    function: Any = layer.pos_emb_decay_fn
    if not callable(function):
        return layer
    apart = distances(layer, shape)
    with of_the_user(
        "stax.GlobalSelfAttention: pos_emb_decay_fn fails for an array of distances"
    ):
        made = np.asarray(function(apart), dtype=np.float64)
        values = np.broadcast_to(made, apart.shape)
    if not np.isfinite(values).all():
        raise WidegramError(
            "stax.GlobalSelfAttention: pos_emb_decay_fn has no finite value at distance "
            f"{apart[~np.isfinite(values)][0]:g}"
        )
    return replace(layer, pos_emb_decay_fn=tuple(zip(apart.tolist(), values.tolist(), strict=True)))
