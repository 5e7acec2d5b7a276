"""Patterns of edges beside inputs: which pixels of each send to which, read block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from widegram.data.formats import Table, array_table, located, open_table
from widegram.data.inputs import Source, open_source
from widegram.data.several import JOINED, Inputs, ListSource, is_list, open_inputs
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.network.patterns import Pattern
from widegram.validation.arrays import file_path, plain

Array = NDArray[np.float64]
Given = str | Path | NDArray[Any]
_BLOCK = 256
# Between the places of inputs and of their patterns.
_JOINED = " with the pattern "


class PatternedSource(Source):
    """The inputs of ``source``, each with its pattern, a row of ``table``."""

    def __init__(self, source: Source, table: Table, location: str | None) -> None:
        super().__init__(source.table, len(source), source.location, source.mask, source.marked)
        self.patterns, self._pattern_location = table, location

    def first(self, rows: int) -> PatternedSource:
        return self._with(super().first(rows))

    def as_marked(self) -> PatternedSource:
        return self._with(super().as_marked())

    def masked(self, constant: float) -> PatternedSource:
        return self._with(super().masked(constant))

    def _with(self, source: Source) -> PatternedSource:
        """Other inputs with these patterns."""
        return PatternedSource(source, self.patterns, self._pattern_location)

    @property
    def place(self) -> str | None:
        if self.location is None or self._pattern_location is None:
            return None
        return f"{self.location}{_JOINED}{self._pattern_location}"

    def dense(self, lo: int, hi: int, pattern: Pattern) -> Array:
        """Weights (hi - lo, vertices, vertices) of the edges from each to each.

        Raises :class:`WidegramError` for weights that are not finite, or edges between vertices
        that are not there.
        """
        rows = np.asarray(self.patterns.rows(lo, hi))
        if pattern.sparse:
            return self._of_edges(rows, lo, pattern)
        weights = rows.astype(np.float64).reshape(hi - lo, pattern.vertices, pattern.vertices)
        finite = np.isfinite(weights).all(axis=(1, 2))
        if not finite.all():
            raise WidegramError(
                f"{self.patterns.name}: row {lo + int(np.flatnonzero(~finite)[0])} holds a weight "
                "that is not finite"
            )
        return weights

    def _of_edges(self, rows: NDArray[Any], lo: int, pattern: Pattern) -> Array:
        n, size = len(rows), pattern.vertices
        ends = rows.reshape(n, -1, len(pattern.sizes), 2).astype(np.int64)
        there = (ends[..., 1] >= 0).all(axis=2)
        most = np.array(pattern.sizes)[:, None]
        beyond = np.any((ends < 0) | (ends >= most), axis=(2, 3)) & there
        if beyond.any():
            row = int(np.flatnonzero(beyond.any(axis=1))[0])
            raise WidegramError(
                f"{self.patterns.name}: row {lo + row} has an edge of a vertex that is not there; "
                f"they go from 0 to {', '.join(str(s - 1) for s in pattern.sizes)}"
            )
        weights = np.zeros((n, size, size))
        rows, edges = np.nonzero(there)
        tails, heads = (
            np.ravel_multi_index(tuple(ends[rows, edges, :, side].T), pattern.sizes)
            for side in (0, 1)
        )
        np.add.at(weights, (rows, tails, heads), 1.0)
        return weights

    def _digest(self) -> str:
        """The digest of the inputs, and behind a hyphen that of their patterns."""
        shape = (len(self), *self.patterns.shape[1:])  # first rows of more are the same
        digest = xxhash.xxh3_128(f"{shape}".encode())
        for lo in range(0, len(self), _BLOCK):
            interrupts.check()
            block = np.asarray(self.patterns.rows(lo, min(lo + _BLOCK, len(self))))
            digest.update(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).tobytes())
        return f"{super()._digest()}-{digest.hexdigest()}"


def with_pattern(source: Source, given: Given | None) -> Source:
    """The inputs with their patterns, a file or an array; unchanged without any.

    Raises :class:`WidegramError` where there are fewer patterns than inputs, or no numbers.
    """
    if given is None:
        return source
    if isinstance(given, str | Path):
        spec = str(file_path(given, "pattern"))
        table = open_table(spec)
        place: str | None = located(spec)
    else:
        table, place = array_table(plain(given, "pattern"), "pattern"), None
    if table.dtype.kind not in "fiub":
        raise WidegramError(f"{table.name}: holds {table.dtype}, patterns are real numbers")
    if not table.shape or table.shape[0] < len(source):
        raise WidegramError(
            f"{table.name}: has shape {table.shape}; a pattern is needed for each of the "
            f"{len(source)} inputs of {source.name}"
        )
    return PatternedSource(source, table, place)


def patterned(x1: Inputs, x2: Inputs | None, pattern: Any) -> tuple[Inputs, Inputs | None]:
    """Inputs with their patterns: ``pattern`` of x1, or a pair, of x1 and of x2; None for none.

    Raises :class:`WidegramError` where one is missing, and as :func:`open_source`.
    """
    if pattern is None:
        return x1, x2
    if any(is_list(x) or isinstance(x, ListSource) for x in (x1, x2)):
        raise WidegramError("pattern: is not supported where the input is a list; leave it out")
    first, second = pattern if isinstance(pattern, tuple) else (pattern, None)
    if first is None or (second is None) != (x2 is None):
        wanted = "one of x1" if x2 is None else "a pair, of x1 and of x2"
        raise WidegramError(f"pattern: each data set needs one; give {wanted}")
    found = with_pattern(open_inputs(x1), first)
    return found, None if x2 is None else with_pattern(open_inputs(x2), second)


def places(place: str) -> tuple[str, ...]:
    """The places of inputs and of their patterns in a
    :attr:`~widegram.data.inputs.Source.place`."""
    return tuple(each for part in place.split(JOINED) for each in part.split(_JOINED))


def reopened(place: str, rows: int | None = None) -> Source:
    """The inputs, with their patterns, that a place names, or the list of them; raises as
    :func:`~widegram.data.several.open_inputs`."""
    if len(inputs := place.split(JOINED)) > 1:
        return open_inputs(inputs, rows)
    x, *pattern = places(place)
    return with_pattern(open_source(x, rows), pattern[0] if pattern else None)


def check_pattern(source: Source, pattern: Pattern | None) -> None:
    """Refuse inputs whose patterns are not those that a network takes.

    Raises WidegramError where there are none, where there are some and it takes none, and for a
    wrong shape.
    """
    table = source.patterns if isinstance(source, PatternedSource) else None
    if pattern is None and table is not None:
        raise WidegramError(
            f"{table.name}: is a pattern, but the network has no Aggregate layer; leave it out"
        )
    if pattern is None:
        return
    if table is None:
        raise WidegramError(
            f"{source.name}: the network's Aggregate layers need a pattern for each input; give "
            f"one of shape {pattern.expected()}"
        )
    if pattern.sparse and table.dtype.kind not in "iu":
        raise WidegramError(f"{table.name}: holds {table.dtype}; edges are integers")
    if not _fits(table.shape[1:], pattern):
        raise WidegramError(
            f"{table.name}: has shape {table.shape}; the network's Aggregate layers take "
            f"{pattern.expected()}"
        )


def _fits(shape: tuple[int, ...], pattern: Pattern) -> bool:
    k = len(pattern.sizes)
    if not pattern.sparse:
        return shape == pattern.sizes * 2
    return shape[1:] == (k, 2) or (k == 1 and len(shape) == 2 and shape[1:] == (2,))
