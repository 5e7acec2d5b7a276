"""The plane kernels that tables name, by number: addresses are looked up where they first run."""

from __future__ import annotations

import numpy as np

from widegram.cpu.driver.fields import Ints
from widegram.cpu.kernels import compiled
from widegram.cpu.kernels.forms import WIDE
from widegram.cpu.kernels.variants import Variant


class KernelNumbers:
    """Kernels from 1 on, in the order in which they were first named; 0 is none."""

    def __init__(self) -> None:
        self._known: dict[tuple[Variant, int, bool], int] = {}

    def number(self, variant: Variant, width: int = WIDE, small: bool = False) -> int:
        """The number of a kernel for rows of ``width`` pixels; ``small``: of planes that have
        charts."""
        return self._known.setdefault((variant, width, small), len(self._known) + 1)

    def addresses(self) -> Ints:
        """Addresses by number; compiles those that no network used before."""
        found = [compiled.address(v, width=width, small=small) for v, width, small in self._known]
        return np.array([0, *found], dtype=np.int64)
