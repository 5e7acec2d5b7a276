"""Columns of a table as they are read: of numbers, or of categories, whose texts are counted off.

A column is of numbers or of texts, never of both, and no value is missing: what is neither is
refused by its column and row.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.formats import Table, nearest
from widegram.errors import WidegramError, shown

MOST_LEVELS = 1000
"""Texts of a category: more are no category but names."""
_MISSING = frozenset(
    ("", "?", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL",
     "null", "None")
)  # fmt: skip
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"false": 0.0, "true": 1.0}  # in any case of letters
_OF_INTEGERS = frozenset("0123456789+- \n")
_BETWEEN = "\n"
MOST_EXACT = 2**53  # whole numbers beyond it are not all in float64


@dataclass(frozen=True)
class TableOptions:
    """What is asked of a table.

    * ``target``: the column of labels
    * ``categories``: columns whose numbers stand for categories
    * ``dropped``: columns left out
    * ``new``: whether it is new data, of which ``target``, ``categories`` and ``dropped`` may be
      missing, and nothing else can be left out
    """

    target: str | None = None
    categories: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    new: bool = False

    @property
    def remedy(self) -> str:
        """What to do about a column that is refused, for the end of a message."""
        return "mend the table" + ("" if self.new else ", or leave the column out with --drop")

    @property
    def named(self) -> list[str]:
        """The columns that have to be there."""
        target = [] if self.target is None else [self.target]
        return [] if self.new else [*target, *self.categories, *self.dropped]


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    * ``name``
    * ``words``: its texts, as they came first, of which a number of the table is the place; None
      where it holds numbers
    * ``whole``: whether all its numbers were written as integers
    """

    name: str
    words: tuple[str, ...] | None
    whole: bool = False


@dataclass(frozen=True)
class TableRows:
    """A table: numbers and places of texts ``x`` (n, columns), float64, and what they mean."""

    x: Table
    columns: tuple[TableColumn, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


class Collector:
    """Columns that come as blocks of rows, kept in an anonymous file.

    ``path`` is that of the table, ``names`` are those of its columns. Raises :class:`WidegramError`
    for columns without a name or with the same one, and for ``options`` that name none.
    """

    def __init__(self, path: Path, names: Sequence[str], options: TableOptions) -> None:
        self._path, self._options = path, options
        _check_names(path, names, options.named)
        self.kept = [at for at, name in enumerate(names) if name not in options.dropped]
        self._names = [names[at] for at in self.kept]
        self._decided = [name in options.categories for name in self._names]
        self._words: list[dict[str, int] | None] = [{} if of else None for of in self._decided]
        self._whole = [True] * len(self._names)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives with the table)
        self._rows = 0

    def add(self, columns: Sequence[Any], place: Callable[[int], str]) -> None:
        """Rows of which the kept ``columns`` are lists of texts or arrays of numbers.

        ``place(k)`` says where row k of the block is, for messages.
        """
        rows = len(columns[0]) if columns else 0
        block = np.empty((rows, len(columns)))
        for at, values in enumerate(columns):
            texts = isinstance(values, list)
            if not texts and self._names[at] in self._options.categories:
                values, texts = [str(value) for value in values.tolist()], True
            block[:, at] = (
                self._texts(at, values, place) if texts else self._numbers(at, values, place)
            )
        self._keep(block)
        self._rows += rows

    def finish(self) -> TableRows:
        """The table; raises :class:`WidegramError` where there are no rows."""
        if not self._rows:
            raise WidegramError(f"{self._path}: has a header and no rows")
        shape = (self._rows, len(self._names))
        file, truths = self._file, self._truths()

        def rows(lo: int, hi: int) -> NDArray[np.float64]:
            if not shape[1]:
                return np.empty((hi - lo, 0))
            block = np.array(np.memmap(file, np.float64, "r", 0, shape)[lo:hi])
            for at, numbers in truths.items():
                block[:, at] = numbers[block[:, at].astype(np.int64)]
            return block

        columns = tuple(
            TableColumn(name, None if words is None else tuple(words), words is None and whole)
            for name, words, whole in zip(self._names, self._words, self._whole, strict=True)
        )
        return TableRows(Table(str(self._path), shape, np.dtype(np.float64), rows), columns)

    def _truths(self) -> dict[int, NDArray[np.float64]]:
        """Columns of truth values, which are numbers from here on, by what each word stands for."""
        found = {}
        for at, words in enumerate(self._words):
            values = [_TRUTHS.get(word.lower()) for word in words or ()]
            if values and None not in values and self._names[at] not in self._options.categories:
                found[at], self._words[at] = np.array(values, np.float64), None
        return found

    def _keep(self, block: NDArray[np.float64]) -> None:
        # With h5py, which takes long: what only computes does without.
        from widegram.durable.outputs import file_system_errors

        with file_system_errors(Path(tempfile.gettempdir())):
            self._file.write(block.tobytes())
            self._file.flush()

    def refuse(self, at: int, where: str, what: str) -> WidegramError:
        """The error of a value of kept column ``at``."""
        column = shown(self._names[at])
        return WidegramError(
            f"{self._path}: {where} {what} in column {column}; {self._options.remedy}"
        )

    def _texts(self, at: int, texts: list[str], place: Callable[[int], str]) -> Any:
        """Texts as numbers: themselves, or their places among the words of the column."""
        if not self._decided[at] and texts and texts[0].strip() not in _MISSING:
            self._decided[at] = True
            self._words[at] = None if NUMBER.fullmatch(texts[0].strip()) else {}
        words = self._words[at]
        if words is None:
            return self._parsed(at, texts, place)
        found = []
        for k, text in enumerate(texts):
            word = text.strip()
            if word in _MISSING:
                raise self.refuse(at, place(k), f"has no value ({word!r})")
            number = self._names[at] not in self._options.categories and NUMBER.fullmatch(word)
            if number:
                raise self.refuse(
                    at, place(k), f"holds the number {word}, and texts stand before it,"
                )
            found.append(words.setdefault(word, len(words)))
        if len(words) > MOST_LEVELS:
            raise self.refuse(at, "more than", f"{MOST_LEVELS} different texts are")
        return found

    def _parsed(self, at: int, texts: list[str], place: Callable[[int], str]) -> Any:
        joined = _BETWEEN.join(texts)
        self._whole[at] = self._whole[at] and set(joined) <= _OF_INTEGERS
        try:
            if joined.isascii() and "_" not in joined:  # float takes more than numbers
                numbers = np.array(list(map(float, texts)))
                if np.isfinite(numbers).all():
                    return numbers
        except ValueError:
            pass
        return np.array([self._number(at, text.strip(), place, k) for k, text in enumerate(texts)])

    def _number(self, at: int, word: str, place: Callable[[int], str], k: int) -> float:
        if word in _MISSING:
            raise self.refuse(at, place(k), f"has no value ({word!r})")
        if not NUMBER.fullmatch(word):
            raise self.refuse(at, place(k), f"holds {shown(word)}, which is no number,")
        number = float(word)
        if not np.isfinite(number):
            raise self.refuse(at, place(k), f"holds {shown(word)}, beyond float64,")
        return number

    def _numbers(self, at: int, values: NDArray[Any], place: Callable[[int], str]) -> Any:
        """An array of numbers, checked."""
        if self._words[at] is not None:
            raise self.refuse(at, place(0), "holds a number, and texts stand before it,")
        self._decided[at] = True
        self._whole[at] = self._whole[at] and values.dtype.kind in "iub"
        numbers = values.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            what = "has no value (NaN)" if np.isnan(numbers[bad[0]]) else "holds an infinite value"
            raise self.refuse(at, place(int(bad[0])), what)
        return numbers


def _check_names(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    for at, name in enumerate(names):
        if not name:
            raise WidegramError(
                f"{path}: column {at + 1} has no name; name it (an index of pandas: write the "
                "table without it)"
            )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise WidegramError(f"{path}: several columns are called {shown(twice[0])}; rename them")
    for name in wanted:
        check_column(path, name, names)


def check_column(path: Path | str, name: str, names: Sequence[str]) -> None:
    """Refuse the name of a column that there is not."""
    if name not in names:
        raise WidegramError(f"{path}: has no column {shown(name)}; {nearest(name, names)}")


def target_values(rows: TableRows, target: str) -> NDArray[Any]:
    """A column as labels (n,): int64 for texts' places and whole numbers, else float64.

    Raises WidegramError for whole numbers beyond 2^53.
    """
    at = rows.names.index(target)
    column = rows.columns[at]
    step = max(1, 2**20 // rows.x.shape[1])
    starts = range(0, rows.x.shape[0], step)
    y = np.concatenate([rows.x.rows(lo, min(lo + step, rows.x.shape[0]))[:, at] for lo in starts])
    if column.words is None and not column.whole:
        return y
    if abs(y).max() > MOST_EXACT:
        raise WidegramError(
            f"{rows.x.name}: its target {shown(target)} holds integers beyond 2^53, which are no "
            "classes; write them with a decimal point for a regression"
        )
    return y.astype(np.int64)
