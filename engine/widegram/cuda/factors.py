"""Per-image factors on the device.

A node's factors, and the channels of images, are planes of (h + 7) x w numbers: behind the last row
the first ones stand again, so that a thread may walk 8 rows of a torus from any row on without
wrapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.activations import Formula
from widegram.plan.formulas import FactorLayout
from widegram.plan.graph_building import Node

EXTRA = 7


def rows(height: int) -> NDArray[np.int64]:
    """The rows of an image as they stand on the device."""
    return np.arange(height + EXTRA if height > 1 else 1) % height


@dataclass(frozen=True)
class DeviceLayout:
    """``offsets`` by node, ``total`` numbers per image, and ``gather``, where each number stands in
    the CPU's layout."""

    formulas: dict[int, Formula]
    offsets: dict[int, int]
    total: int
    gather: NDArray[np.int64]

    @staticmethod
    def plane(height: int, width: int) -> int:
        """Numbers of one factor of an (h, w) value."""
        return width * len(rows(height))


def device_layout(nodes: tuple[Node, ...], layout: FactorLayout) -> DeviceLayout:
    """The device's layout of the same factors."""
    offsets, parts, at = {}, [], 0
    for i, start in layout.offsets.items():
        (h, w), count = nodes[i].shape, layout.formulas[i].n_factors
        index = start + np.arange(count)[:, None, None] * (h * w)
        index = index + rows(h)[:, None] * w + np.arange(w)
        offsets[i] = at
        at += index.size
        parts.append(index.ravel())
    # One spare number keeps the position of no factors valid.
    parts.append(np.array([layout.total]))
    return DeviceLayout(layout.formulas, offsets, at, np.concatenate(parts))


def gathered(values: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[Any]:
    """``values``[:, ``numbers``], by slices: the numbers come in long runs."""
    found = np.empty((len(values), len(numbers)), values.dtype)
    begins = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    for begin, end in pairwise([*begins.tolist(), len(numbers)]):
        first = int(numbers[begin])
        found[:, begin:end] = values[:, first : first + end - begin]
    return found
