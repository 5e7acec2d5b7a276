"""Which method `auto` takes, from n, memory and dtype, and why: a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from widegram.errors import WidegramError
from widegram.linalg.outofcore import plan_columns
from widegram.machine.memory import format_size
from widegram.validation.choices import METHODS

_OUT_OF_CORE_MOST = 80_000
_VECTORS = 14  # blocks of right-hand sides that a solver holds at once
_SKETCHES = 4  # n x rank arrays while a preconditioner is built


@dataclass(frozen=True)
class Choice:
    """A method, the dtype of its factor, the bytes for streaming, and the reason in words."""

    method: str
    dtype: np.dtype[Any]
    stream: int
    reason: str


def dense_bytes(n: int, k: int, itemsize: int) -> int:
    """Peak bytes of an in-memory factorisation of n rows with k right-hand sides.

    With ``itemsize`` 0 those of the right-hand sides alone.
    """
    return itemsize * n * n + 8 * _VECTORS * n * k


def choose(
    method: str, n: int, k: int, budget: int, dtype: DTypeLike | None, free_disk: int
) -> Choice:
    """The method to use. ``dtype`` None: float64 where it fits, else float32 with refinement.

    Raises WidegramError for a method that does not fit in ``budget``, naming one that does.
    """
    if method not in METHODS:
        raise WidegramError(f"no method {method!r}; choose from {', '.join(METHODS)}")
    size, stream = format_size(budget), budget // 8
    if method in ("auto", "cholesky"):
        for kind in (np.float64, np.float32) if dtype is None else (np.dtype(dtype).type,):
            held = dense_bytes(n, k, np.dtype(kind).itemsize)
            needed = held + min(stream, held)
            if needed <= budget:
                name = np.dtype(kind).name
                reason = f"{n} rows in {name} need {format_size(held)} of {size}"
                return Choice("cholesky", np.dtype(kind), stream, reason)
        if method == "cholesky":
            raise WidegramError(
                f"cholesky of {n} rows needs {format_size(needed)}, more than {size}; give more "
                "--memory, or take --method cholesky-ooc or cg"
            )
    factor = np.dtype(np.float64 if dtype is None else dtype)
    too_large = f"{n} rows do not fit in {size}"
    if method == "cholesky-ooc" or (method == "auto" and n <= _OUT_OF_CORE_MOST):
        work_file = n * (n + 1024) // 2 * factor.itemsize
        if method == "cholesky-ooc" or work_file < free_disk:
            plan_columns(n, budget - 8 * _VECTORS * n * k, factor.itemsize)
            reason = f"{too_large}, the factor ({format_size(work_file)}) fits on the disk"
            if method != "auto":
                reason = f"as asked, with a work file of {format_size(work_file)}"
            return Choice("cholesky-ooc", factor, stream, reason)
    if 8 * _VECTORS * n * k > budget // 2:
        raise WidegramError(
            f"{_VECTORS} blocks of {n} x {k} right-hand sides do not fit in half of {size}; give "
            f"more --memory, at least {format_size(16 * _VECTORS * n * k)}"
        )
    reason = f"{too_large}, and a factor of it is out of reach" if method == "auto" else "as asked"
    return Choice("cg", np.dtype(np.float64), budget // 4, reason)


def preconditioner_rank(n: int, k: int, budget: int, wanted: int | None) -> int:
    """Rank of the preconditioner: ``wanted``, or 400 and at most n / 4, as far as memory goes."""
    rank = min(n, 400 if wanted is None else wanted)
    if wanted is None:
        rank = min(rank, max(n // 4, 1))
    room = budget // 2 - 8 * _VECTORS * n * k
    return max(0, min(rank, room // (8 * _SKETCHES * n)))
