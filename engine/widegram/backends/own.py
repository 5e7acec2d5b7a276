"""What runs of inputs with themselves give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Own:
    """Of n inputs.

    * ``factors`` (n, F + 1), in the runner's dtype: those of the activations; one spare number
      keeps the address of no factors valid.
    * ``nngp``, ``ntk`` (outputs, n): the kernels with themselves, times the plan's powers of two,
      where the runner was built for them.
    * ``lost`` (n,): which part of the result is outside the range
      (:mod:`~widegram.plan.outside`); without the kernels, which part of a value on the way, of
      which nothing may be left in the result.
    """

    factors: NDArray[Any]
    nngp: Array
    ntk: Array
    lost: Array

    @property
    def kernels(self) -> dict[str, Array]:
        """The kernels by name."""
        return {"nngp": self.nngp, "ntk": self.ntk}
