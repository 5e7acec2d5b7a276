"""What a plan asks of any operation, with the answers of most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula
from widegram.plan.masks import Mask, Pair

Array = NDArray[np.float64]
# K and T at d = 0 of n images with themselves, each (n, h, w).
Centre = tuple[Array, Array]


class Operation:
    """What a plan asks of any operation; the answers here are those of most of them.

    * ``stored``: its value is kept between groups, and loaded where it is read.
    * ``reduced``: it is one number of each pair, summed over planes.
    * ``accumulates``: its planes are sums of what several displacements add to them.
    * ``at_once``: it makes all its planes at once, of the store of its source.
    * ``made_anew``: where a second group reads it, it is made again and not kept.
    * ``read_out``: the kernel is wanted of it.
    * ``layers``: Conv or Dense layers that a number of it costs.
    """

    stored: ClassVar[bool] = False
    reduced: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    made_anew: ClassVar[bool] = False
    read_out: ClassVar[bool] = False
    layers: ClassVar[int] = 0

    @property
    def sum_scale(self) -> float:
        """What the sums of a reduced value are multiplied by."""
        return 1.0

    # displacements ----------------------------------------------------------------------------

    def needs(self, need: Mask, source: Pair) -> Mask:
        """The displacements that it reads of a source of that shape, to be made at ``need``."""
        return need

    @property
    def coarser(self) -> Pair:
        """How many of its source's displacements (rows, columns) one of its own is."""
        return 1, 1

    @property
    def couples(self) -> tuple[bool, bool]:
        """Along which axes it couples d with d - h, as windows that wrap do."""
        return False, False

    # an image with itself ---------------------------------------------------------------------

    @property
    def formula(self) -> Formula | None:
        """The formula that it applies, by factors of each image; None without."""
        return None

    def normalised(self, q: Array) -> Array:
        """The variances (n, h, w) that its factors are made of."""
        return q

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        """Its value at d = 0, where K is the variance; ``formula``: the one chosen for it."""
        return sources[0]

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        """The largest variance behind it, given the largest ones of its sources."""
        return below[0]

    def may_vanish(self, below: Sequence[bool]) -> bool:
        """Whether its variance may be 0 at some pixel, given whether its sources' may."""
        return below[0]

    # powers of two ----------------------------------------------------------------------------

    def degree(self, below: int) -> int | None:
        """d with K(a x, b y) = (a b)^d K(x, y), given that of its sources; None where there is
        none."""
        return below

    @property
    def needs_truth(self) -> bool:
        """Whether it needs the true variance of its source, not a multiple."""
        return False

    @property
    def power(self) -> int:
        """The highest power of its source's variances that it makes."""
        return 1

    def profile(self, q: Array, shape: Pair) -> Array:
        """The variances (1, h, w) that it makes of those of a uniform image."""
        return q

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        """The operation for a source that comes times 4^exponent, and the exponent behind it."""
        return self, exponent

    # words ------------------------------------------------------------------------------------

    def describe(self) -> str:
        """What a step that it is part of says of it."""
        return ""
