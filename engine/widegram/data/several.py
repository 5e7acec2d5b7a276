"""Several data sets as one: row i is the list of their rows i, number after number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.formats import Table
from widegram.data.inputs import Source, open_source
from widegram.errors import WidegramError

# Between the places of inputs of one list.
JOINED = " and the input "
Given = str | Path | np.ndarray | Source
Inputs = Given | Sequence[Given]


class ListSource(Source):
    """The inputs of a network whose input is a list: ``parts`` of as many rows each.

    A row is flat, (D,) of all their numbers, float32 where all are float32. ``shapes``: those of
    one input of each part. ``marked``: masked numbers of those parts are marked that have any.
    """

    def __init__(self, parts: Sequence[Source], marked: bool = False) -> None:
        self.parts, self.shapes = tuple(parts), tuple(part.shape[1:] for part in parts)
        numbers = sum(int(np.prod(shape)) for shape in self.shapes)
        dtype = np.result_type(*(part.dtype for part in parts))
        name = ", ".join(part.name for part in parts)
        table = Table(name, (len(parts[0]), numbers), dtype, self._flat)
        super().__init__(table, len(parts[0]), None, marked=marked)

    def _flat(self, lo: int, hi: int) -> np.ndarray:
        found = []
        for part in self.parts:
            rows = part.read(lo, hi).reshape(hi - lo, -1)
            # -0.0 is a mark.
            found.append(rows + rows.dtype.type(0) if self.marked and not part.marked else rows)
        return np.concatenate(found, axis=1)

    @property
    def expects(self) -> Any:
        return self.shapes

    @property
    def place(self) -> str | None:
        places = [part.place for part in self.parts]
        return None if None in places else JOINED.join(map(str, places))

    def _each(self, made: Callable[[Source], Source]) -> ListSource:
        return ListSource([made(part) for part in self.parts], self.marked)

    def first(self, rows: int) -> ListSource:
        return self._each(lambda part: part.first(rows))

    def as_marked(self) -> ListSource:
        return ListSource([part.as_marked() for part in self.parts], marked=True)

    def masked(self, constant: Any) -> ListSource:
        """Masked as ``constant`` says of each part, where None masks nothing."""
        constants = zip(self.parts, constant, strict=True)
        found = [part if one is None else part.masked(one) for part, one in constants]
        return ListSource(found, marked=True)

    def fingerprint(self) -> str:
        """The fingerprints of the parts, with spaces between them."""
        return " ".join(part.fingerprint() for part in self.parts)

    def check_unchanged(self) -> None:
        for part in self.parts:
            part.check_unchanged()


def open_inputs(given: Inputs, limit: int | None = None) -> Source:
    """Open the inputs of a network: as :func:`~widegram.data.inputs.open_source`, or a list of such
    as one.

    Raises WidegramError as that does, for data sets of one list that differ in their numbers of
    rows, and for a list of fewer than two.
    """
    if not is_list(given):
        return open_source(given, limit)  # type: ignore[arg-type]  # no list: see above
    assert isinstance(given, list | tuple)
    if len(given) < 2:
        raise WidegramError(f"data: is a list of {len(given)}; give one input as it is")
    whole = [open_source(one) for one in given]
    if any(isinstance(one, ListSource) for one in whole):
        raise WidegramError("data: lists of inputs do not stand in other lists")
    for one in whole:
        if len(one) != len(whole[0]):
            raise WidegramError(
                f"{one.name}: has {len(one)} rows, {whole[0].name} has {len(whole[0])}; inputs of "
                "one list must have as many rows"
            )
    found = ListSource(whole)
    return found if limit is None else found.first(min(limit, len(found)))


def is_list(given: Any) -> bool:
    """Whether data is a list of inputs, and no array written as nested lists of numbers."""
    return isinstance(given, list | tuple) and all(
        isinstance(one, str | Path | Source) or hasattr(one, "__array__") for one in given
    )
