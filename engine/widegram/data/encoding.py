"""A table as inputs and labels: categories as one-hot columns, by what training rows hold."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.columns import TableColumn, TableRows, check_column, target_values
from widegram.data.formats import Table
from widegram.data.raw import Split
from widegram.data.selecting import Selection
from widegram.errors import WidegramError, one_line, shown

Array = NDArray[Any]
_UNSEEN = -1
_LONGEST = 2000  # bytes of a description


@dataclass(frozen=True)
class KnownColumn:
    """A column as training rows have it: ``levels``, its texts in order, None for numbers."""

    name: str
    levels: tuple[str, ...] | None

    def places(self, column: TableColumn) -> Array:
        """Where the words of a table's column stand among the levels, -1 for none."""
        assert self.levels is not None
        known = {level: place for place, level in enumerate(self.levels)}
        return np.array([known.get(word, _UNSEEN) for word in column.words or ()], np.int64)


@dataclass(frozen=True)
class Encoding:
    """What training rows know of a table.

    * ``features``: the columns that inputs are made of, in this order
    * ``target``: the column of labels, None without
    * ``dropped``: columns left out
    """

    features: tuple[KnownColumn, ...]
    target: KnownColumn | None
    dropped: tuple[str, ...] = ()

    def to_bytes(self) -> Array:
        """JSON in UTF-8, as an array of uint8."""
        return np.frombuffer(json.dumps(asdict(self)).encode(), np.uint8)

    @staticmethod
    def from_bytes(stored: Array) -> Encoding:
        """What :meth:`to_bytes` wrote."""
        found = json.loads(stored.tobytes())

        def known(entry: dict[str, Any]) -> KnownColumn:
            levels = entry["levels"]
            return KnownColumn(entry["name"], None if levels is None else tuple(levels))

        target = found["target"]
        return Encoding(
            tuple(map(known, found["features"])),
            None if target is None else known(target),
            tuple(found["dropped"]),
        )

    @property
    def known(self) -> list[KnownColumn]:
        """All columns, the target's included."""
        return [*self.features, *([self.target] if self.target else [])]

    @property
    def categories(self) -> list[str]:
        """The names of the columns of texts."""
        return [column.name for column in self.known if column.levels is not None]

    def described(self) -> str:
        """In one line: how many columns of which kind, the levels of categories, the target."""
        numbers = sum(column.levels is None for column in self.features)
        levels = [f"{c.name}: {len(c.levels)}" for c in self.features if c.levels is not None]
        of = f", categories one-hot ({', '.join(levels)})" if levels else ""
        target = "" if self.target is None else f", target {self.target.name}"
        if self.target is not None and self.target.levels is not None:
            target += f" ({', '.join(self.target.levels)})"
        return one_line(f"columns of numbers: {numbers}{of}{target}", _LONGEST)

    def split(self, rows: TableRows) -> Split:
        """The inputs (n, D), float64, and labels of a table with the same columns.

        Texts that no training row holds have zeros in all columns of their category, and labels -1:
        see :func:`encoded`. Raises :class:`WidegramError` for other columns.
        """
        self._check_columns(rows)
        sources = [rows.names.index(known.name) for known in self.features]
        places = [
            None if known.levels is None else known.places(rows.columns[at])
            for known, at in zip(self.features, sources, strict=True)
        ]
        widths = [1 if known.levels is None else len(known.levels) for known in self.features]
        starts = np.concatenate([[0], np.cumsum(widths)]).astype(int)
        table = rows.x

        def one_hot(lo: int, hi: int) -> Array:
            raw = table.rows(lo, hi)
            made = np.zeros((len(raw), starts[-1]))
            for at, start, place in zip(sources, starts[:-1], places, strict=True):
                if place is None:
                    made[:, start] = raw[:, at]
                    continue
                level = place[raw[:, at].astype(np.int64)]
                seen = np.flatnonzero(level != _UNSEEN)
                made[seen, start + level[seen]] = 1.0
            return made

        x = Table(table.name, (table.shape[0], int(starts[-1])), np.dtype(np.float64), one_hot)
        return Split(x, self._labels(rows))

    def _labels(self, rows: TableRows) -> Array | None:
        if self.target is None or self.target.name not in rows.names:
            return None
        y = target_values(rows, self.target.name)
        column = rows.columns[rows.names.index(self.target.name)]
        return y if column.words is None else self.target.places(column)[y]

    def _check_columns(self, rows: TableRows) -> None:
        for known in self.features:
            check_column(rows.x.name, known.name, rows.names)
        wanted = {known.name for known in self.known}
        more = [name for name in rows.names if name not in wanted]
        if more:
            raise WidegramError(
                f"{rows.x.name}: has a column {shown(more[0])} that the training data had not; "
                "remove it"
            )
        for known in self.known:
            if known.name not in rows.names:
                continue
            texts = rows.columns[rows.names.index(known.name)].words is not None
            if texts != (known.levels is not None):
                kinds = ("texts", "numbers") if texts else ("numbers", "texts")
                raise WidegramError(
                    f"{rows.x.name}: column {shown(known.name)} holds {kinds[0]}, the training "
                    f"data had {kinds[1]} there"
                )


def learn(
    rows: TableRows, target: str | None, dropped: Collection[str], part: Selection, block: int
) -> Encoding:
    """The encoding that the training rows ``part`` of a table ask for: their texts, sorted.

    Raises :class:`WidegramError` where no column is left, or the target is the same in every row.
    """
    seen: list[set[int]] = [set() for _ in rows.columns]
    texts = [at for at, column in enumerate(rows.columns) if column.words is not None]
    for values in part.ascending().blocks(block) if texts else ():
        for at in texts:
            seen[at].update(np.unique(values[:, at]).astype(int).tolist())
    known = {}
    for column, places in zip(rows.columns, seen, strict=True):
        words = column.words
        levels = None if words is None else tuple(sorted(words[place] for place in places))
        known[column.name] = KnownColumn(column.name, levels)
    label = None if target is None else known.pop(target)
    if not known:
        raise WidegramError(f"{rows.x.name}: has no column but the target, none to learn from")
    if part.labels is not None and (part.labels == part.labels[0]).all():
        raise WidegramError(
            f"{rows.x.name}: its target {shown(target)} is the same in all {len(part.indices)} "
            "training rows; choose another column, or more rows"
        )
    return Encoding(tuple(known.values()), label, tuple(dropped))


def encoded(
    encoding: Encoding, rows: TableRows, parts: Mapping[str, Selection], accept: bool, block: int
) -> tuple[dict[str, Selection], list[str]]:
    """Rows ``parts`` of the encoded table, and lines about texts that no training row holds.

    Raises :class:`WidegramError` for such texts unless they are to be accepted, and for labels of
    that kind in any case.
    """
    split = encoding.split(rows)
    lines = []
    for part in parts.values():
        for name, line in _unseen(encoding, rows, part, block):
            if encoding.target is not None and name == encoding.target.name:
                raise WidegramError(f"{line}; choose training rows with every class")
            if not accept:
                raise WidegramError(f"{line}; --accept-unseen gives it zeros in its place")
            lines.append(f"{line}: zeros in its place")
    return {name: Selection(split, part.indices) for name, part in parts.items()}, lines


def _unseen(
    encoding: Encoding, rows: TableRows, part: Selection, block: int
) -> Iterator[tuple[str, str]]:
    """Columns with texts in rows ``part`` that no training row holds, and a line about each."""
    checked = []
    for known in encoding.known:
        if known.levels is not None and known.name in rows.names:
            at = rows.names.index(known.name)
            checked.append((at, known.places(rows.columns[at])))
    found: dict[int, list[int]] = {}  # column -> first row, its text, how many rows
    done = 0
    for values in Selection(Split(rows.x, None), part.indices).blocks(block) if checked else ():
        for at, places in checked:
            words = values[:, at].astype(np.int64)
            bad = np.flatnonzero(places[words] == _UNSEEN)
            if len(bad):
                found.setdefault(at, [int(part.indices[done + bad[0]]), int(words[bad[0]]), 0])
                found[at][2] += len(bad)
        done += len(values)
    for at, (row, word, count) in found.items():
        column = rows.columns[at]
        more = f" (nor those of {count - 1} more rows)" if count > 1 else ""
        yield (
            column.name,
            f"{rows.x.name}: row {row} holds {shown((column.words or ())[word])} in column "
            f"{shown(column.name)}, which no training row holds{more}",
        )
