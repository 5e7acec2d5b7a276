"""Shapes: kernels of many axes as matrices, outputs with their trace axes moved last.

A kernel has axes (n1, n2, Y, Y, Z, Z ...), each pair being one axis of the outputs; the axes of
the outputs that a kernel lacks, along which it is a multiple of the identity, are
``trace_axes``. As a matrix it has shape (n1 Y Z .., n2 Y Z ..), and outputs become (n Y Z .., C)
with C the size of the trace axes.
"""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown

Array = NDArray[Any]
Axes = int | tuple[int, ...]


def matrix(kernel: Array, name: str = "the kernel") -> Array:
    """A kernel of axes (n1, n2, Y, Y, ...) as a matrix (n1 Y .., n2 Y ..).

    Raises WidegramError for axes that do not come in pairs.
    """
    kernel = np.asarray(kernel)
    if kernel.ndim % 2 or kernel.ndim < 2 or kernel.size == 0:
        raise WidegramError(
            f"{name} has shape {kernel.shape}; a kernel has pairs of axes (n1, n2, ...)"
        )
    rows, cols = kernel.shape[0::2], kernel.shape[1::2]
    order = (*range(0, kernel.ndim, 2), *range(1, kernel.ndim, 2))
    return kernel.transpose(order).reshape(int(np.prod(rows)), int(np.prod(cols)))


def paired(covariance: Array, shape: tuple[int, ...]) -> Array:
    """(..., N, N) as (..., n, n, Y, Y, ...), where ``shape`` = (n, Y, ...) and N its size."""
    lead = covariance.shape[:-2]
    split = covariance.reshape(lead + shape + shape)
    first = len(lead)
    order = [
        axis
        for position in range(len(shape))
        for axis in (first + position, first + len(shape) + position)
    ]
    return split.transpose((*range(first), *order))


class Outputs:
    """How outputs with the shape of ``y`` fold into (N, C) and unfold again."""

    def __init__(self, y: Array, trace_axes: Axes) -> None:
        self.trace_axes = _trace_axes(y, trace_axes)
        self.trace_shape = tuple(y.shape[axis] for axis in self.trace_axes)
        self.size = int(np.prod(self.trace_shape))
        self._last = tuple(range(-len(self.trace_axes), 0))

    def fold(self, y: Array) -> Array:
        """(N, C) in float64."""
        moved = np.moveaxis(np.asarray(y, dtype=np.float64), self.trace_axes, self._last)
        return moved.reshape(-1, self.size)

    def unfold(self, values: Array, shape: tuple[int, ...], lead: tuple[int, ...] = ()) -> Array:
        """(*lead, N, C) back to outputs whose other axes have ``shape``, N its size."""
        split = values.reshape(lead + shape + self.trace_shape)
        return np.moveaxis(split, self._last, self.trace_axes)


def _trace_axes(y: Array, given: Axes) -> tuple[int, ...]:
    """The axes of ``y`` that are ``given``, counted from the end, ascending."""
    try:
        axes = tuple(index(axis) for axis in ((given,) if isinstance(given, int) else given))
    except TypeError:
        raise WidegramError(f"trace_axes={shown(given)}: give an axis or a tuple of axes") from None
    if y.ndim == 1 and axes == (-1,):
        raise WidegramError(
            f"y_train has shape {y.shape}; give (n, k), one column per output: y_train[:, None]"
        )
    wrong = [axis for axis in axes if not -y.ndim <= axis < y.ndim]
    found = tuple(sorted(axis % y.ndim - y.ndim for axis in axes))
    if wrong or -y.ndim in found or len(set(found)) < len(found):
        raise WidegramError(
            f"trace_axes={shown(axes)}: name axes of y_train (shape {y.shape}) after the first, "
            "each once"
        )
    return found
