"""Charts: tables of the pixels of all packed planes of a shape, for kernels that walk them as one
row (:mod:`widegram.cpu.kernels.chart_ir`)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from widegram.cpu.kernels.fields import Chart
from widegram.machine.budgets import KEPT_CHARTS
from widegram.machine.remembering import remembered
from widegram.plan.masks import Pair
from widegram.plan.steps import Window

# The pixels of a plane at most: a chart has twice their square, 320 KB at 100.
_MOST = 144


def has_chart(step: Window) -> bool:
    """Whether there is a chart for the packed planes of a step: they are small, and those that it
    reads are like those that it writes."""
    if not step.inputs or step.affine.strides != (1, 1):
        return False
    return step.inputs[0].shape == step.out.shape and math.prod(step.out.shape) <= _MOST


@remembered(KEPT_CHARTS)
def chart(shape: Pair, gap: Pair, pitch: int) -> NDArray[np.int32]:
    """The chart, (h, w, 2, h w, columns of Chart), of the cells at displacements (0 .. h - 1,
    0 .. w - 1) without and with their second columns, pixels row by row; those behind a cell's last
    one mean nothing. ``gap`` between rectangles, ``pitch``: pixels from one row to the next.

    What has its address keeps it, for it may be forgotten here.
    """
    h, w = shape
    dy, dx, second, pixel = np.ix_(range(h), range(w), range(2), range(h * w))
    cols = np.where(second, w, w - dx)
    row, col = pixel // cols, pixel % cols
    lower, right = row >= h - dy, col >= w - dx
    table = np.empty((h, w, 2, h * w, len(Chart)), dtype=np.int32)
    table[..., Chart.PLANE] = (row + lower * gap[0]) * pitch + col + right * gap[1]
    table[..., Chart.X] = row * w + col
    table[..., Chart.Y] = (row - lower * h) * w + col - right * w
    table[..., Chart.BEGINS] = (col == 0) | ((gap[1] > 0) & (col == w - dx))
    return table
