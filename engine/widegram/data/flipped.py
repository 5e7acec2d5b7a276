"""Images and their flips, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.formats import Table
from widegram.data.inputs import Source
from widegram.network.inputs import is_list, parts_of
from widegram.validation.choices import FLIPS


def turns(augment: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The group of some flips: for each element the axes that it turns, the identity first."""
    chosen = product(*(((), (FLIPS[name],)) for name in augment))
    return tuple(tuple(axis for part in each for axis in part) for each in chosen)


def flipped(source: Source, augment: Sequence[str]) -> Source:
    """Images, or lists with some, of which row m i + g is element g of the group of ``augment``, m
    in all, applied to row i of ``source``."""
    group = turns(augment)
    m, inputs = len(group), source.shape[1:]

    def rows(lo: int, hi: int) -> np.ndarray:
        first = lo // m
        images = source.read(first, -(-hi // m))
        turned = np.stack([turned_by(axes, images, source.expects) for axes in group], axis=1)
        return turned.reshape(-1, *inputs)[lo - m * first : hi - m * first]

    name = f"{source.name} (each image {m} times, turned)"
    table = Table(name, (m * len(source), *inputs), source.dtype, rows)
    return Source(table, len(source) * m, None, marked=source.marked)


def turned_by(axes: tuple[int, ...], x: NDArray[Any], shape: Any) -> NDArray[Any]:
    """Images x turned along ``axes``; of lists of inputs of ``shape``, rows of their numbers, all
    images."""
    if not is_list(shape):
        return np.flip(x, axes)
    made = x.copy()
    for part in parts_of(shape):
        if part.spatial == 2:
            images = x[:, part.numbers].reshape(len(x), *part.shape)
            made[:, part.numbers] = np.flip(images, axes).reshape(len(x), -1)
    return made
