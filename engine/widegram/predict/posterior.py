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
    regulariser = number(diag_reg, "diag_reg"), diag_reg_absolute_scale
    return _Posterior(k_train_train, y, Outputs(y, trace_axes), regulariser).predict_fn


class _Posterior:
    """What :func:`gp_inference` keeps: the decomposition of each training kernel, and its solution,
    made when they are first needed."""

    def __init__(
        self, kernel: Any, y: Array, outputs: Outputs, regulariser: tuple[float, bool]
    ) -> None:
        self._kernel, self._y, self._outputs = kernel, y, outputs
        self._regulariser = regulariser
        self._decomposition = cache(self._decomposed)
        self._weights = cache(self._solved)

    def predict_fn(
        self, get: Get = None, k_test_train: Any = None, k_test_test: Any = None
    ) -> Any:
        """Predictions in the modes ``get``; see :func:`gp_inference`."""
        found = {}
        for mode in canonical(get):
            if mode not in (*KERNELS, "ntkgp"):
                raise WidegramError(f"get={mode!r}: choose from nngp, ntk, ntkgp")
            if k_test_train is None:
                found[mode] = self._on_training_set(mode, k_test_test is not None)
            else:
                found[mode] = self._on_test_set(mode, k_test_train, k_test_test)
        return packed(get, found)

    def _training(self, name: str) -> Array:
        return arguments.training_kernel(self._kernel, name, self._outputs, self._y)

    def _decomposed(self, name: str) -> tuple[Decomposition, np.dtype[Any]]:
        array = self._training(name)
        return Decomposition(matrix(array), *self._regulariser, self._y.size), array.dtype

    def _solved(self, name: str) -> Array:
        return self._decomposition(name)[0].solve(self._outputs.fold(self._y))

    def _on_training_set(self, mode: str, covariance: bool) -> Any:
        array = self._training(_kernel_of(mode))
        mean = self._y.astype(array.dtype)
        return Gaussian(mean, np.zeros_like(array)) if covariance else mean

    def _on_test_set(self, mode: str, k_td: Any, k_tt: Any) -> Any:
        name = _kernel_of(mode)
        found, dtype = self._decomposition(name)
        array = arguments.cross_kernel(k_td, name, found.n)
        shape = array.shape[::2]
        across = matrix(array).astype(np.float64)
        mean = self._outputs.unfold(across @ self._weights(name), shape).astype(dtype)
        if k_tt is None:
            return mean
        if mode == "ntk":
            _require_both(self._kernel, k_td)
            covariance = ensemble_covariance(
                found.solve,
                matrix(self._training("nngp")).astype(np.float64),
                matrix(array),
                matrix(arguments.cross_kernel(k_td, "nngp", found.n)),
                matrix(arguments.test_kernel(k_tt, "nngp", array)),
            )
        else:
            prior = matrix(arguments.test_kernel(k_tt, name, array))
            covariance = prior - across @ found.solve(across.T)
        return Gaussian(mean, paired(covariance, shape).astype(dtype))


def _kernel_of(mode: str) -> str:
    return "ntk" if mode == "ntkgp" else mode


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
