"""The layers that map pixels to pixels, as nodes of a graph."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from widegram.network import attention, maps
from widegram.network.contribution import Contribution, bias_variance
from widegram.network.kinds import layer_name
from widegram.network.layers import (
    Aggregate,
    ConvTranspose,
    DotGeneral,
    GlobalSelfAttention,
    ImageResize,
    Padding,
)
from widegram.plan.attention import Attend, Kept, RootAttend
from widegram.plan.graph_building import Building
from widegram.plan.hiding import Spreading
from widegram.plan.joined import scaled_by
from widegram.plan.maps import EachMap, Matrix
from widegram.plan.operation_base import Array
from widegram.plan.operations import Affine


def transposed(layer: ConvTranspose, at: int, graph: Building) -> int:
    """Pixels set apart, then a window of stride 1."""
    (a, b), strides = (graph.pair(n, at) for n in (layer.filter_shape, layer.strides))
    before = graph.nodes[at].shape
    sizes = zip(before, (a, b), strides, strict=True)
    rows, cols = (maps.transposed(*each, layer.padding) for each in sizes)
    shape, lo = (rows.out, cols.out), (rows.lo, cols.lo)
    if shape != before:
        ends = zip(before, strides, (rows, cols), strict=True)
        at = graph.mapped(layer, [maps.stuffing(*end) for end in ends], at, shape)
    circular = layer.padding == "CIRCULAR" and a * b > 1
    gain, bias = layer.W_std**2 / (a * b), bias_variance(layer)
    own = graph.contribution(layer, at)
    hi = a - 1 - rows.lo, b - 1 - cols.lo
    geometry = (a, b), (1, 1), lo, circular, hi, gain, bias, own
    op = Affine(*geometry)
    if graph.hidden is not None:
        first = rows.first, cols.first
        axes = zip(before, (a, b), strides, first, shape, strict=True)
        reached = tuple(_reached(*axis, layer.padding) for axis in axes)
        op = Spreading(*geometry, reached=reached)
    return graph.add(op, (at,), shape, graph.nonnegative[at])


def resized(layer: ImageResize, at: int, graph: Building) -> int:
    """A map of the rows and one of the columns; nothing where no size changes."""
    before = graph.nodes[at].shape
    known = [before[axis] for axis in graph.axes[at]]
    shape = graph.pair(maps.resized(layer, tuple(known), graph.where), at)
    if shape == before:
        return at
    sizes = zip(before, shape, strict=True)
    matrices = [maps.resizing(*size, layer.method, layer.antialias) for size in sizes]
    return graph.mapped(layer, matrices, at, shape)


def dotted(layer: DotGeneral, at: int, graph: Building) -> int:
    """A map of all pixels, or the product with a number."""
    factor, known = maps.scalar(layer), graph.axes[at]
    if factor is not None:
        sign, shape = graph.nonnegative[at] and factor >= 0, graph.nodes[at].shape
        number = scaled_by(graph.rounded(factor**2))
        return at if factor == 1 else graph.add(number, (at,), shape, sign)
    spatial = tuple(graph.nodes[at].shape[axis] for axis in known)
    made = maps.dotted(layer, spatial, graph.where)
    sizes = dict(zip(known, made, strict=False))
    matrix = maps.dotting(layer, spatial, graph.where)
    shape = sizes.get(0, 1), sizes.get(1, 1)
    return graph.mapped(layer, [matrix], at, shape, known[: len(made)])


def aggregated(layer: Aggregate, at: int, graph: Building) -> int:
    """A map by the weights that come with each input."""
    known = graph.axes[at]
    along = tuple(known[axis] for axis in layer.axes(len(known)))
    source = graph.stored(graph.mixable(at))
    size = math.prod(graph.nodes[at].shape[axis] for axis in along)
    where = f"{graph.where} {layer_name(layer)}"
    # Weights may be negative.
    op = EachMap(size, along, graph.received, where)
    return graph.add(op, (source,), graph.nodes[at].shape, False)


def attended(layer: GlobalSelfAttention, at: int, graph: Building) -> int:
    """Positional embeddings, the map by weights, and what keys, values, outputs and biases add."""
    shape, known = graph.nodes[at].shape, graph.axes[at]
    part, embedded = attention.mixture(layer, graph.channels[at])
    covariance = attention.embeddings(layer, tuple(shape[axis] for axis in known))
    source = graph.add(Kept(), (graph.mixable(at),), shape, graph.nonnegative[at])
    op, gain, parts = _weighed(layer, Attended(part, embedded * covariance), at, graph)
    gain = graph.rounded(gain)
    at = graph.add(op, (source,), shape, False)
    bias = graph.rounded((layer.b_std or 0.0) ** 2)
    one, own = (1, 1), Contribution(parts * gain, bias)
    affine = Affine(one, one, (0, 0), False, (0, 0), gain, bias, own)
    return graph.add(affine, (at,), shape, False)


class Attended(NamedTuple):
    """The covariance of keys: ``input`` times that of pixels, plus ``embedded``."""

    input: float
    embedded: Array


def _weighed(
    layer: GlobalSelfAttention, keys: Attended, at: int, graph: Building
) -> tuple[Attend | RootAttend, float, int]:
    """The operation that weighs pixels, the gain behind it, and how many kinds of weights add that
    to T. Of keys w K + e R a factor w is left to the gain where the operation takes K + e R / w."""
    known, size = graph.axes[at], math.prod(graph.nodes[at].shape)
    where, part = f"{graph.where} {layer_name(layer)}", keys.input
    shift = Matrix(graph.rounded_all(keys.embedded / part))
    gain = (layer.W_out_std * layer.W_value_std) ** 2
    if not layer.linear_scaling:
        gain *= (layer.W_query_std * layer.W_key_std) ** 2 * part ** (2 + layer.val_pos_emb)
        root = RootAttend(size, known, 1.0, where, values=layer.val_pos_emb, shift=shift)
        return root, gain, 4
    embedded = layer.val_pos_emb and bool(keys.embedded.any())
    op = Attend(size, known, 1.0, where, layer=layer, input=part, embedded=Matrix(keys.embedded),
                shift=shift if embedded else None)  # fmt: skip
    return op, gain * part if embedded else gain, 2


def _reached(size: int, window: int, stride: int, first: int, out: int, mode: Padding) -> Matrix:
    """Which pixels that were set apart, from ``first`` on, reach which of ``out`` (row) along an
    axis."""
    found = np.zeros((out, out))
    found[:, first + stride * np.arange(size)] = maps.reached(size, window, stride, mode)
    return Matrix(found)
