"""Gradient flow as an ordinary differential equation, integrated by SciPy.

The state is f on the training points and, behind them, on the test points, of which the gradient
does not depend; with momentum also their velocities. At late times it is stiff, since eigenvalues
of a kernel differ by many orders: LSODA, which turns to implicit steps by itself, is given the
derivative of the flow where the state is small, and larger states go in explicit steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.machine import interrupts

Array = NDArray[np.float64]

# Of each number, near the least that LSODA takes, and of the size of the problem.
_RTOL = 1e-12
_ATOL = 1e-13
# Numbers of a state up to which the square matrix of derivatives is made and factored.
_IMPLICIT_MOST = 2000
_DIFFERENCE = 1.5e-8  # the root of rounding


@dataclass(frozen=True)
class Motion:
    """f' = -across gradient(f on the training points), or with ``damping`` the same as q', f' = q.

    ``gradient`` maps (N, C) to (N, C), ``across`` is (N + M, N), the kernels of training and test
    points with the training points; a state is (1, N + M, C), with velocities (2, N + M, C).
    """

    gradient: Callable[[Array], Array]
    across: Array
    damping: float | None

    def rate(self, state: Array) -> Array:
        """The derivative of a state with respect to time."""
        force = -self.across @ self.gradient(state[0, : self.across.shape[1]])
        if self.damping is None:
            return force[None]
        return np.stack([state[1], force + self.damping * state[1]])

    def derivative(self, state: Array) -> Array:
        """The derivative of :meth:`rate`, a square matrix, from differences of the gradient."""
        n, outputs = self.across.shape[1], state.shape[2]
        at = state[0, :n].copy()
        here = self.gradient(at)
        step = _DIFFERENCE * max(float(np.abs(at).max()), 1e-3)
        size, inner = state[0].size, n * outputs
        change = np.empty((inner, n, outputs))
        for column in range(inner):
            at.flat[column] += step
            change[column] = (self.gradient(at) - here) / step
            at.flat[column] -= step
        force = -np.einsum("an,jnc->acj", self.across, change, optimize=True).reshape(size, inner)
        found = np.zeros((state.size, state.size))
        if self.damping is None:
            found[:, :inner] = force
        else:
            found[:size, size:] = np.eye(size)
            found[size:, :inner] = force
            found[size:, size:] = self.damping * np.eye(size)
        return found


def integrate(flow: Motion, start: Array, times: Array, scale: float) -> Array:
    """States at ``times`` (T,), in any order, from ``start`` at 0: an axis of times in front.

    ``scale`` is the size of outputs and targets. Raises WidegramError where the integrator gives
    up.
    """
    from scipy.integrate import solve_ivp  # others that predict need not wait for it

    moments, places = np.unique(times, return_inverse=True)
    if moments[-1] == 0.0:
        return np.repeat(start[None], len(times), axis=0)
    options: dict[str, Any] = {"method": "DOP853"}
    if start.size <= _IMPLICIT_MOST:
        options = {"method": "LSODA", "jac": lambda _, s: flow.derivative(s.reshape(start.shape))}
    advance = _Advance()

    def rate(t: float, state: Array) -> Array:
        advance.to(t)
        return flow.rate(state.reshape(start.shape)).ravel()

    found = solve_ivp(
        rate,
        (0.0, moments[-1]),
        start.ravel(),
        t_eval=moments,
        rtol=_RTOL,
        atol=_ATOL * np.broadcast_to(_sizes(flow, start, scale), start.shape).ravel(),
        **options,
    )
    if not found.success:
        raise _stopped(advance.t, found.message)
    return np.asarray(found.y.T.reshape(-1, *start.shape)[places.ravel()])


class _Advance:
    """How far an integrator has come: LSODA goes on for ever where its steps shrink to nothing."""

    def __init__(self) -> None:
        self.t, self._stays = 0.0, 0

    def to(self, t: float) -> None:
        """Note an evaluation at ``t``; raises WidegramError for a thousand at one time."""
        interrupts.check()
        self._stays = self._stays + 1 if t <= self.t * (1.0 + 1e-14) else 0
        self.t = max(self.t, t)
        if self._stays > 1000:
            raise _stopped(self.t, "steps became too small")


def _stopped(t: float, reason: str) -> WidegramError:
    return WidegramError(
        f"gradient_descent: integration stopped at time {t:.6g} of the equation: "
        f"{reason.strip()}; take earlier times, or a loss that is smoother and bounded below"
    )


def _sizes(flow: Motion, start: Array, scale: float) -> Array:
    """What outputs, and velocities behind them, are as large as: an axis for each of both."""
    scale = scale or 1.0
    if flow.damping is None:
        return np.array([scale])[:, None, None]
    force = float(np.abs(flow.rate(start)[1] - flow.damping * start[1]).max())
    return np.array([scale, np.sqrt(scale * force) or scale])[:, None, None]
