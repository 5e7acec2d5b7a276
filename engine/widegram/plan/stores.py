"""What is kept of a pair of images between groups, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from widegram.plan.graph_building import Node
from widegram.plan.masks import Ints, Mask, Pair

# Of the planes that a value is kept at: a table by displacement of where each begins, -1 where it
# is not kept, and the numbers that they take.
PlaneTable = Callable[[Mask, Pair], tuple[NDArray[np.integer], int]]


@dataclass(frozen=True)
class Store:
    """A value that is kept: its planes of K from ``offset`` on, those of T from ``t_offset`` on,
    counted in numbers; those of a ``reduced`` value are sums, one of each.

    ``index``: where the table of its ``planes`` planes begins among those of all stores.
    """

    shape: Pair = (1, 1)
    reduced: bool = False
    offset: int = 0
    t_offset: int = 0
    index: int = 0
    planes: int = 0

    @property
    def shown(self) -> Store:
        """What the code of a step depends on: sums of equal steps stand in different places."""
        return Store(self.shape, True) if self.reduced else self


@dataclass(frozen=True)
class Stores:
    """All stores of one pair, or of ``lanes`` pairs side by side.

    * ``of``: by node.
    * ``size``: numbers of all that are not reduced.
    * ``sums``: doubles of those that are.
    * ``index``: the tables of planes, one after the other, and a spare entry.
    """

    of: dict[int, Store]
    size: int
    sums: int
    index: Ints


def lay_out(
    nodes: tuple[Node, ...], masks: list[Mask], order: Iterable[int], planes: PlaneTable,
    fields: int, lanes: int = 1,
) -> Stores:  # fmt: skip
    """The stores that are needed, in the order of their nodes; ``fields``: 2 with T, else 1."""
    of: dict[int, Store] = {}
    tables: list[NDArray[np.integer]] = []
    at = sums = index = 0
    for i in order:
        operation, shape, mask = nodes[i].operation, nodes[i].shape, masks[i]
        if not operation.stored or not mask.any():
            continue
        if operation.reduced:
            of[i] = Store((1, 1), True, sums, sums + lanes)
            sums += fields * lanes
            continue
        table, size = planes(mask, shape)
        of[i] = Store(shape, False, at, at + size * lanes, index, int((table >= 0).sum()))
        tables.append(table.ravel())
        index += table.size
        at += fields * size * lanes
    every = np.concatenate([*tables, np.zeros(1, np.int64)]).astype(np.int64)
    return Stores(of, at, sums, every)
