"""What runs of inputs with themselves give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.machine.byte_cache import ByteCache

Array = NDArray[np.float64]
# Of values that tiles had, kept for whom asks for their diagonal next.
KEPT_BYTES = 1 << 20


@dataclass(frozen=True)
class SelfRuns:
    """What the runs of n inputs with themselves gave.

    * ``factors`` (n, F + 1), in the runner's dtype: those of the activations; one spare number
      keeps the address of no factors valid.
    * ``nngp``, ``ntk`` (outputs, n): the kernels with themselves, times the plan's powers of two,
      where the runner was built for them.
    * ``whole``: whether it was.
    * ``lost`` (n,): which part of the result is outside the range
      (:mod:`~widegram.plan.outside`); without the kernels, which part of a value on the way, of
      which nothing may be left in the result.
    """

    factors: NDArray[Any]
    nngp: Array
    ntk: Array
    lost: Array
    whole: bool = False

    @property
    def kernels(self) -> dict[str, Array]:
        """The kernels by name."""
        return {"nngp": self.nngp, "ntk": self.ntk}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return int(self.factors.nbytes + self.nngp.nbytes + self.ntk.nbytes + self.lost.nbytes)


class KeptRuns:
    """Runs that were made for tiles and gave the kernels too: what is asked for their diagonal
    next need not be computed again. Threads may share it."""

    def __init__(self) -> None:
        self._kept: ByteCache[tuple[bool, int, int], SelfRuns] = ByteCache(KEPT_BYTES)

    def keep(self, rows: range, second: bool, own: SelfRuns) -> None:
        """Keep what inputs ``rows`` of x1, or of x2, gave, but for their factors."""
        slim = replace(own, factors=np.empty((len(rows), 0)))
        self._kept.keep((second, rows.start, rows.stop), slim)

    def find(self, rows: range, second: bool) -> SelfRuns | None:
        """What inputs ``rows`` gave, None where it is not kept."""
        return self._kept.find((second, rows.start, rows.stop))
