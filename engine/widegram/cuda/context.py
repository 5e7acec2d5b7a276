"""What the kernels of a plan share: its steps as text needs them, factors, stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from widegram.cuda.factors import DeviceLayout
from widegram.cuda.generated import SHARED_BYTES
from widegram.plan.masks import Mask, Pair, displacements
from widegram.plan.plan import Plan
from widegram.plan.program import Program
from widegram.plan.steps import Places, Step, resolved
from widegram.plan.stores import Stores, lay_out


@dataclass(frozen=True)
class Context:
    """``shared``: bytes of shared memory that a block may use."""

    plan: Plan
    layout: DeviceLayout
    dtype: str
    shared: int = SHARED_BYTES

    @property
    def fields(self) -> tuple[str, ...]:
        """'k', and 't' where T is carried."""
        return ("k", "t") if self.plan.ntk else ("k",)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.plan.network.input_shape[-1]

    @cached_property
    def stores(self) -> Stores:
        """What one pair keeps between groups: planes that are whole tori."""
        nodes, masks = self.plan.nodes, self.plan.cross.masks
        return lay_out(nodes, masks, range(len(nodes)), _tori, len(self.fields))

    def steps(self, program: Program) -> Sequence[Step]:
        """The steps of a program with formulas, stores and places."""
        of, outputs = self.stores.of, self.plan.outputs
        places = Places(self.layout.formulas, self.layout.offsets, of, outputs, len(self.fields))
        return resolved(program.steps, places)


def _tori(mask: Mask, shape: Pair) -> tuple[NDArray[np.int32], int]:
    """Plane numbers (h, w) by displacement modulo the shape, -1 where none is needed; the size."""
    table = np.full(shape, -1, dtype=np.int32)
    d = np.unique(displacements(mask) % np.array(shape), axis=0)
    table[d[:, 0], d[:, 1]] = np.arange(len(d))
    return table, len(d) * table.size
