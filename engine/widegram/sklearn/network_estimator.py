"""What all estimators share: a network, and its kernel matrices of arrays X.

Kernels are remembered (:data:`MEMORY`), so that a search over other parameters computes those of
each fold once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

import widegram
from widegram.computing.in_memory import diagonal
from widegram.computing.job import make_job
from widegram.errors import WidegramError, shown
from widegram.network import Network, NetworkLike, load_network
from widegram.network.inputs import is_list
from widegram.sklearn.kernel_memory import KernelMemory
from widegram.validation.arrays import choice, number
from widegram.validation.choices import KERNELS

Array = NDArray[Any]
DEFAULT = "fcn:depth=2,act=relu"
MEMORY = KernelMemory()


class NetworkEstimator(BaseEstimator):
    """An estimator with the kernel of an infinitely wide network.

    * ``network``: a preset, file, dict or Network, as :func:`widegram.load_network` takes them
    * ``kernel``: 'nngp' or 'ntk'
    * ``input_shape``: (H, W, C) of the images whose pixels are the columns of X, None for vectors
    * ``cache_size``: megabytes of kernels that are remembered between fits, 0 for none
    * ``accept_series_error``: as in :func:`widegram.gram`
    """

    network: NetworkLike
    kernel: str
    input_shape: tuple[int, ...] | None
    cache_size: float
    accept_series_error: float | None

    def _shape(self, X: Array) -> tuple[int, ...]:
        """The shape of an input, of which X has one a row; checked, with the kernel's name."""
        choice(self.kernel, "kernel", KERNELS)
        if is_list(self.input_shape):
            raise WidegramError(
                "input_shape: is that of a list of inputs, and estimators take one array X; use "
                "widegram.kernel or widegram.gram"
            )
        try:
            shape = (X.shape[1],) if self.input_shape is None else tuple(self.input_shape)
            size = int(np.prod(shape))
        except (TypeError, ValueError):
            raise WidegramError(
                f"input_shape={shown(self.input_shape)}: give (H, W, C), (L, C) or (D,)"
            ) from None
        if size != X.shape[1]:
            raise WidegramError(
                f"input_shape={shape} holds {size} numbers, X has {X.shape[1]} columns"
            )
        return shape

    def _load(self, X: Array) -> None:
        """Set ``X_fit_`` (n, D) and ``network_``."""
        self.X_fit_ = np.array(X)  # predictions are of what was fitted, whatever becomes of X
        self.network_ = self._loaded(X)

    def _loaded(self, X: Array) -> Network:
        return load_network(self.network, self._shape(X), given_by="an estimator's X")

    def _kernel(
        self, X: Array, other: Array | None, kernel: str, network: Network | None = None
    ) -> Array:
        """K(X, other), float64, read-only; the square matrix of X where ``other`` is None."""
        network = network or self.network_

        def compute() -> Array:
            found = widegram.kernel(
                network, _inputs(X, network), None if other is None else _inputs(other, network),
                kernel, "float64", accept_series_error=self.accept_series_error,
            )  # fmt: skip
            return np.asarray(found)

        room = int(min(number(self.cache_size, "cache_size"), 1e12) * 1e6)
        # What one estimator accepts is not what another gets.
        name = f"{kernel} {self.accept_series_error}"
        return MEMORY.get(network, X, other, name, compute, room)

    def _diagonal(self, X: Array, kernel: str, network: Network | None = None) -> Array:
        """K(x, x) of every row of X, float64 (n,)."""
        network = network or self.network_
        job = make_job(
            network, _inputs(X, network), None, kernel, "float64", None, None, None,
            self.accept_series_error,
        )  # fmt: skip
        return diagonal(job)[kernel]


def _inputs(X: Array, network: Network) -> Array:
    return X.reshape(len(X), *network.input_shape)
