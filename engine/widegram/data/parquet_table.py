"""Tables in Apache Parquet files, read through pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from widegram.data.columns import Collector, TableOptions, TableRows
from widegram.errors import WidegramError, reason, shown
from widegram.machine import interrupts

SUFFIXES = (".parquet", ".pq")
_NUMBERS = 2**16  # of a block of rows
_INDEX = "__index_level_"


def read_parquet(path: Path, options: TableOptions) -> TableRows:
    """The rows of a file, read once, a batch at a time.

    Integers, floats, decimals and booleans are numbers, texts (plain or dictionaries)
    categories. Raises :class:`WidegramError` for columns of other types, for nulls, damage and a
    missing pyarrow.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise WidegramError(
            f"{path}: reading Parquet needs pyarrow: pip install 'widegram[tables]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            collector = Collector(path, names, options)
            _check_index(path, [names[at] for at in collector.kept], options.new)
            first = 0
            for batch in file.iter_batches(max(1, _NUMBERS // max(len(names), 1))):
                interrupts.check()

                def place(k: int, first: int = first) -> str:
                    return f"row {first + k}"

                columns = [
                    _values(batch.column(at), collector, k, place)
                    for k, at in enumerate(collector.kept)
                ]
                collector.add(columns, place)
                first += batch.num_rows
            return collector.finish()
    except (pyarrow.ArrowException, OSError) as error:
        raise WidegramError(f"{path}: is no Parquet file, or damaged: {reason(error)}") from error


def _check_index(path: Path, names: list[str], new: bool) -> None:
    for name in names:
        if name.startswith(_INDEX):
            drop = "" if new else f", or leave it out with --drop {name}"
            raise WidegramError(
                f"{path}: its column {shown(name)} is the index of a pandas table; write the table "
                f"with index=False{drop}"
            )


def _values(column: Any, collector: Collector, at: int, place: Any) -> Any:
    """A column of a batch as an array of numbers or a list of texts."""
    from pyarrow import float64, types

    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise collector.refuse(at, place(row), "has no value (null)")
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return column.to_pylist()
    if types.is_decimal(kind):
        column = column.cast(float64())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise collector.refuse(at, f"{kind}, neither numbers nor texts,", "is")
    return column.to_numpy(zero_copy_only=False)
