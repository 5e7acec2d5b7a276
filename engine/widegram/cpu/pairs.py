"""Pairs of nearly parallel inputs, in double precision.

One pair to a lane. Which pairs these are is up to :mod:`~widegram.backends.close_pairs`.
"""

from __future__ import annotations

import math
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.backends.job import Job
from widegram.cpu.kept_tables import tables_of
from widegram.cpu.kernels.variants import LANES
from widegram.cpu.self_kernels import SelfKernelRunner
from widegram.cpu.workspace import Workspace, aligned
from widegram.data.masked import kept
from widegram.data.scaled_rows import InputVariances, split
from widegram.plan.formulas import choose_formulas, factor_layout
from widegram.plan.plan import Plan, build

Array = NDArray[np.float64]
_DTYPE = "float64"
_LANES = LANES[_DTYPE]


class PairRunner:
    """Computes pairs of inputs of a job in float64: K and T, (outputs, n), of the pairs
    (x[i], y[i]), images (n, h, w, C), in the powers of two of the plan ``like``.

    ``found``: of all inputs. Plan and working memory are made when the first pairs come, which most
    jobs do not have. Threads take turns.
    """

    def __init__(self, job: Job, found: InputVariances, like: Plan) -> None:
        self._runner = cache(lambda: _Runner(job, found, like))
        self._lock = Lock()

    def __call__(self, x: Array, y: Array) -> tuple[Array, Array]:
        with self._lock:
            return self._runner().run(x, y)


class _Runner:
    """The plan in float64, and what runs it."""

    def __init__(self, job: Job, found: InputVariances, like: Plan) -> None:
        largest = found.largest
        self.plan = build(
            job.network, job.kernels, job.depths or None, largest=largest, received=found.received
        )
        formulas = choose_formulas(self.plan, largest, _DTYPE, math.inf, found.zeros)
        self.layout = factor_layout(self.plan, formulas)
        self._input = self.plan.input_exponent - like.input_exponent
        powers = zip(like.exponents, self.plan.exponents, strict=True)
        self._powers = np.array([2 * (wanted - made) for wanted, made in powers])
        self.tables = tables_of(self.plan, self.plan.cross, self.layout, _DTYPE, paired=True)
        self.runner = SelfKernelRunner(self.plan, self.layout, False, _DTYPE)
        self.work = Workspace(self.tables, _DTYPE, paired=True)

    def run(self, x: Array, y: Array) -> tuple[Array, Array]:
        """K and T, (outputs, n), of the pairs (x[i], y[i]); images (n, h, w, C), float64."""
        n, kinds = len(x), len(self.plan.outputs)
        if self._input:
            x, y = (self._scaled(images) for images in (x, y))
        found = np.empty((2, kinds, n))
        for lo in range(0, n, _LANES):
            index = np.minimum(np.arange(lo, lo + _LANES), n - 1)
            x_lanes, x_factors = self._lanes(self.plan.divisor, x[index])
            y_lanes, y_factors = self._lanes(1, y[index])
            out = aligned((2, kinds, 1, _LANES), _DTYPE)
            out[...] = 0.0
            self.work.run_pairs(
                x_lanes[None], x_factors[None], y_lanes[None], y_factors[None], out
            )
            hi = min(lo + _LANES, n)
            found[:, :, lo:hi] = out[:, :, 0, : hi - lo]
        found = np.ldexp(found, self._powers[:, None])
        return found[0], found[1]

    def _scaled(self, x: Array) -> Array:
        """Images, but not their patterns, in the powers of two of this plan."""
        images, patterns = x[..., : self.plan.channels], x[..., self.plan.channels :]
        scaled = kept(np.ldexp(images, self._input), images)
        return np.concatenate([scaled, patterns], axis=-1)

    def _lanes(self, divisor: int | Array, x: Array) -> tuple[NDArray[Any], NDArray[Any]]:
        """Images, divided, and their factors with the lane last."""
        factors = aligned((self.layout.total + 1, _LANES), _DTYPE)
        factors[...] = self.runner.run(x).factors.T
        images, _ = split(x, self.plan.channels)
        lanes = aligned((*images.shape[1:], _LANES), _DTYPE)
        lanes[...] = np.moveaxis(images / divisor, 0, -1)
        return lanes, factors
