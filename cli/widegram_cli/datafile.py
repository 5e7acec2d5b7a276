"""What a data file holds: for ``widegram data info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from widegram.data.tables import HDF5_SUFFIXES, existing_file, list_arrays, open_table

_SHOWN_VALUES = 8


def contents(file: str) -> dict[str, Any]:
    """``arrays`` (name -> shape, dtype) and, of an HDF5 file, its root ``attributes``.

    The one array of an .npy file has an empty name. Raises
    :class:`widegram.errors.WidegramError` for a missing, damaged or unknown file.
    """
    path = existing_file(Path(file))
    single = path.suffix.lower() not in (".npz", *HDF5_SUFFIXES)
    arrays = {}
    for name in [""] if single else list_arrays(path):
        table = open_table(f"{file}:{name}" if name else file)
        arrays[name] = {"shape": list(table.shape), "dtype": str(table.dtype)}
    attributes = _attributes(path) if path.suffix.lower() in HDF5_SUFFIXES else {}
    return {"file": file, "arrays": arrays, "attributes": attributes}


def _attributes(path: Path) -> dict[str, Any]:
    """Root attributes as plain values; long ones (a mean per feature) by their length."""
    import h5py

    from widegram.sealed import SEAL

    attributes = {}
    with h5py.File(path, "r") as opened:
        for name, value in opened.attrs.items():
            if name == SEAL:
                continue
            size = getattr(value, "size", 1)
            if hasattr(value, "tolist"):
                value = value.tolist()
            attributes[name] = value if size <= _SHOWN_VALUES else f"{size} values"
    return attributes
