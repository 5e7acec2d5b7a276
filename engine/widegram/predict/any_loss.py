"""Gradient flow on any loss, with and without momentum, by integration of an ODE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.predict import arguments
from widegram.predict.as_matrices import Axes, Outputs, matrix
from widegram.predict.gradients import Gradient
from widegram.predict.integrating import Motion, integrate
from widegram.records import Record
from widegram.validation.arrays import number

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ODEState(Record):
    """Where gradient flow stands: each an array, or None where it is not followed.

    * ``fx_train``, ``fx_test``: outputs on the training and on the test set
    * ``qx_train``, ``qx_test``: their velocities, with momentum alone
    """

    fx_train: Any = None
    fx_test: Any = None
    qx_train: Any = None
    qx_test: Any = None


def gradient_descent(
    loss: Callable[[Array, Array], Any],
    k_train_train: Any,
    y_train: Array,
    learning_rate: float = 1.0,
    momentum: float | None = None,
    trace_axes: Axes = (-1,),
    *,
    grad: Callable[[Array, Array], Any] | None = None,
) -> Callable[..., Any]:
    """Outputs of a network under gradient flow on a loss of the caller's, as in neural-tangents.

    f' = -K grad(f, y) (Lee et al., arXiv:1902.06720), time counted in units of ``learning_rate``;
    with momentum f' = q, q' = -K grad(f, y) + q (momentum - 1) / sqrt(learning_rate), time counted
    in units of its square root. Values are integrated to about 1e-10 of the largest.

    * ``loss(fx, y)``: a number; it is evaluated a few times, to check ``grad``
    * ``grad(fx, y)``: its gradient with respect to ``fx``, an array of that shape, such as
      ``jax.grad(loss)``
    * ``k_train_train``, ``trace_axes``: as for :func:`widegram.predict.gradient_descent_mse`

    Returns ``predict_fn(t, fx_train_or_state_0=0., fx_test_0=None, k_test_train=None)``, the
    outputs on the training set, on the test set, or a tuple of both; from an :class:`ODEState`,
    which holds the initial outputs of both and their velocities, an :class:`ODEState`. ``t`` is
    a number or an array in any order, whose axes come first.

    Raises WidegramError for infinite times, where the flow of a general loss need not have a
    limit, for a gradient that is not that of the loss, and for arguments as
    :func:`~widegram.predict.gradient_descent_mse`.
    """
    y = arguments.targets(y_train)
    outputs = Outputs(y, trace_axes)
    gradient = Gradient(loss, grad, y.astype(np.float64))
    rate, damping = _rates(learning_rate, momentum)

    @cache
    def kernel() -> Array:
        return arguments.training_kernel(k_train_train, "ntk", outputs, y)

    def predict_fn(
        t: Any = None,
        fx_train_or_state_0: Any = 0.0,
        fx_test_0: Any = None,
        k_test_train: Any = None,
    ) -> Any:
        """Outputs or states at time ``t``; see :func:`gradient_descent`."""
        given = _state(fx_train_or_state_0, fx_test_0, momentum)
        arguments.require_outputs(given.fx_train, given.fx_test, k_test_train)
        times = _times(t, rate)
        sets = [(kernel(), y.shape)]
        if given.fx_test is not None:
            cross = arguments.cross_kernel(k_test_train, "ntk", len(matrix(kernel())))
            empty = np.empty((len(matrix(cross)), outputs.size))
            sets.append((cross, outputs.unfold(empty, cross.shape[::2]).shape))
        moved = _moved(sets, outputs, gradient, damping, _starts(given, sets, momentum), times)
        found = ODEState(**{name: a.astype(kernel().dtype) for name, a in moved.items()})
        if isinstance(fx_train_or_state_0, ODEState):
            return found
        if given.fx_test is None:
            return found.fx_train
        return found.fx_test if given.fx_train is None else (found.fx_train, found.fx_test)

    return predict_fn


def _rates(learning_rate: Any, momentum: Any) -> tuple[float, float | None]:
    """The unit of time, and the factor of the velocity in its own derivative."""
    rate = number(learning_rate, "learning_rate")
    if rate == 0.0:
        raise WidegramError("learning_rate is 0; it must be positive")
    if momentum is None:
        return rate, None
    kept = number(momentum, "momentum")
    if kept > 1.0:
        raise WidegramError(f"momentum is {kept:g}; it is the part of a step that the next keeps")
    return rate**0.5, (kept - 1.0) / rate**0.5


def _times(t: Any, rate: float) -> Array:
    if t is None or np.isinf(np.max(arguments.times(t, rate))):
        raise WidegramError(
            "t is infinite; the flow of a general loss need not have a limit: give finite times "
            "(gradient_descent_mse has the limit for the squared loss)"
        )
    return arguments.times(t, rate)


def _state(first: Any, fx_test_0: Any, momentum: Any) -> ODEState:
    if not isinstance(first, ODEState):
        return ODEState(first, fx_test_0)
    if fx_test_0 is not None:
        raise WidegramError("fx_test_0 is given beside an ODEState; put it into the state")
    if momentum is None and not (first.qx_train is None and first.qx_test is None):
        raise WidegramError("the ODEState holds velocities, but momentum is None; give a momentum")
    return first


def _starts(
    given: ODEState, sets: list[tuple[Array, tuple[int, ...]]], momentum: Any
) -> dict[str, Array]:
    """Initial values of each array that is followed, by its field; zeros where none is given."""
    found = {}
    for prefix in ("fx", "qx")[: 1 if momentum is None else 2]:
        for where, (_, shape) in zip(("train", "test"), sets, strict=False):
            name = f"{prefix}_{where}"
            value = getattr(given, name)
            start = arguments.initial(0.0 if value is None else value, f"{name}_0", shape)
            found[name] = np.broadcast_to(start, shape)
    return found


def _moved(
    sets: list[tuple[Array, tuple[int, ...]]],
    outputs: Outputs,
    gradient: Gradient,
    damping: float | None,
    starts: dict[str, Array],
    times: Array,
) -> dict[str, Array]:
    """The arrays of ``starts`` at each of ``times``, whose axes come first."""
    spaces = [kernel.shape[::2] for kernel, _ in sets]
    across = np.concatenate([matrix(kernel).astype(np.float64) for kernel, _ in sets])

    def on_matrix(values: Array) -> Array:
        return outputs.fold(gradient(outputs.unfold(values, spaces[0])))

    gradient.check(np.asarray(starts["fx_train"], dtype=np.float64))
    folded = np.concatenate([outputs.fold(value) for value in starts.values()])
    flow = Motion(on_matrix, across, damping)
    scale = max(float(np.abs(starts["fx_train"]).max()), gradient.size)
    start = folded.reshape(-1, len(across), outputs.size)
    states = integrate(flow, start, times.ravel(), scale)
    ends = np.cumsum([len(matrix(kernel)) for kernel, _ in sets])[:-1]
    parts = [part for order in np.moveaxis(states, 1, 0) for part in np.split(order, ends, axis=1)]
    return {
        name: outputs.unfold(part, spaces[n % len(sets)], times.shape)
        for n, (name, part) in enumerate(zip(starts, parts, strict=True))
    }
