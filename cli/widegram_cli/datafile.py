"""What a data file holds: for ``widegram data info``, and ``widegram info`` of prepared data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from widegram.errors import WidegramError, shown
from widegram_cli.output import emit_json, emit_table

_SHOWN_VALUES = 8
_SHOWN_CHARACTERS = 10_000


def contents(file: str) -> dict[str, Any]:
    """``arrays`` (name -> shape, dtype) and, of an HDF5 file, its root ``attributes``.

    The one array of an .npy file has an empty name; one of several that commands would refuse has
    its ``problem`` in place of shape and dtype. Raises
    :class:`widegram.errors.WidegramError` for a missing, damaged or unknown file.
    """
    from widegram.data.formats import HDF5_SUFFIXES, list_arrays, open_table
    from widegram.validation.reading import existing_file

    path = existing_file(Path(file))
    single = path.suffix.lower() not in (".npz", *HDF5_SUFFIXES)
    arrays: dict[str, dict[str, Any]] = {}
    for name in [""] if single else list_arrays(path):
        try:
            table = open_table(f"{file}:{name}" if name else file)
        except WidegramError as error:
            if single:
                raise
            arrays[name] = {"problem": str(error)}
        else:
            arrays[name] = {"shape": list(table.shape), "dtype": str(table.dtype)}
    attributes = _attributes(path) if path.suffix.lower() in HDF5_SUFFIXES else {}
    return {"file": file, "arrays": arrays, "attributes": attributes}


def is_prepared(file: str) -> bool:
    """Whether a file calls itself one of ``widegram data``; no for what cannot be read."""
    from widegram.data.preparing import FORMAT
    from widegram.durable.hdf5 import hdf5_errors, open_file

    try:
        with open_file(Path(file), snapshot=True, foreign=True) as opened, hdf5_errors(Path(file)):
            return bool(opened.attrs.get("format") == FORMAT)
    except WidegramError:
        return False


def print_contents(file: str, as_json: bool) -> None:
    """Arrays with their shapes, and attributes, among them what was done to inputs."""
    found = contents(file)
    if as_json:
        emit_json(found)
        return
    arrays = found["arrays"].items()
    emit_table((name or file, _described(array)) for name, array in arrays)
    if found["attributes"]:
        click.echo()
        emit_table(found["attributes"].items())


def _described(array: dict[str, Any]) -> str:
    if "problem" in array:
        return f"cannot be used: {array['problem']}"
    return f"{shape_text(array['shape'])} {array['dtype']}"


def shape_text(sizes: Sequence[int]) -> str:
    """``32x32x3``."""
    return "x".join(str(size) for size in sizes) or "scalar"


def _attributes(path: Path) -> dict[str, Any]:
    """Root attributes as plain values; long ones (a mean per feature) by their length."""
    from widegram.durable.hdf5 import hdf5_errors, open_file
    from widegram.durable.sealed import SEAL

    with open_file(path, foreign=True) as opened, hdf5_errors(path):
        return {name: _shown(value) for name, value in opened.attrs.items() if name != SEAL}


def _shown(value: Any) -> Any:
    """A number, text or short list; what is neither as text, what is long by its length."""
    size = getattr(value, "size", None)
    if size is not None and size > _SHOWN_VALUES:
        return f"{size} values"
    value = value.tolist() if hasattr(value, "tolist") else value
    values = value if isinstance(value, list) else [value]
    plain = all(isinstance(v, (str, int, float)) for v in values)
    return value if plain and len(str(value)) <= _SHOWN_CHARACTERS else shown(value)
