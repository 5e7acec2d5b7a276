"""Tables as raw data: CSV and Parquet files, a column of labels, columns left out."""

from __future__ import annotations

from pathlib import Path

from widegram.data.columns import TableOptions, target_values
from widegram.data.csv_table import SUFFIXES as _CSV
from widegram.data.csv_table import read_csv
from widegram.data.parquet_table import SUFFIXES as _PARQUET
from widegram.data.parquet_table import read_parquet
from widegram.data.raw import RawData, Split
from widegram.errors import WidegramError, shown
from widegram.validation.reading import existing_file

SUFFIXES = (*_CSV, *_PARQUET)


def open_table_file(path: Path, options: TableOptions) -> RawData:
    """A table whose categories are not yet encoded, which training rows decide
    (:mod:`widegram.data.encoding`); the labels of texts are their places.

    Raises :class:`WidegramError` for what is no table, or has other columns.
    """
    existing_file(path)
    target = options.target
    if target is not None and target in options.dropped:
        raise WidegramError(f"the column {shown(target)} is the target, it cannot be dropped")
    read = read_parquet if path.suffix.lower() in _PARQUET else read_csv
    rows = read(path, options)
    labelled = target is not None and target in rows.names
    y = target_values(rows, target) if target is not None and labelled else None
    note = "" if labelled else "there are no labels; name their column with --target"
    return RawData(str(path), Split(rows.x, y), note=note, table=rows)
