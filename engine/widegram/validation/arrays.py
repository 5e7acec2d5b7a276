"""Arrays and numbers that callers hand over: what would be guessed at is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import index
from os import PathLike, fsencode, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, reason, shown

_LARGEST = 2**62
_LONGEST_NAME = 255  # bytes, on every file system of Linux


def plain(value: Any, name: str) -> NDArray[Any]:
    """``value`` as an array without a mask, of whatever dtype and shape it has.

    Raises :class:`WidegramError` for nested lists of unequal lengths and for a masked array that
    hides values: what lies under a mask is a marker of missing data, and no input.
    """
    # Who has a masked array has imported its part of NumPy, which takes long.
    if "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray):
        hidden = int(np.ma.getmaskarray(value).sum())
        if hidden:
            raise WidegramError(
                f"{name} is a masked array that hides {hidden} of {value.size} values; drop their "
                "rows, or fill them in with .filled(...)"
            )
        return np.asarray(value.data)
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise WidegramError(f"{name} is not an array of numbers: {reason(error)}") from error


def loaded(name: str) -> Any:
    """What a .npy file holds, mapped; a ValueError says what is wrong."""
    try:
        if not Path(name).is_file():
            raise ValueError
        return np.load(name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise ValueError(f"{shown(name)} cannot be read as a .npy file of numbers") from None


def real(value: Any, name: str) -> NDArray[Any]:
    """:func:`plain` for real numbers: floating point, integers or booleans.

    Raises WidegramError for other dtypes.
    """
    array = plain(value, name)
    if array.dtype.kind not in "fiub":
        raise WidegramError(f"{name} holds {array.dtype}; it must hold real numbers")
    return array


def finite(value: Any, name: str) -> NDArray[Any]:
    """:func:`real` for numbers that are neither NaN nor infinite, naming the first that is.

    Raises WidegramError as :func:`real` too.
    """
    array = real(value, name)
    good = np.isfinite(array)
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f" at {list(at)}" if at else ""
        raise WidegramError(f"{name} holds {array[at]}{where}; every value must be finite")
    return array


def as_int64(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Labels (n,) or (n, k), integers, booleans or floating-point numbers that are whole.

    Raises :class:`WidegramError` naming the first row with a fraction, NaN, or a number that int64
    or, of floating-point ones, their own digits cannot hold.
    """
    wrong = np.zeros(values.shape, bool)
    if values.dtype.kind == "u":
        wrong = values > np.uint64(np.iinfo(np.int64).max)
    elif values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(values) < 2.0**53) | (values != np.rint(values))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise WidegramError(
            f"{name}: row {at[0]} holds {values[at]:g}, no whole number; classes are whole numbers "
            "of 64 bits, for others the task is regression"
        )
    return values.astype(np.int64)


def number(value: Any, name: str, least: float = 0.0) -> float:
    """A finite number of at least ``least``.

    Raises WidegramError for anything else.
    """
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        raise WidegramError(f"{name} is {shown(value)}; it must be a number") from None
    if not (np.isfinite(found) and found >= least):
        raise WidegramError(f"{name} is {found:g}; it must be finite and at least {least:g}")
    return found


def integer(value: Any, name: str, least: int) -> int:
    """A whole number of at least ``least``; booleans and fractions are none.

    Raises WidegramError for anything else.
    """
    try:
        found = index(value)
    except TypeError:
        raise WidegramError(f"{name} is {shown(value)}; it must be an integer") from None
    if isinstance(value, bool | np.bool_):
        raise WidegramError(f"{name} is {value}; it must be an integer")
    if not least <= found < _LARGEST:
        raise WidegramError(f"{name} is {shown(found)}; it must be at least {least} and below 2^62")
    return found


def file_path(value: Any, name: str) -> Path:
    """A path given as text or as a path-like object.

    Raises WidegramError for anything else.
    """
    if isinstance(value, str | PathLike):
        found = fspath(value)
        if isinstance(found, str) and found and "\0" not in found:
            path = Path(found)
            if max(map(len, map(fsencode, path.parts)), default=0) > _LONGEST_NAME:
                raise WidegramError(f"{name} {shown(found)}: the name is too long for a file")
            return path
    raise WidegramError(f"{name} is {shown(value)}; it must be the name of a file")


def with_ending(path: Path, ending: str) -> Path:
    """The file beside ``path`` whose name is the same and ``ending``.

    Raises :class:`WidegramError` for a directory's path without a name, such as ``.`` and ``/``.
    """
    if not path.name:
        raise WidegramError(f"{path}: is a directory; give the name of a file in it")
    return path.with_name(f"{path.name}{ending}")


def choice(value: Any, name: str, known: Sequence[str]) -> str:
    """One of the names ``known``.

    Raises WidegramError for any other, naming them all.
    """
    if not isinstance(value, str) or value not in known:
        raise WidegramError(f"{name} {shown(value)} is unknown; choose {', '.join(known)}")
    return value
