"""What a plan asks of any operation, with the answers of most."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula
from widegram.plan.angles import Angles
from widegram.plan.carried import Carried
from widegram.plan.masks import Mask, Pair, centre, empty
from widegram.plan.seen import Array, Centre, Parts, Seen

__all__ = ["Array", "Centre", "Exponents", "Flags", "Operation", "Places"]

# Which pixels of values are masked, as far as two values can be compared (:mod:`.hiding`).
Places = Any
# Which pixels (n, h, w) of n images are visible.
Flags = NDArray[np.bool_]


class Exponents(Protocol):
    """The graph of :mod:`widegram.plan.scales` under construction, as operations put themselves
    into it; values are named by their places in it.

    * ``largest``: the largest variance of an input pixel.
    * ``exponent``: each value is carried times 4^this.
    * ``profile``: the variances (1, h, w) that a uniform image has there, so carried.
    """

    largest: float
    exponent: list[int]
    profile: list[Array]

    def add(
        self, operation: Operation, sources: tuple[int, ...], shape: Pair, exponent: int,
        profile: Array,
    ) -> int:  # fmt: skip
        """Put an operation into it; the place of its value."""

    def moved(self, at: int, exponent: int) -> int:
        """A value, or one behind it with that exponent."""

    def size(self, at: int) -> float:
        """log2 of the largest variance of a value, without its exponent."""

    def chosen(self, i: int, size: float, *free: int) -> int:
        """An exponent for the variances 2^``size`` of node ``i`` of the graph as it was: 0 or one
        of those that are ``free`` if they do."""

    def within(self, size: float, degree: int, *free: int) -> int:
        """As :meth:`chosen`, for variances of which a power of ``degree`` is made."""

    def wants_truth(self, i: int) -> bool:
        """Whether all readers of node ``i`` of the graph as it was need its true variance."""


class Operation(ABC):
    """What a plan asks of any operation; the answers here are those of most of them.

    * ``stored``: its value is kept between groups, and loaded where it is read.
    * ``reduced``: it is one number of each pair, summed over planes.
    * ``accumulates``: its planes are sums of what several displacements add to them.
    * ``at_once``: it makes all its planes at once, of the store of its source.
    * ``made_anew``: where a second group reads it, it is made again and not kept.
    * ``read_out``: the kernel is wanted of it.
    * ``layers``: Conv or Dense layers that a number of it costs.
    * ``where``: its layer, for messages.
    """

    stored: ClassVar[bool] = False
    reduced: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    made_anew: ClassVar[bool] = False
    read_out: ClassVar[bool] = False
    layers: ClassVar[int] = 0
    where: str = ""

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

    @property
    def numbers(self) -> int:
        """Coefficients of each image that it applies, beside those of a formula."""
        return 0

    # an image with itself ---------------------------------------------------------------------

    @property
    def formula(self) -> Formula | None:
        """The formula that it applies, by factors of each image; None without."""
        return None

    def own_needs(self, source: Pair) -> Mask:
        """The displacements of its source that what it has of each image is made of, of the image
        with itself."""
        return empty(source) if self.formula is None else centre(source)

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

    # flips ------------------------------------------------------------------------------------

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        """Whether it treats an axis (0 rows, 1 columns) the same from either end, of a source of
        that shape and a value of ``shape``: turning both images of a pair turns its planes. What
        does not say so does not."""
        return False

    # masked inputs ----------------------------------------------------------------------------

    def visible(self, below: Sequence[Flags], shape: Pair) -> Flags:
        """Which pixels are visible behind it, given those of its sources: in any of them."""
        return np.logical_or.reduce(below)

    def mixes(self, places: Sequence[Places]) -> bool:
        """Whether what it makes of visible pixels depends on masked ones, which then have to be 0;
        ``places``: where its sources are masked."""
        return False

    def zero_at_masked(self, below: bool) -> bool:
        """Whether K and T are 0 at masked pixels behind it, given whether all its sources' are."""
        return below

    def masked_places(self, places: Sequence[Places]) -> Places:
        """Where its value is masked: equal for values with the same masked pixels, whatever the
        image."""
        return places[0]

    def seeing(self, visible: Flags) -> Operation:
        """The operation on images of which it is known what is visible of its first source."""
        return self

    # powers of two ----------------------------------------------------------------------------

    def degree(self, below: int) -> int | None:
        """d with K(a x, b y) = (a b)^d K(x, y), given that of its sources; None where there is
        none."""
        return below

    def degree_of(self, below: Sequence[int]) -> int | None:
        """As :meth:`degree`, of several sources, which as a rule must have one d."""
        return None if len(set(below)) > 1 else self.degree(below[0])

    @property
    def needs_truth(self) -> bool:
        """Whether it needs the true variance of its source, not a multiple."""
        return False

    @property
    def power(self) -> int:
        """The highest power of its source's variances that it makes."""
        return 1

    def profile(self, q: Array, shape: Pair) -> Array:
        """The variances (1, h, w) that it makes of those of a uniform image, for :meth:`place`."""
        return q

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        """The operation for a source that comes times 4^exponent, and the exponent behind it."""
        return self, exponent

    def place(self, i: int, shape: Pair, sources: tuple[int, ...], graph: Exponents) -> int:
        """Put it, node ``i`` of the graph as it was, behind its ``sources`` into a graph with
        exponents; the place of its value.

        So does an operation with one source that has no constants to absorb a change of exponent.
        """
        (source,) = sources
        if self.needs_truth:
            source = graph.moved(source, 0)
        operation, exponent = self.rescaled(graph.exponent[source])
        profile = operation.profile(graph.profile[source], shape)
        return graph.add(operation, (source,), shape, exponent, profile)

    # what floating point loses ----------------------------------------------------------------

    @abstractmethod
    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        """Its value of two single pixels, far from the edges of images, where its sources are
        ``below``, on an image of shape ``source``. No answer is right for most operations."""

    @property
    def t_apart(self) -> bool:
        """Whether its T may leave the range where its K does not."""
        return False

    def loses(self, seen: Seen) -> tuple[Any, Array]:
        """Which part (n,) of each image's K it loses by numbers below the range, where its variance
        does not show that; and the largest number (n,) that it makes of K on the way."""
        return 0.0, seen.top

    def loses_t(self, seen: Seen) -> Any:
        """As the first of :meth:`loses`, of T; asked where any T is apart."""
        return 0.0

    def carries_lost(self, seen: Seen) -> Parts:
        """Parts of its K and T that are lost because its sources' are."""
        return seen.lost[0]

    # errors that are known before a run -------------------------------------------------------

    def carries(self, below: Sequence[Carried], formula: Formula | None) -> Carried:
        """The errors of its value, given those of its sources; their largest variance stays that
        of the first source."""
        return Carried.of_sum(below)

    # words ------------------------------------------------------------------------------------

    def describe(self) -> str:
        """What a step that it is part of says of it."""
        return ""
