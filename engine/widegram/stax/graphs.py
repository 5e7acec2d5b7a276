"""Layers whose maps between pixels are each input's own, with neural-tangents' signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from widegram.errors import WidegramError, shown
from widegram.network.layers import GlobalSelfAttention as Attention
from widegram.stax.axes import layers_of
from widegram.stax.branches import Placed
from widegram.stax.kernel_fn import Triple, triple
from widegram.stax.making import integers, make, number, width_of
from widegram.stax.places import axes_of, placed


class AggregateImplementation(Enum):
    """How patterns are written; the name may be given as text."""

    DENSE = "DENSE"
    SPARSE = "SPARSE"


def _same(pattern: Any) -> Any:
    """A pattern as it is."""
    return pattern


def Aggregate(
    aggregate_axis: int | Sequence[int] | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    to_dense: Callable[[Any], Any] | None = _same,
    implementation: str | AggregateImplementation = "DENSE",
) -> Triple:
    """Sums over the vertices that send to each vertex, the pixels along ``aggregate_axis`` or all.

    Which do, ``kernel_fn(x1, x2, get, pattern=(pattern1, pattern2))`` is told. Without patterns it
    does nothing. ``implementation``:

    * 'DENSE': weights (n, sizes, sizes) from each to each, which ``to_dense`` may decode
    * 'SPARSE': integers (n, edges, axes, 2)

    Raises WidegramError for a ``to_dense`` that is no function, and as any layer.
    """
    places = axes_of("Aggregate", batch_axis, channel_axis)
    name = implementation.value if isinstance(implementation, Enum) else implementation
    axes = None if aggregate_axis is None else integers(_listed(aggregate_axis))
    made = make("Aggregate", aggregate_axis=axes, implementation=name)
    if to_dense is not None and not callable(to_dense):
        raise WidegramError(f"stax.Aggregate: to_dense must be a function, found {shown(to_dense)}")
    (layer,) = layers_of(made[2].items)
    dense = str(name).upper() == "DENSE" and to_dense is not _same
    return triple(Placed(layer, places, to_dense if dense else None))


def _listed(axes: Any) -> Any:
    return axes if isinstance(axes, Sequence) else (axes,)


class AttentionMechanism(Enum):
    """What becomes of dot products of keys and queries; the name may be given as text."""

    ABS = "ABS"
    IDENTITY = "IDENTITY"
    RELU = "RELU"
    SOFTMAX = "SOFTMAX"


class PositionalEmbedding(Enum):
    """How positional embeddings join the input; the name may be given as text."""

    CONCAT = "CONCAT"
    NONE = "NONE"
    SUM = "SUM"


def GlobalSelfAttention(  # noqa: PLR0913  (neural-tangents')
    n_chan_out: int,
    n_chan_key: int,
    n_chan_val: int,
    n_heads: int,
    linear_scaling: bool = True,
    W_key_std: float = 1.0,
    W_value_std: float = 1.0,
    W_query_std: float = 1.0,
    W_out_std: float = 1.0,
    b_std: float | None = None,
    attention_mechanism: str | AttentionMechanism = "SOFTMAX",
    pos_emb_type: str | PositionalEmbedding = "NONE",
    pos_emb_p_norm: float = 2,
    pos_emb_decay_fn: str | Callable[[Any], Any] | None = None,
    n_chan_pos_emb: int | None = None,
    W_pos_emb_std: float = 1.0,
    val_pos_emb: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Self-attention between all pixels, of infinitely many heads and channels
    (:mod:`widegram.network.attention`); the three numbers behind ``n_chan_out`` change nothing.

    ``pos_emb_decay_fn`` is a function of an array of distances, or an expression in x, such as
    ``'exp(-x)'``.
    """
    places = axes_of("GlobalSelfAttention", batch_axis, channel_axis)
    own = pos_emb_decay_fn if callable(pos_emb_decay_fn) else None
    names = (
        given.value if isinstance(given, Enum) else given
        for given in (attention_mechanism, pos_emb_type)
    )
    made = make(
        "GlobalSelfAttention",
        linear_scaling=linear_scaling,
        W_key_std=number(W_key_std),
        W_value_std=number(W_value_std),
        W_query_std=number(W_query_std),
        W_out_std=number(W_out_std),
        b_std=number(b_std),
        attention_mechanism=next(names),
        pos_emb_type=next(names),
        pos_emb_p_norm=number(pos_emb_p_norm),
        pos_emb_decay_fn=None if own else pos_emb_decay_fn,
        n_chan_pos_emb=n_chan_pos_emb,
        W_pos_emb_std=number(W_pos_emb_std),
        val_pos_emb=val_pos_emb,
        width=width_of(n_chan_out),
    )
    (layer,) = layers_of(made[2].items)
    if own is not None and isinstance(layer, Attention) and layer.pos_emb_type != "NONE":
        made = triple(replace(layer, pos_emb_decay_fn=own))
    return placed(made, places)
