"""What a walk through a network carries: here deviations, exact at any depth, for one variance.

Vectors of one norm have one q; so have images whose every pixel has one norm over the channels, as
long as convolutions are CIRCULAR with stride 1. Carried are q, the common diagonal ``level`` of
Theta, and for every pair the two deviations delta = q - K and D = level - Theta, each as a matrix
times an exponential, so that neither rounding of q nor the range of float64 limits the depth:

    activation    K: q -> V(q),  delta -> delta m(delta),  m the mean of Kdot over [q - delta, q]
                  Theta: D -> Kdot(k) D + level (Kdot(q) - Kdot(k)),  level -> level Kdot(q)
    Dense         q -> w q + b, delta -> w delta, level -> q + w level, D -> delta + w D
    Conv          the mean of delta and D over the filter's taps, then as Dense
    Residual      sums of both branches;  LayerNorm  everything over q + eps
    Flatten, GlobalAvgPool   means of delta and D, at the end

Every term of D and delta is nonnegative for the usual activations: nothing cancels.
Theta itself is level - D. Source: recursion of arXiv:1912.13053, section 3, in this form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from widegram.errors import WidegramError
from widegram.meanfield.recursion.circular_mean import circular_mean
from widegram.meanfield.recursion.elementwise import layer_table
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.recursion.slope_series import Slopes, SlopeSeries
from widegram.meanfield.theory.one_layer import Array

# Below this share of q the squares of delta are beyond rounding.
_LINEAR = 1e-17
# From this many pairs on an activation runs as compiled polynomials.
_MANY = 4096
_BLOCK = 2**15
# Outside of this range products of variances leave that of float64.
_SMALLEST, _LARGEST = 1e-150, 1e150


class LayerState(ABC):
    """Both kernels of all pairs between two layers of a network, in one representation or another.

    Every layer makes a new state of the same representation; :meth:`settled` may change it.
    """

    @abstractmethod
    def affine(self, w: float, b: float, filter_shape: tuple[int, int]) -> LayerState:
        """K <- w A[K] + b, Theta <- K + w A[Theta], A the circular mean over the filter's taps."""

    @abstractmethod
    def activate(self, slopes: Slopes) -> LayerState:
        """Through an activation."""

    @abstractmethod
    def pooled(self) -> LayerState:
        """Means over the pixels kept: Flatten and GlobalAvgPool. Vectors stay as they are."""

    @abstractmethod
    def readout(self) -> Deviations:
        """Both kernels as deviations from a common value."""

    def settled(self) -> LayerState:
        """A simpler state that continues exactly, where there is one; else this one."""
        return self

    def plus(self, other: LayerState) -> LayerState:
        """The sum of two branches.

        Raises WidegramError where the representation has none.
        """
        raise WidegramError("sums of branches need inputs of one norm")

    def layer_normed(self, eps: float) -> LayerState:
        """Everything over q + eps.

        Raises WidegramError where the representation has none.
        """
        raise WidegramError("LayerNorm needs inputs of one norm")


@dataclass(frozen=True)
class Deviations(LayerState):
    """K = q - delta and Theta = level - drop for pairs of inputs that share the variance q.

    ``delta`` and ``drop`` hold arrays of one shape: (n, m) for vectors, (n, m, D, H, W) for images,
    entry [x, x', d, p] belonging to pixel p of x and p + d of x'.
    """

    q: float
    level: float
    delta: LogScaled
    drop: LogScaled

    def affine(self, w: float, b: float, filter_shape: tuple[int, int] = (1, 1)) -> Deviations:
        averaged = self._averaged(filter_shape)
        delta = averaged.delta.times(w)
        q = w * self.q + b
        drop = averaged.drop.times(w).plus(delta).normalized()
        return Deviations(q, q + w * self.level, delta.normalized(), drop)

    def _averaged(self, filter_shape: tuple[int, int]) -> Deviations:
        if not self._has_pixels():
            return self
        return self._mapped(lambda value: circular_mean(value, filter_shape))

    def pooled(self) -> Deviations:
        axes = tuple(range(2, self.delta.value.ndim))
        return self._mapped(lambda value: np.asarray(value.mean(axis=axes)))

    def settled(self) -> Deviations:
        """Pooled now where that is what the end will do: circular means keep the mean over pixels,
        and a smooth activation multiplies small delta and D by a factor, to float64's rounding."""
        small = self._has_pixels() and float(self.delta.plain().max()) < _LINEAR * self.q
        return self.pooled() if small else self

    def _has_pixels(self) -> bool:
        return self.delta.value.ndim > 2

    def activate(self, slopes: Slopes) -> Deviations:
        if not _SMALLEST < self.q < _LARGEST:
            raise WidegramError(
                f"the variance q = {self.q:g} leaves the range of float64 at this depth; "
                "read out fewer layers"
            )
        series = slopes.at(self.q)
        if self.delta.value.size >= _MANY and self.delta.log_scale == self.drop.log_scale == 0:
            return self._activate_many(series) or self._activate_in_blocks(series)
        return self._activate_few(series)

    def _activate_few(self, series: SlopeSeries) -> Deviations:
        plain = self.delta.plain()
        fall = series.drop(self.delta)
        kdot = series.slope - fall.plain()
        drop = self.drop.times(kdot).plus(fall.times(self.level))
        return Deviations(
            float(series.maps.power(self.q)),
            self.level * series.slope,
            self.delta.times(series.mean(plain)),
            drop,
        )

    def _activate_many(self, series: SlopeSeries) -> Deviations | None:
        """The same by two polynomials per entry, to 1e-11; None where they are not as good."""
        delta, drop = self.delta.value.ravel().copy(), self.drop.value.ravel().copy()
        table = layer_table(series, self.level, max(float(delta.max()), 1e-300))
        if not table.accurate:
            return None
        table.run(delta, drop, 1.0, 0.0)
        shape = self.delta.value.shape
        power = float(series.maps.power(self.q))
        moved = (LogScaled(part.reshape(shape)) for part in (delta, drop))
        return Deviations(power, self.level * series.slope, *moved)

    def _activate_in_blocks(self, series: SlopeSeries) -> Deviations:
        """:meth:`_activate_few` on slices: it holds many values per entry."""
        delta, drop = self.delta.value.ravel(), self.drop.value.ravel()
        parts = [
            replace(self, delta=LogScaled(delta[block]), drop=LogScaled(drop[block]))._activate_few(
                series
            )
            for block in (slice(lo, lo + _BLOCK) for lo in range(0, delta.size, _BLOCK))
        ]
        shape = self.delta.value.shape
        whole = [
            LogScaled(np.concatenate([part.plain() for part in column]).reshape(shape))
            for column in ([p.delta for p in parts], [p.drop for p in parts])
        ]
        return Deviations(parts[0].q, parts[0].level, *whole)

    def plus(self, other: LayerState) -> Deviations:
        assert isinstance(other, Deviations)
        return Deviations(
            self.q + other.q,
            self.level + other.level,
            self.delta.plus(other.delta),
            self.drop.plus(other.drop),
        )

    def layer_normed(self, eps: float) -> Deviations:
        scale = self.q + eps
        return Deviations(
            self.q / scale,
            self.level / scale,
            self.delta.times(1 / scale),
            self.drop.times(1 / scale),
        )

    def readout(self) -> Deviations:
        return self

    def rows(self, chosen: slice) -> Deviations:
        """The deviations of some rows of the matrices."""
        return self._mapped(lambda value: value[chosen])

    def _mapped(self, function: Callable[[Array], Array]) -> Deviations:
        """The same with ``function`` applied to the values of delta and D."""
        delta, drop = (
            LogScaled(function(part.value), part.log_scale) for part in (self.delta, self.drop)
        )
        return replace(self, delta=delta, drop=drop)
