"""Gradient flow on the mean squared error, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.predict import arguments
from widegram.predict.as_matrices import Axes, Outputs, matrix
from widegram.predict.decomposition import Decomposition
from widegram.validation.arrays import number

Array = NDArray[Any]


def gradient_descent_mse(
    k_train_train: Any,
    y_train: Array,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Axes = (-1,),
) -> Callable[..., Any]:
    """Outputs of a network under gradient flow on the mean squared error, as in neural-tangents.

    f_t = K* K^-1 (1 - exp(-K learning_rate t / y_train.size)) y (Jacot et al., arXiv:1806.07572;
    Lee et al., arXiv:1902.06720): time is counted in units of ``learning_rate``, for a loss
    divided by ``y_train.size``.

    * ``k_train_train``: the kernel on the training data, (n, n), or (n, n, Y, Y, ...) with the
      axes of ``y_train`` other than ``trace_axes`` in pairs; of a Gram file the NTK is taken
    * ``diag_reg``: added to its diagonal, times trace / N unless ``diag_reg_absolute_scale``

    Returns ``predict_fn(t=None, fx_train_0=0., fx_test_0=None, k_test_train=None)``, the outputs on
    the training set, on the test set where ``fx_test_0`` is given, or a tuple of both. None as an
    initial output leaves that set out.

    * ``t``: a number, or an array whose axes come first; None is infinity

    Raises WidegramError for a singular kernel at infinite time (with a regulariser that mends
    it), and for an argument that is missing, not finite or of a shape that does not fit.
    """
    y = arguments.targets(y_train)
    outputs = Outputs(y, trace_axes)
    rate, diag_reg = number(learning_rate, "learning_rate"), number(diag_reg, "diag_reg")

    @cache
    def kernel() -> tuple[Decomposition, np.dtype[Any]]:
        array = arguments.training_kernel(k_train_train, "ntk", outputs, y)
        found = Decomposition(matrix(array), diag_reg, diag_reg_absolute_scale, y.size)
        return found, array.dtype

    def predict_fn(
        t: Any = None, fx_train_0: Any = 0.0, fx_test_0: Any = None, k_test_train: Any = None
    ) -> Any:
        """Outputs at time ``t``; see :func:`gradient_descent_mse`."""
        arguments.require_outputs(fx_train_0, fx_test_0, k_test_train)
        decomposition, dtype = kernel()
        times = None if t is None else arguments.times(t, rate)
        start = arguments.initial(0.0 if fx_train_0 is None else fx_train_0, "fx_train_0", y.shape)
        gap = outputs.fold(np.broadcast_to(np.subtract(y, start), y.shape))
        train, test = None, None
        if fx_train_0 is not None:
            train = _train(decomposition, gap, times, outputs, y, start).astype(dtype)
        if fx_test_0 is not None:
            k_td = arguments.cross_kernel(k_test_train, "ntk", decomposition.n)
            test = _test(decomposition, gap, times, outputs, k_td, fx_test_0).astype(dtype)
        if train is not None and test is not None:
            return train, test
        return test if train is None else train

    return predict_fn


def _train(
    decomposition: Decomposition,
    gap: Array,
    times: Array | None,
    outputs: Outputs,
    y: Array,
    start: Array,
) -> Array:
    if times is None:
        return y
    moved = np.stack([decomposition.learned(time, gap) for time in times.ravel()])
    shape = tuple(y.shape[axis] for axis in _others(y.ndim, outputs))
    return _lifted(start, times) + outputs.unfold(moved, shape, times.shape)


def _test(
    decomposition: Decomposition,
    gap: Array,
    times: Array | None,
    outputs: Outputs,
    k_td: Array,
    start: Any,
) -> Array:
    across = matrix(k_td).astype(np.float64)
    if times is None:
        moved = outputs.unfold(across @ decomposition.solve(gap), k_td.shape[::2])
        return arguments.initial(start, "fx_test_0", moved.shape) + moved
    each = np.stack([across @ decomposition.solved(time, gap) for time in times.ravel()])
    moved = outputs.unfold(each, k_td.shape[::2], times.shape)
    shape = moved.shape[times.ndim :]
    return _lifted(arguments.initial(start, "fx_test_0", shape), times) + moved


def _lifted(start: Array, times: Array) -> Array:
    """Initial outputs with the axes of ``times`` in front."""
    return start[(None,) * times.ndim]


def _others(ndim: int, outputs: Outputs) -> list[int]:
    return [axis for axis in range(ndim) if axis - ndim not in outputs.trace_axes]
