"""The kernel of a network as one of scikit-learn's, for its own Gaussian processes.

A :class:`NetworkKernel` adds to and multiplies with scikit-learn's other kernels and has
hyperparameters that its ``fit`` climbs to:

    1.0 * NetworkKernel("fcn:depth=3", w_var=1.5) + WhiteKernel()
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from widegram.network import Network, NetworkLike
from widegram.network.presets import build
from widegram.sklearn.network_estimator import DEFAULT, NetworkEstimator

Array = NDArray[Any]
_STEP = 1e-4  # of a logarithm: differences to both sides are as exact as 1e-8 of the kernel


class NetworkKernel(NetworkEstimator, Kernel):
    """The NNGP or NTK of a network.

    * ``network``, ``kernel``, ``input_shape``, ``cache_size``, ``accept_series_error``: as
      :class:`widegram.sklearn.network_estimator.NetworkEstimator` says
    * ``w_var``, ``b_var``: options of the preset ``network``, which may not name them too; each is
      a hyperparameter with its bounds, or fixed where those are 'fixed', and none where it is None

    Gradients by them are differences to both sides.
    """

    def __init__(
        self,
        network: NetworkLike = DEFAULT,
        kernel: str = "nngp",
        w_var: float | None = None,
        b_var: float | None = None,
        w_var_bounds: tuple[float, float] | str = (0.1, 10.0),
        b_var_bounds: tuple[float, float] | str = (1e-3, 10.0),
        input_shape: tuple[int, ...] | None = None,
        cache_size: float = 500,
        accept_series_error: float | None = None,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.w_var = w_var
        self.b_var = b_var
        self.w_var_bounds = w_var_bounds
        self.b_var_bounds = b_var_bounds
        self.input_shape = input_shape
        self.cache_size = cache_size
        self.accept_series_error = accept_series_error

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """The options that have a value."""
        return [
            Hyperparameter(name, "numeric", getattr(self, f"{name}_bounds"))
            for name in ("b_var", "w_var")
            if getattr(self, name) is not None
        ]

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:
        """K(X, Y), (n, m); with ``eval_gradient`` its derivative by theta too, (n, n, p)."""
        X, options = self._rows(X), self._options()
        other = None if Y is None else self._rows(Y)
        found = np.array(self._kernel(X, other, self.kernel, self._network(X, options)))
        if not eval_gradient:
            return found
        if Y is not None:
            raise ValueError("Gradient can only be evaluated when Y is None.")
        free = [entry.name for entry in self.hyperparameters if not entry.fixed]
        gradient = np.empty((*found.shape, len(free)))
        for at, name in enumerate(free):
            high, low = (
                self._kernel(X, None, self.kernel, self._network(X, options | {name: float(moved)}))
                for moved in (options[name] * np.exp(_STEP), options[name] * np.exp(-_STEP))
            )
            gradient[:, :, at] = (high - low) / (2 * _STEP)
        return found, gradient

    def diag(self, X: Array) -> Array:
        """K(x, x), (n,)."""
        X = self._rows(X)
        return self._diagonal(X, self.kernel, self._network(X, self._options()))

    def is_stationary(self) -> bool:
        """No: it depends on the inputs themselves."""
        return False

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value:.3g}" for name, value in self._options().items())
        return f"NetworkKernel({self.network!r}, {self.kernel!r}{options and ', '}{options})"

    def _rows(self, X: Array) -> Array:
        return np.atleast_2d(np.asarray(X, dtype=np.float64))

    def _options(self) -> dict[str, float]:
        values = {"w_var": self.w_var, "b_var": self.b_var}
        return {name: float(value) for name, value in values.items() if value is not None}

    def _network(self, X: Array, options: dict[str, float]) -> Network:
        if not options:
            return self._loaded(X)
        return build(str(self.network), self._shape(X), None, **options)
