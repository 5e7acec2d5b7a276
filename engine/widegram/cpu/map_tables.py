"""The table of maps that the compiled driver reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.driver.fields import Ints
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.fields import MapField
from widegram.cpu.kernels.variants import Variant
from widegram.plan.graph import Node
from widegram.plan.maps import Map, pairs
from widegram.plan.program import Program
from widegram.plan.stores import Store, Stores


@dataclass(frozen=True)
class MapTables:
    """``rows``, the columns of :class:`MapField`, ``number``, the row of each node; ``held``: the
    arrays whose addresses stand in them."""

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
    nodes: Sequence[Node], made: Sequence[int], stores: Stores, variant: Variant
) -> MapTables:
    """Those of the maps ``made``, nodes in the order in which they run."""
    rows: list[list[int]] = []
    held: list[NDArray[Any]] = []
    number: dict[int, int] = {}
    for i in made:
        operation, (j,) = nodes[i].operation, nodes[i].inputs
        assert isinstance(operation, Map)
        number[i] = len(rows)
        rows.append(_row(operation, (nodes[j], nodes[i]), (j, i), stores, variant, held))
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), len(MapField))
    return MapTables(columns, number, held)


@np.errstate(over="ignore")  # Entries are out of range where variances are: refused as such.
def _row(
    operation: Map, ends: tuple[Node, Node], numbers: tuple[int, int], stores: Stores,
    variant: Variant, held: list[NDArray[Any]],
) -> list[int]:  # fmt: skip
    source, target = (stores.of[n] for n in numbers)
    before, behind = (
        pairs(_planes(store, node.shape, stores.index), node.shape)
        for store, node in zip((source, target), ends, strict=True)
    )
    matrix = operation.entries
    tables = [
        matrix.rows, matrix.columns, matrix.values.astype(variant.dtype), before.begin,
        before.second, before.place, behind.begin, behind.second, behind.place,
    ]  # fmt: skip
    kept = [a if a.dtype == variant.dtype else a.astype(np.int32) for a in tables]
    held += kept
    pixels = len(before.begin) - 1
    full = len(before.second) == pixels**2
    kernel = compiled.address(variant)
    return [
        kernel, source.offset, source.t_offset, target.offset, target.t_offset, 0,
        len(matrix.rows) - 1, int(full), *(a.ctypes.data for a in kept),
    ]  # fmt: skip


def _planes(store: Store, shape: tuple[int, int], index: Ints) -> Ints:
    """Where each plane of a store begins, by displacement."""
    h, w = shape
    size = (2 * h - 1) * (2 * w - 1)
    return index[store.index : store.index + size].reshape(2 * h - 1, 2 * w - 1)
