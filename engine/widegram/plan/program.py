"""A group as a straight program of steps, with the displacements at which each runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from widegram.plan.buffers import IN_PLACE, Slot, allocate, fused_hides, fused_sums
from widegram.plan.graph_building import Node
from widegram.plan.groups import Group
from widegram.plan.masks import Ints, Mask, Pair, displacements
from widegram.plan.steps import Planned, Step, steps_of


@dataclass(frozen=True)
class Program:
    """What one group does.

    * ``steps``: in order; their values have buffers, numbered as ``slots``.
    * ``displacements`` (n, 2): base displacements, on the torus where the group has one.
    * ``active`` (n, steps): which steps run at each.
    """

    group: Group
    steps: tuple[Step, ...]
    displacements: Ints
    active: NDArray[np.bool_]
    slots: tuple[Slot, ...]

    @property
    def segments(self) -> int:
        """Rectangles that a buffer holds at once: those of a torus plane (numbered 2 (row half) +
        column half, so 0 and 2 where only rows wrap), or those of several displacements."""
        rows, cols = self.group.torus
        return 1 + 2 * bool(rows) + bool(cols)

    def fused(self) -> Program:
        """The program with sums made in one step with windows."""
        return self._left(fused_sums(self.steps))

    def hiding(self) -> Program:
        """The program, resolved, with masked pixels hidden in one step with activations."""
        return self._left(fused_hides(self.steps))

    def _left(self, left: dict[int, Step]) -> Program:
        """With some of its steps, by number, perhaps others in their place."""
        if len(left) == len(self.steps):
            return self
        steps, slots = allocate(tuple(left.values()))
        return replace(self, steps=steps, active=self.active[:, list(left)], slots=slots)

    def in_place(self) -> Program:
        """The program with values in the buffer of what their step reads first, where it can."""
        steps, slots = allocate(self.steps, IN_PLACE)
        return replace(self, steps=steps, slots=slots)


def build_program(nodes: tuple[Node, ...], group: Group, masks: list[Mask]) -> Program:
    """The program of one group; empty where nothing of it is needed."""
    planned = steps_of(nodes, group, masks)
    base, active = _schedule(group, planned)
    steps, slots = allocate([one.step for one in planned])
    return Program(group, steps, base, active, slots)


def _schedule(group: Group, planned: Sequence[Planned]) -> tuple[Ints, NDArray[np.bool_]]:
    """Base displacements in order (the centre first), and the steps active at each."""
    where: dict[tuple[int, int], list[int]] = {(0, 0): []}
    known: dict[tuple[bytes, Pair, Pair], set[tuple[int, int]]] = {}  # most steps run alike
    for n, (_, value, mask) in enumerate(planned):
        alike = mask.tobytes(), mask.shape, value.sigma
        if alike not in known:
            d = displacements(mask) * np.array(value.sigma)
            for axis in (0, 1):
                if group.torus[axis]:
                    d[:, axis] %= group.torus[axis]
            known[alike] = {(int(a), int(b)) for a, b in d}
        for key in known[alike]:
            where.setdefault(key, []).append(n)
    base = sorted(where, key=lambda d: (d != (0, 0), d))
    active = np.zeros((len(base), len(planned)), dtype=np.bool_)
    for row, key in enumerate(base):
        active[row, where[key]] = True
    return np.array(base, dtype=np.int64), active
