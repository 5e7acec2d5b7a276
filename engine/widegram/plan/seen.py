"""One node of a run of images with themselves, as an operation sees it that says what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula

Array = NDArray[np.float64]
# K and T at d = 0 of n images with themselves, each (n, h, w).
Centre = tuple[Array, Array]
# Of n images, which parts (n,) of K and of T are lost; inf for an overflow.
Parts = tuple[Array, Array]


class Limits(NamedTuple):
    """What a dtype holds: variances from ``low``, numbers to ``high``, and its least normal one."""

    low: float
    high: float
    tiny: float


@dataclass(frozen=True)
class Seen:
    """A node that has just been computed.

    * ``limits``: those of the dtype that the run stands for.
    * ``value``, ``sources``: of the node and of its sources.
    * ``lost``: parts of its sources that are lost.
    * ``formula``: the one chosen for it.
    """

    limits: Limits
    value: Centre
    sources: Sequence[Centre]
    lost: Sequence[Parts]
    formula: Formula | None

    @property
    def shape(self) -> tuple[int, int]:
        """The image that the node lives on."""
        _, height, width = self.value[0].shape
        return height, width

    @cached_property
    def top(self) -> Array:
        """The largest K (n,) of each image."""
        return highest(self.value[0])

    @cached_property
    def top_t(self) -> Array:
        """The largest T (n,) of each image."""
        return highest(self.value[1])

    @cached_property
    def below(self) -> Array:
        """The largest K (n,) of each image in front of the node."""
        return highest(self.sources[0][0])


def highest(values: Array) -> Array:
    """The largest number (n,) of each image (n, h, w)."""
    return np.asarray(values.max(axis=(1, 2)))


def share(part: Array, whole: Array) -> Array:
    """part / whole within 0 .. 1; 1 where that is unknown."""
    found = np.clip(part / np.where(whole > 0, whole, 1.0), 0.0, 1.0)
    return np.where(np.isnan(found) | (whole == 0), 1.0, found)


def where(condition: NDArray[np.bool_]) -> Array:
    """1 of the images for which it holds, 0 of others."""
    return np.where(condition, 1.0, 0.0)
