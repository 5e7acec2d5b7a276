"""The gradient of a loss as the caller gives it, checked against the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.validation.arrays import real

Array = NDArray[np.float64]

# A step in a random direction, relative to the size of outputs and targets: its rounding is small
# beside 1e-3 of the loss in float32, and its half shows whether the loss is smooth there.
_STEP = 1e-2
# A wrong factor, a wrong sign or a missing mean is off by more.
_WRONG = 0.05


class Gradient:
    """``grad(fx, y)`` at one ``y``, float64, whose largest number is ``size``; ``loss`` and
    ``grad`` are the caller's functions."""

    def __init__(self, loss: Any, grad: Any, y: Array) -> None:
        if not callable(loss):
            raise WidegramError("gradient_descent: loss must be a function loss(fx, y)")
        if not callable(grad):
            raise WidegramError(
                "gradient_descent: pass grad=, a function grad(fx, y) that returns the gradient of "
                "the loss with respect to fx, such as jax.grad(loss)"
            )
        self._loss: Callable[[Array, Array], Any] = loss
        self._grad: Callable[[Array, Array], Any] = grad
        self._y = y
        self.size = float(np.abs(y).max())

    def __call__(self, fx: Array) -> Array:
        """The gradient at outputs ``fx`` of the shape of ``y``; raises WidegramError for another
        shape or values that are not finite."""
        found = real(self._grad(fx, self._y), "gradient_descent: grad(fx, y)").astype(np.float64)
        if found.shape != fx.shape:
            raise WidegramError(
                f"gradient_descent: grad(fx, y) has shape {found.shape} for outputs {fx.shape}; it "
                "must return a number for each of them"
            )
        if not np.isfinite(found).all():
            raise WidegramError(
                "gradient_descent: grad(fx, y) is not finite at an output of size "
                f"{np.abs(fx).max():.3g}; write it so that it cannot overflow, or take a smaller t"
            )
        return found

    def check(self, fx: Array) -> None:
        """Refuse a gradient that is clearly not that of the loss near ``fx``.

        Differences of the loss over two steps must agree with each other, else nothing is said.
        """
        direction = np.random.default_rng(0).standard_normal(fx.shape)
        direction *= max(float(np.abs(fx).max()), self.size) or 1.0
        slopes = [self._slope(fx, direction, step) for step in (_STEP, _STEP / 2)]
        claimed = float(np.sum(self(fx) * direction))
        size = max(abs(claimed), *map(abs, slopes))
        smooth = abs(slopes[0] - slopes[1]) <= 0.1 * _WRONG * size
        if smooth and abs(claimed - slopes[1]) > _WRONG * size:
            raise WidegramError(
                f"gradient_descent: along a random direction the loss changes by {slopes[1]:.4g} "
                f"and grad says {claimed:.4g}; grad must be the gradient of the loss itself, with "
                "its means and factors"
            )

    def _slope(self, fx: Array, direction: Array, step: float) -> float:
        values = [self._loss(fx + sign * step * direction, self._y) for sign in (1.0, -1.0)]
        above, below = (real(value, "gradient_descent: loss(fx, y)") for value in values)
        if above.size != 1:
            raise WidegramError(
                f"gradient_descent: loss(fx, y) has shape {above.shape}; it must return one number"
            )
        return float(above.item() - below.item()) / (2.0 * step)
