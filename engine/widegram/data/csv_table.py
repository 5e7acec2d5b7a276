"""Tables of comma separated values (RFC 4180): a header with the names of columns, UTF-8."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from widegram.data.columns import NUMBER, Collector, TableOptions, TableRows
from widegram.errors import WidegramError, shown
from widegram.machine import interrupts

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = tuple(_DELIMITERS)
_OTHERS = (";", "\t", "|", ",")
_LONGEST_LINE = 2**24
_FIELDS = 2**16  # of a block of rows
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def read_csv(path: Path, options: TableOptions) -> TableRows:
    """The rows of a file, read once.

    Raises :class:`WidegramError` for what is no such table: no UTF-8, no header, rows of
    several lengths, quotes that do not end.
    """
    with open(path, "rb") as raw:
        head = raw.read(2)
    if head in _WIDE:
        raise WidegramError(f"{path}: is UTF-16; save it as UTF-8")
    delimiter = _DELIMITERS[path.suffix.lower()]
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            _lines(file, path), delimiter=delimiter, strict=True, skipinitialspace=True
        )
        try:
            names = _header(path, next(reader, []), delimiter)
            collector = Collector(path, names, options)
            for rows, first, lines in _blocks(reader, path, len(names)):
                interrupts.check()
                columns = list(zip(*rows, strict=True))
                place = _places(first, lines)
                collector.add([list(columns[at]) for at in collector.kept], place)
            return collector.finish()
        except (csv.Error, UnicodeDecodeError) as error:
            decoding = isinstance(error, UnicodeDecodeError)
            what = "is no UTF-8" if decoding else str(error)
            raise WidegramError(
                f"{path}: line {reader.line_num + 1} or the next: {what}; save it as CSV in UTF-8, "
                "each quote closed"
            ) from error


def _blocks(
    reader: Iterator[list[str]], path: Path, width: int
) -> Iterator[tuple[list[list[str]], int, list[int]]]:
    """Blocks of rows, the number of the first, and the line on which each ends."""
    rows: list[list[str]] = []
    lines: list[int] = []
    first, blank = 0, 0
    for row in reader:
        line = reader.line_num  # type: ignore[attr-defined]  # csv's readers have it
        if not row:
            blank = blank or line
            continue
        if blank or len(row) != width:
            where = f"line {blank} is empty" if blank else f"row {first + len(rows)} (line {line})"
            has = "" if blank else f" has {len(row)} values, the header has {width} columns"
            raise WidegramError(f"{path}: {where}{has}; mend the table")
        rows.append(row)
        lines.append(line)
        if len(rows) * width >= _FIELDS:
            yield rows, first, lines
            first, rows, lines = first + len(rows), [], []
    if rows:
        yield rows, first, lines


def _places(first: int, lines: list[int]) -> Callable[[int], str]:
    return lambda k: f"row {first + k} (line {lines[k]})"


def _header(path: Path, row: list[str], delimiter: str) -> list[str]:
    names = [name.strip() for name in row]
    if not any(names):
        raise WidegramError(f"{path}: is empty, or its first line is; a header is needed there")
    others = [other for other in _OTHERS if other != delimiter and other in names[0]]
    if len(names) == 1 and others:
        raise WidegramError(
            f"{path}: its columns seem to be separated by {others[0]!r}, not {delimiter!r}; save "
            "it with commas as .csv, or with tabs as .tsv"
        )
    if all(NUMBER.fullmatch(name) for name in names):
        raise WidegramError(
            f"{path}: its first line holds numbers ({shown(names[0])}, ...), names of columns are "
            "needed there"
        )
    return names


def _lines(file: IO[str], path: Path) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise WidegramError(f"{path}: a line has more than {_LONGEST_LINE} characters")
        if "\0" in line:
            raise WidegramError(f"{path}: holds null characters; save it as UTF-8")
        yield line
