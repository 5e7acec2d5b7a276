"""Images and their flips, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from widegram.data.formats import Table
from widegram.data.inputs import Source
from widegram.data.several import ListSource
from widegram.validation.choices import FLIPS


def turns(augment: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The group of some flips: for each element the axes that it turns, the identity first."""
    chosen = product(*(((), (FLIPS[name],)) for name in augment))
    return tuple(tuple(axis for part in each for axis in part) for each in chosen)


def flipped(source: Source, augment: Sequence[str]) -> Source:
    """Inputs of which row m i + g is element g of the group of ``augment``, m in all, applied to
    row i of ``source``; of lists, to all of their images."""
    group = turns(augment)
    if isinstance(source, ListSource):
        return ListSource([_turned(part, group) for part in source.parts], source.marked)
    return _turned(source, group)


def _turned(source: Source, group: Sequence[tuple[int, ...]]) -> Source:
    """Images turned by each element of the group; other inputs as they are, as often."""
    m, inputs = len(group), source.shape[1:]
    if len(inputs) < 3:
        group = ((),) * m

    def rows(lo: int, hi: int) -> np.ndarray:
        first = lo // m
        images = source.read(first, -(-hi // m))
        turned = np.stack([np.flip(images, axes) for axes in group], axis=1)
        return turned.reshape(-1, *inputs)[lo - m * first : hi - m * first]

    name = f"{source.name} (each image {m} times, turned)"
    table = Table(name, (m * len(source), *inputs), source.dtype, rows)
    return Source(table, len(source) * m, None, marked=source.marked)
