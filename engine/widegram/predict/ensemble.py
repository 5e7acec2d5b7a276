"""Infinite ensembles of networks under gradient flow, at finite and infinite times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.predict import arguments
from widegram.predict.as_matrices import Axes, Outputs, matrix, paired
from widegram.predict.decomposition import Decomposition
from widegram.predict.kernels import canonical, packed
from widegram.predict.posterior import Gaussian, ensemble_covariance, gp_inference
from widegram.validation.arrays import number, plain
from widegram.validation.choices import KERNELS
from widegram.validation.kernel_names import Get, in_order

Array = NDArray[Any]


class _Kernel:
    """Both kernels, each None where it was not needed."""

    def __init__(self, nngp: Array | None = None, ntk: Array | None = None) -> None:
        self.nngp = nngp
        self.ntk = ntk


def gradient_descent_mse_ensemble(
    kernel_fn: Callable[..., Any],
    x_train: Array,
    y_train: Array,
    learning_rate: float = 1.0,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Axes = (-1,),
    **kernel_fn_train_train_kwargs: Any,
) -> Callable[..., Any]:
    """Mean and covariance of an infinite ensemble under gradient flow, as in neural-tangents.

    ``kernel_fn(x1, x2, get, **kwargs)`` gives an array for one name in ``get`` and a named tuple
    or object for several. ``diag_reg`` and the unit of time as in
    :func:`widegram.predict.gradient_descent_mse`. Decompositions are kept between calls.

    Returns ``predict_fn(t=None, x_test=None, get=None, compute_cov=False, **kwargs)``: the mean,
    or a :class:`Gaussian` with ``compute_cov``, for the modes ``get`` ('nngp', 'ntk', or a tuple;
    None is both). ``t`` None is infinity; an array's axes come first. ``x_test`` None predicts
    the training set. Raises WidegramError as the two functions it is built on.
    """
    return _Ensemble(
        _callable(kernel_fn),
        x_train,
        arguments.targets(y_train),
        number(learning_rate, "learning_rate"),
        number(diag_reg, "diag_reg"),
        diag_reg_absolute_scale,
        trace_axes,
        kernel_fn_train_train_kwargs,
    ).predict_fn


class _Ensemble:
    """What :func:`gradient_descent_mse_ensemble` keeps: kernels of the training data and their
    decompositions, each made when it is first needed."""

    def __init__(
        self, kernel_fn: Callable[..., Any], x_train: Array, y: Array, rate: float,
        diag_reg: float, absolute: bool, trace_axes: Axes, options: dict[str, Any],
    ) -> None:  # fmt: skip
        _check_rows(x_train, y)
        self.kernel_fn, self.x_train, self.y, self.rate = kernel_fn, x_train, y, rate
        self.regulariser = (diag_reg, absolute)
        self.trace_axes, self.options = trace_axes, options
        self.outputs = Outputs(y, trace_axes)
        self.target = self.outputs.fold(y)
        self.train = cache(self._train)
        self.decomposition = cache(self._decomposition)
        self.at_infinity = cache(self._at_infinity)

    def _train(self, name: str) -> Array:
        array = self.kernel_fn(self.x_train, None, name, **self.options)
        return arguments.training_kernel(array, name, self.outputs, self.y)

    def _decomposition(self, name: str) -> Decomposition:
        return Decomposition(matrix(self.train(name)), *self.regulariser, self.y.size)

    def _at_infinity(self, names: tuple[str, ...]) -> Callable[..., Any]:
        kernels = _Kernel(**{name: self.train(name) for name in names})
        return gp_inference(kernels, self.y, *self.regulariser, self.trace_axes)

    def predict_fn(
        self, t: Any = None, x_test: Array | None = None, get: Get = None,
        compute_cov: bool = False, **kernel_fn_test_test_kwargs: Any,
    ) -> Any:  # fmt: skip
        """Predictions at time ``t``; see :func:`gradient_descent_mse_ensemble`."""
        modes = canonical(get)
        names = _needed(modes, compute_cov)
        merged = _merged(self.options, kernel_fn_test_test_kwargs)
        cross, test = None, None
        if x_test is not None:
            cross = self._cross(x_test, names, merged)
            if compute_cov:
                test = plain(self.kernel_fn(x_test, None, "nngp", **merged), "k_test_test")
        if t is None:
            known = test if x_test is not None or not compute_cov else True
            return self.at_infinity(names)(get, cross, known)
        times = arguments.times(t, self.rate)
        reference = self.train(modes[0]) if cross is None else getattr(cross, modes[0])
        shape, dtype = reference.shape[::2], self.train(modes[0]).dtype
        wanted = np.empty(0) if cross is None and compute_cov else test
        results: dict[str, Any] = {}
        for mode in modes:
            pairs = [self._at_time(mode, time, cross, wanted) for time in times.ravel()]
            mean = np.stack([mean for mean, _ in pairs])
            results[mode] = self.outputs.unfold(mean, shape, times.shape).astype(dtype)
            if compute_cov:
                cov = np.stack([cov for _, cov in pairs])
                cov = paired(cov.reshape(times.shape + cov.shape[1:]), shape)
                results[mode] = Gaussian(results[mode], cov.astype(dtype))
        return packed(get, results)

    def _cross(self, x_test: Array, names: tuple[str, ...], merged: dict[str, Any]) -> _Kernel:
        values = {name: self.kernel_fn(x_test, self.x_train, name, **merged) for name in names}
        columns = self.y.size // self.outputs.size
        return _Kernel(
            **{n: arguments.cross_kernel(value, n, columns) for n, value in values.items()}
        )

    def _at_time(self, mode: str, t: float, cross: _Kernel | None, test: Array | None) -> Any:
        """Mean and covariance at one time; the covariance where there is a ``test``."""
        found = self.decomposition(mode)
        if cross is None:
            mean = found.learned(t, self.target)
            return mean, None if test is None else self._training_covariance(mode, found, t)
        across = matrix(getattr(cross, mode)).astype(np.float64)
        mean = across @ found.solved(t, self.target)
        if test is None:
            return mean, None
        prior = matrix(test)
        if mode == "nngp":
            return mean, prior - across @ found.solved(2.0 * t, across.T)
        assert cross.nngp is not None
        return mean, ensemble_covariance(
            lambda b: found.solved(t, b),
            matrix(self.train("nngp")).astype(np.float64),
            across,
            matrix(cross.nngp),
            prior,
        )

    def _training_covariance(self, mode: str, found: Decomposition, t: float) -> Array:
        if mode == "nngp":
            return found.prior(t)
        half = found.decayed(t, matrix(self.train("nngp")).astype(np.float64))
        return found.decayed(t, half.T)


def _needed(modes: tuple[str, ...], covariance: bool) -> tuple[str, ...]:
    """The kernels that ``modes`` depend on, in the order nngp, ntk."""
    for mode in modes:
        if mode not in KERNELS:
            raise WidegramError(f"get={mode!r}: an ensemble is predicted for nngp and ntk")
    both = covariance and "ntk" in modes
    return in_order((*modes, "nngp") if both else modes)


def _merged(train: dict[str, Any], test: dict[str, Any]) -> dict[str, Any]:
    for name, value in test.items():
        if name in train and train[name] is not value and train[name] != value:
            raise WidegramError(
                f"kernel_fn argument {name!r} differs between training ({train[name]!r}) and test "
                f"({value!r}) data; give one value for both"
            )
    return {**train, **test}


def _callable(kernel_fn: Any) -> Callable[..., Any]:
    """A kernel_fn, also where the triple of stax that holds it is given."""
    found = kernel_fn[2] if isinstance(kernel_fn, tuple) and len(kernel_fn) == 3 else kernel_fn
    if not callable(found):
        raise WidegramError(
            f"kernel_fn is a {type(kernel_fn).__name__}; give a function kernel_fn(x1, x2, get)"
        )
    return cast(Callable[..., Any], found)


def _check_rows(x_train: Any, y: Array) -> None:
    rows = np.shape(x_train)[0] if hasattr(x_train, "shape") and np.shape(x_train) else y.shape[0]
    if rows != y.shape[0]:
        raise WidegramError(
            f"x_train has {rows} rows and y_train {y.shape[0]}; they must have one number of "
            "training points"
        )
