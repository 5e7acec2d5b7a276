"""Gaussian process posteriors: NNGP, the infinite NTK ensemble, and the NTK as a covariance."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.predict import arguments
from widegram.predict.as_matrices import Axes, Outputs, matrix, paired
from widegram.predict.decomposition import Decomposition
from widegram.predict.kernels import canonical, has_kernel, packed
from widegram.validation.arrays import number
from widegram.validation.choices import KERNELS
from widegram.validation.kernel_names import Get

Array = NDArray[Any]


class Gaussian(NamedTuple):
    """A mean with the shape of the outputs, and a covariance with that of the test kernel."""

    mean: Array
    covariance: Array


def gp_inference(
    k_train_train: Any,
    y_train: Array,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Axes = (-1,),
) -> Callable[..., Any]:
    """Mean and covariance of infinitely wide networks on a test set, as in neural-tangents.

    'nngp' is the exact posterior of a Bayesian network, 'ntk' the distribution of an infinite
    ensemble trained by gradient flow for infinite time, 'ntkgp' a Gaussian process with the NTK
    as its covariance (He et al., arXiv:2007.05864). Kernels are arrays, objects or named tuples
    with ``nngp`` and ``ntk``, or, for the training data, Gram files. ``diag_reg`` is added to the
    training kernel's diagonal, times trace / N unless ``diag_reg_absolute_scale``.

    Returns ``predict_fn(get=None, k_test_train=None, k_test_test=None)``: the mean, or a
    :class:`Gaussian` where ``k_test_test`` is given; a named tuple of them where ``get`` is a
    tuple or None (both kernels). Without ``k_test_train`` the training set, which is N(y, 0).

    Raises WidegramError for a kernel that is not positive definite, finite and symmetric, missing
    parts, and shapes that do not fit, naming the argument.
    """
    y = arguments.targets(y_train)
    outputs = Outputs(y, trace_axes)
    diag_reg = number(diag_reg, "diag_reg")

    @cache
    def training(name: str) -> tuple[Decomposition, np.dtype[Any]]:
        array = arguments.training_kernel(k_train_train, name, outputs, y)
        found = Decomposition(matrix(array), diag_reg, diag_reg_absolute_scale, y.size)
        return found, array.dtype

    @cache
    def weights(name: str) -> Array:
        return training(name)[0].solve(outputs.fold(y))

    def on_training_set(name: str, covariance: bool) -> Any:
        array = arguments.training_kernel(k_train_train, name, outputs, y)
        mean = y.astype(array.dtype)
        return Gaussian(mean, np.zeros_like(array)) if covariance else mean

    def on_test_set(mode: str, k_td: Any, k_tt: Any) -> Any:
        name = "ntk" if mode == "ntkgp" else mode
        found, dtype = training(name)
        array = arguments.cross_kernel(k_td, name, found.n)
        shape = array.shape[::2]
        mean = outputs.unfold(matrix(array).astype(np.float64) @ weights(name), shape)
        if k_tt is None:
            return mean.astype(dtype)
        if mode == "ntk":
            _require_both(k_train_train, k_td)
            prior = arguments.training_kernel(k_train_train, "nngp", outputs, y)
            cov = ensemble_covariance(
                found.solve,
                matrix(prior).astype(np.float64),
                matrix(array),
                matrix(arguments.cross_kernel(k_td, "nngp", found.n)),
                matrix(arguments.test_kernel(k_tt, "nngp", array)),
            )
        else:
            across = matrix(array).astype(np.float64)
            prior = matrix(arguments.test_kernel(k_tt, name, array))
            cov = prior - across @ found.solve(across.T)
        return Gaussian(mean.astype(dtype), paired(cov, shape).astype(dtype))

    def predict_fn(get: Get = None, k_test_train: Any = None, k_test_test: Any = None) -> Any:
        """Predictions in the modes ``get``; see :func:`gp_inference`."""
        found = {}
        for mode in canonical(get):
            if mode not in (*KERNELS, "ntkgp"):
                raise WidegramError(f"get={mode!r}: choose from nngp, ntk, ntkgp")
            if k_test_train is None:
                name = "ntk" if mode == "ntkgp" else mode
                found[mode] = on_training_set(name, k_test_test is not None)
            else:
                found[mode] = on_test_set(mode, k_test_train, k_test_test)
        return packed(get, found)

    return predict_fn


def ensemble_covariance(
    solve: Callable[[Array], Array], prior: Array, ntk: Array, nngp: Array, nngp_test: Array
) -> Array:
    """Covariance of an ensemble at the end of training: Lee et al., arXiv:1902.06720, equation 16.

    ``solve(b)`` is Theta^-1 b (or what it has become at a finite time), ``prior`` the training
    NNGP (N, N), ``ntk`` and ``nngp`` the cross kernels (M, N), ``nngp_test`` (M, M).
    """
    pulled = solve(ntk.T.astype(np.float64))
    mixed = pulled.T @ nngp.T
    return np.asarray(pulled.T @ (prior @ pulled) - mixed - mixed.T + nngp_test)


def _require_both(k_train_train: Any, k_test_train: Any) -> None:
    for kernel, name in ((k_train_train, "k_train_train"), (k_test_train, "k_test_train")):
        if not has_kernel(kernel, "nngp"):
            raise WidegramError(
                f"the covariance of an NTK ensemble needs both kernels, and {name} has no 'nngp': "
                "pass kernels computed with get=('nngp', 'ntk')"
            )
