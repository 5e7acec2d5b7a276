"""The table of maps that the compiled driver reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.fields import Ints
from widegram.cpu.kernel_numbers import KernelNumbers
from widegram.cpu.kernels.fields import MapField
from widegram.cpu.kernels.variants import Variant
from widegram.plan.graph_building import Node
from widegram.plan.maps import EachMap, Entries, Map, Matrix, Pairs, pairs
from widegram.plan.masks import Pair
from widegram.plan.program import Program
from widegram.plan.stores import Store, Stores


@dataclass(frozen=True)
class MapTables:
    """The table of maps.

    * ``rows``: one for each map, with the columns of :class:`MapField`, kernels by number
    * ``number``: the row of each node
    * ``held``: the arrays whose addresses stand in the rows
    """

    rows: Ints
    number: Mapping[int, int]
    held: Sequence[NDArray[Any]] = field(repr=False)

    def of(self, made: Sequence[int]) -> tuple[int, int]:
        """The first row of nodes that follow each other, and their number."""
        return (self.number[made[0]], len(made)) if made else (0, 0)


def made_behind(nodes: Sequence[Node], stores: Stores, program: Program) -> list[int]:
    """The nodes that are kept and made at once of what a program loads, or could."""
    sources = set(program.group.members)
    return [
        i for i, node in enumerate(nodes)
        if node.operation.at_once and i in stores.of and node.inputs[0] in sources
    ]  # fmt: skip


def map_tables(
    nodes: Sequence[Node], made: Sequence[int], stores: Stores, offsets: Mapping[int, int],
    variant: Variant, kernels: KernelNumbers,
) -> MapTables:  # fmt: skip
    """The tables of the maps ``made``, nodes in the order in which they run; ``offsets`` of an
    image's own coefficients, by node; ``variant`` of their kernels, but for the kind; ``kernels``
    numbers them."""
    rows: list[list[int]] = []
    held: list[NDArray[Any]] = []
    number: dict[int, int] = {}
    for i in made:
        operation, (j,) = nodes[i].operation, nodes[i].inputs
        assert isinstance(operation, Map | EachMap)
        number[i] = len(rows)
        shift = operation.shift
        kernel = kernels.number(replace(variant, kind=operation.kind))
        ends = (stores.of[j], nodes[j].shape), (stores.of[i], nodes[i].shape)
        source_pairs, target_pairs = (
            pairs(planes_of(store, shape, stores.index), shape) for store, shape in ends
        )
        matrix = operation.listed(nodes[j].shape, source_pairs, target_pairs)
        tables = _lists(matrix, (source_pairs, target_pairs), variant.dtype)
        held += tables
        if shift is not None:
            held.append(_shifts(shift, tables[3:6], variant.dtype))
        address = 0 if shift is None else held[-1].ctypes.data
        full = len(tables[4]) == (len(tables[3]) - 1) ** 2
        (source, _), (target, _) = ends
        rows.append([
            kernel, source.offset, source.t_offset, target.offset, target.t_offset,
            offsets.get(i, 0), len(matrix.rows) - 1, int(full), *(a.ctypes.data for a in tables),
            address,
        ])  # fmt: skip
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), len(MapField))
    return MapTables(columns, number, held)


@np.errstate(over="ignore")  # Entries are out of range where variances are: refused as such.
def _lists(matrix: Entries, ends: tuple[Pairs, Pairs], dtype: str) -> list[NDArray[Any]]:
    """The arrays of a row: entries, and pairs of the source and of the output, ``ends``."""
    found = [matrix.rows, matrix.columns, matrix.values]
    for one in ends:
        found += [one.begin, one.second, one.place]
    return [a.astype(np.int32 if a.dtype.kind == "i" else dtype) for a in found]


def _shifts(shift: Matrix, lists: Sequence[NDArray[Any]], dtype: str) -> NDArray[Any]:
    """What is added to the number at each place of a store, whose pairs are ``lists``."""
    begin, second, place = lists
    first = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    made = np.zeros(len(place), dtype=dtype)
    made[place] = shift.values[first, second]
    return made


def planes_of(store: Store, shape: Pair, index: Ints) -> Ints:
    """Where each plane of a store begins, by displacement."""
    h, w = shape
    size = (2 * h - 1) * (2 * w - 1)
    return index[store.index : store.index + size].reshape(2 * h - 1, 2 * w - 1)
