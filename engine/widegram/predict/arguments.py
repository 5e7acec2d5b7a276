"""Checks of what :mod:`widegram.predict` is given, so that no mistake reaches LAPACK.

Each raises WidegramError, which names the argument, its shape and what is wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.predict.as_matrices import Outputs, matrix
from widegram.predict.kernels import kernel_of
from widegram.validation.arrays import finite, real

Array = NDArray[Any]

# A training kernel must equal its transpose up to rounding: float32 kernels of other programs
# differ by a few 1e-6 of the largest entry where they compute both halves.
_ASYMMETRY = 1e-4


def training_kernel(kernel: Any, name: str, outputs: Outputs, y: Array) -> Array:
    """The kernel ``name`` of ``k_train_train``, in the shape that it is given in: as a matrix
    (n, n), finite and symmetric to 1e-4 of its largest entry, n training points with the outputs
    that ``y`` has besides."""
    argument = "k_train_train"
    array = finite(kernel_of(kernel, name, argument), argument)
    square = matrix(array, argument)
    if square.shape[0] != square.shape[1]:
        raise WidegramError(
            f"{argument} has shape {array.shape}; it must be square, the kernel of the training "
            "data with themselves"
        )
    _check_symmetric(square, argument)
    rows = y.size // max(outputs.size, 1)
    if square.shape[0] != rows:
        raise WidegramError(
            f"y_train has shape {y.shape}, {argument} {array.shape}; they must have one number of "
            "training points"
        )
    return array


def _check_symmetric(square: Array, argument: str) -> None:
    step = max(1, (1 << 22) // max(len(square), 1))
    limit = _ASYMMETRY * float(np.max(np.abs(np.diagonal(square)), initial=0.0))
    for lo in range(0, len(square), step):
        gap = np.abs(square[lo : lo + step] - square[:, lo : lo + step].T)
        if gap.max(initial=0.0) > limit:
            i, j = (int(v) for v in np.argwhere(gap > limit)[0])
            raise WidegramError(
                f"{argument} is not symmetric: [{lo + i}, {j}] and [{j}, {lo + i}] differ by "
                f"{gap[i, j]:.3g}; pass the kernel of the training data with themselves"
            )


def cross_kernel(kernel: Any, name: str, columns: int) -> Array:
    """The kernel ``name`` of ``k_test_train``, in the shape that it is given in: as a matrix
    (m, ``columns``), finite."""
    argument = "k_test_train"
    array = finite(kernel_of(kernel, name, argument), argument)
    across = matrix(array, argument)
    if across.shape[1] != columns:
        hint = "; transpose it" if across.shape[0] == columns else ""
        raise WidegramError(
            f"{argument} has shape {array.shape}; its columns must be the {columns} training "
            f"points{hint}"
        )
    return array


def test_kernel(kernel: Any, name: str, cross: Array) -> Array:
    """The kernel ``name`` of ``k_test_test``, in the shape that it is given in: as a matrix (m, m),
    finite, m the rows of ``cross``."""
    argument = "k_test_test"
    array = finite(kernel_of(kernel, name, argument), argument)
    shape, rows = matrix(array, argument).shape, matrix(cross, "k_test_train").shape[0]
    if shape != (rows, rows):
        raise WidegramError(
            f"{argument} has shape {array.shape}; it must be the kernel of the {rows} test points "
            "(the rows of k_test_train) with themselves"
        )
    return array


def targets(y: Any) -> Array:
    """``y_train`` as an array (n, ...) of finite numbers, one at least."""
    array = finite(y, "y_train")
    if array.ndim == 0 or array.size == 0:
        raise WidegramError(f"y_train has shape {array.shape}; it must hold rows of targets")
    return array


def times(t: Any, rate: float) -> Array:
    """Times in units of the loss's gradient flow, of the shape of ``t``; infinity is allowed."""
    array = real(t, "t").astype(np.float64)
    if array.size == 0:
        raise WidegramError("t is empty; give one time or more, or None for infinite time")
    if not (array >= 0).all():
        raise WidegramError("t holds a negative time or NaN; times are zero or positive")
    return array * rate


def initial(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """Initial outputs, finite, that broadcast to the outputs' ``shape``."""
    array = finite(value, name)
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        raise WidegramError(
            f"{name} has shape {array.shape}, the outputs {shape}; give a number or that shape"
        ) from None
    return array


def require_outputs(fx_train_0: Any, fx_test_0: Any, k_test_train: Any) -> None:
    """Refuse initial outputs of nothing, and of a test set without its kernel."""
    if fx_train_0 is None and fx_test_0 is None:
        raise WidegramError("fx_train_0 and fx_test_0 are both None: nothing to predict")
    if fx_test_0 is not None and k_test_train is None:
        raise WidegramError("fx_test_0 is given: predictions on the test set need k_test_train")
