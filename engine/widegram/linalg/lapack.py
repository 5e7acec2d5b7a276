"""Routines of LAPACK in place that let other threads run while they compute.

SciPy's Python wrappers hold the interpreter's lock for as long as LAPACK takes, minutes for a large
matrix, and nothing could be said or stopped meanwhile; ctypes releases it. Arrays are float32 or
float64 and Fortran-ordered; of symmetric ones the lower triangle counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas, cython_lapack

from widegram.errors import WidegramError
from widegram.linalg.blas import call
from widegram.machine import interrupts

Array = NDArray[Any]
# OpenBLAS' syrk, of which its potrf is made, ends the process where threads are few and a matrix
# wide: its buffers overflow (0.3.31, two threads, 47,000 rows of float32). Wider ones go by blocks.
_WIDEST = 1 << 14
_PANEL = 4096


def potrf(matrix: Array) -> int:
    """The lower triangle of ``matrix`` becomes L, A = L L^T; 0, or the number (from 1) of the first
    row whose pivot is not positive."""
    n = matrix.shape[0]
    if n <= _WIDEST:
        return _call("potrf", matrix, b"L", n, matrix, _leading(matrix))
    for lo in range(0, n, _PANEL):
        interrupts.check()
        hi = min(n, lo + _PANEL)
        square, below, rest = matrix[lo:hi, lo:hi], matrix[hi:, lo:hi], matrix[hi:, hi:]
        info = _call("potrf", matrix, b"L", hi - lo, square, _leading(square))
        if info:
            return lo + info
        if hi < n:
            _trsm(below, square)
            syrk(rest, below, -1.0)
    return 0


def potrs(factor: Array, b: Array) -> None:
    """b (n, k) <- (L L^T)^-1 b."""
    n, k = b.shape
    _call(
        "potrs", factor, b"L", n, k, factor, _leading(factor), b, _leading(b)
    )  # fmt: skip


def trtrs(factor: Array, b: Array, transposed: bool = False) -> None:
    """b (n, k) <- L^-1 b, or L^-T b."""
    n, k = b.shape
    _call(
        "trtrs", factor, b"L", b"T" if transposed else b"N", b"N", n, k, factor,
        _leading(factor), b, _leading(b),
    )  # fmt: skip


def trtri(factor: Array) -> None:
    """The lower triangle L of ``factor`` becomes L^-1."""
    _call("trtri", factor, b"L", b"N", len(factor), factor, _leading(factor))


def syrk(matrix: Array, b: Array, alpha: float = 1.0) -> None:
    """The lower triangle of ``matrix`` (n, n) += alpha b b^T for b (n, k)."""
    n, k = b.shape
    for lo in range(0, n, _WIDEST):
        hi = min(n, lo + _WIDEST)
        square, left = matrix[lo:hi, lo:hi], b[lo:hi]
        call(
            cython_blas, "syrk", matrix, b"L", b"N", hi - lo, k, alpha, left, _leading(left), 1.0,
            square, _leading(square),
        )  # fmt: skip
        if hi < n:
            below, rows = matrix[hi:, lo:hi], b[hi:]
            call(
                cython_blas, "gemm", matrix, b"N", b"T", n - hi, hi - lo, k, alpha, rows,
                _leading(rows), left, _leading(left), 1.0, below, _leading(below),
            )  # fmt: skip


def symm(matrix: Array, b: Array) -> Array:
    """A b for the symmetric A in the upper triangle of ``matrix``; b (n, k)."""
    n, k = b.shape
    out = np.empty((n, k), matrix.dtype, order="F")
    call(
        cython_blas, "symm", matrix, b"L", b"U", n, k, 1.0, matrix, _leading(matrix), b,
        _leading(b), 0.0, out, _leading(out),
    )  # fmt: skip
    return out


def tridiagonal(matrix: Array) -> tuple[Array, Array, Array]:
    """A = Q T Q^T: ``matrix`` becomes reflectors of Q (for :func:`basis`); T's diagonal and
    subdiagonal, and the reflectors' factors (sytrd)."""
    n = len(matrix)
    diagonal, below = np.empty(n, matrix.dtype), np.empty(max(n - 1, 1), matrix.dtype)
    tau = np.empty(max(n - 1, 1), matrix.dtype)
    _with_workspace(
        "sytrd", matrix, b"L", n, matrix, _leading(matrix), diagonal, below, tau
    )  # fmt: skip
    return diagonal, below[: n - 1], tau


def basis(matrix: Array, tau: Array) -> None:
    """The reflectors that :func:`tridiagonal` left in ``matrix`` become Q (orgtr)."""
    _with_workspace("orgtr", matrix, b"L", len(matrix), matrix, _leading(matrix), tau)


def eigen(matrix: Array, vectors: bool, driver: str) -> tuple[Array, Array | None]:
    """Ascending eigenvalues, and eigenvectors (n, n) where asked; ``matrix`` is overwritten.

    ``driver`` "evr" (vectors take another n^2 entries) or "evd" (two more, faster).
    """
    n = len(matrix)
    values = np.empty(n, matrix.dtype)
    job = b"V" if vectors else b"N"
    if driver == "evd":
        _with_workspace("syevd", matrix, job, b"L", n, matrix, _leading(matrix), values, whole=True)
        return values, matrix if vectors else None
    basis = np.empty((n, n) if vectors else (1, 1), matrix.dtype, order="F")
    support = np.zeros(2 * n, dtype=np.int64)
    found = np.zeros(1, dtype=np.int64)
    _with_workspace(
        "syevr", matrix, job, b"A", b"L", n, matrix, _leading(matrix), 0.0, 0.0, 0, 0, 0.0, found,
        values, basis, _leading(basis), support, whole=True,
    )  # fmt: skip
    return values, basis if vectors else None


def _trsm(b: Array, factor: Array) -> None:
    """b (m, w) <- b L^-T with the lower triangle L of ``factor`` (w, w)."""
    m, w = b.shape
    call(
        cython_blas, "trsm", b, b"R", b"L", b"T", b"N", m, w, 1.0, factor, _leading(factor), b,
        _leading(b),
    )  # fmt: skip


def _with_workspace(name: str, like: Array, *arguments: Any, whole: bool = False) -> None:
    """Call a routine that takes a workspace, and with ``whole`` one of integers too, in the size
    that it asks for; raises WidegramError where it does not converge."""
    work, integers = np.empty(1, like.dtype), np.zeros(1, dtype=np.int64)
    ask = (work, -1, *((integers, -1) if whole else ()))
    _call(name, like, *arguments, *ask)
    size = int(work[0] * (1 + 2 * np.finfo(like.dtype).eps)) + 1
    work = np.empty(size, like.dtype)
    give: tuple[Any, ...] = (work, size)
    if whole:
        count = max(int(integers.view(np.int32)[0]), 1)
        give += (np.zeros(count, dtype=np.int64), count)
    if _call(name, like, *arguments, *give):
        raise WidegramError(
            f"LAPACK's {name} did not converge: the matrix holds numbers that are no kernel's; "
            "verify its file"
        )


def _call(name: str, like: Array, *arguments: Any) -> int:
    """Call a routine of LAPACK; what it returns as INFO, 0 or more."""
    status = np.zeros(1, dtype=np.int64)
    call(cython_lapack, name, like, *arguments, status)
    info = int(status.view(np.int32)[0])
    if info < 0:
        raise ValueError(f"argument {-info} of LAPACK's {name}")
    return info


def _leading(array: Array) -> int:
    """Entries from one column to the next."""
    rows, cols = array.shape
    if array.dtype.char not in "fd" or (rows > 1 and array.strides[0] != array.itemsize):
        raise ValueError(f"expected Fortran order in float32 or float64, found {array.dtype}")
    return max(array.strides[1] // array.itemsize if cols > 1 else 0, rows, 1)
