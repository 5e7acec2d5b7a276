"""Values that a dtype cannot hold are refused by name, never handed on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import OutOfRange, WidegramError


def check_finite(
    name: str, block: NDArray[Any], row: int = 0, column: int = 0, dtype: Any = None
) -> None:
    """Raise :class:`WidegramError` where a block of kernel ``name``, whose first entry is at (row,
    column), holds what is no finite number of ``dtype``, by default its own."""
    dtype = block.dtype if dtype is None else np.dtype(dtype)
    if np.isfinite(block).all() and (dtype == block.dtype or _fits(block, dtype)):
        return
    i, j = np.argwhere(~(np.abs(block) <= np.finfo(dtype).max))[0]
    raise overflow(name, f"row {row + i}, column {column + j}", dtype)


def _fits(block: NDArray[Any], dtype: Any) -> bool:
    return bool(np.abs(block).max() <= np.finfo(dtype).max)


def overflow(name: str, where: str, dtype: Any) -> WidegramError:
    """The error for a value of ``name`` beyond the largest number of ``dtype``."""
    hint = " or --dtype float64" if np.dtype(dtype) == np.float32 else ""
    return OutOfRange(f"{name} overflows at {where}; use inputs or weights of smaller scale{hint}")


def underflow(name: str, where: str, dtype: Any) -> WidegramError:
    """The error for a value of ``name`` below the smallest normal number of ``dtype``."""
    hint = " or --dtype float64" if np.dtype(dtype) == np.float32 else ""
    return OutOfRange(
        f"{name} underflows at {where}: it is below {np.finfo(dtype).tiny:.1e}, the smallest "
        f"normal number of {np.dtype(dtype)}; use inputs or weights of larger scale{hint}"
    )
