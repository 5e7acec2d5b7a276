"""Operations that sum over windows: convolutions and fully connected layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.network.contribution import Contribution
from widegram.network.layers import Conv, ConvLocal, Convolution
from widegram.plan.angles import Angles, rounded
from widegram.plan.carried import Carried
from widegram.plan.masks import Mask, Pair, centre, displacements, empty, marked, wrapped
from widegram.plan.operation_base import Array, Centre, Exponents, Flags, Operation, Places
from widegram.plan.seen import Parts, Seen, highest, share, where


def _centre_of(mask: Mask) -> Mask:
    """d = 0 of the image that a mask belongs to."""
    return centre(((mask.shape[0] + 1) // 2, (mask.shape[1] + 1) // 2))


@dataclass(frozen=True)
class Windowed(Operation):
    """What sums over windows: output position p reads inputs ``strides`` p + t - ``lo``; positions
    outside the image count as zero or, where ``circular``, wrap."""

    window: Pair
    strides: Pair
    lo: Pair
    circular: bool

    @property
    def middles(self) -> Pair:
        """The input in the middle of the first window, which decides whether it is masked."""
        (a, b), lo = self.window, self.lo
        return (a - 1) // 2 - lo[0], (b - 1) // 2 - lo[1]

    def even(self, axis: int, source: Pair, shape: Pair) -> bool:
        size = source[axis]
        rest = left_over(
            size, self.window[axis], self.strides[axis], self.lo[axis], shape[axis]
        )
        return rest % size == 0 if self.circular else rest == 0

    def visible(self, below: Sequence[Flags], shape: Pair) -> Flags:
        rows, cols = (
            slice(first, first + stride * (n - 1) + 1, stride)
            for first, stride, n in zip(self.middles, self.strides, shape, strict=True)
        )
        return below[0][:, rows, cols]

    def mixes(self, places: Sequence[Places]) -> bool:
        return self.window != (1, 1)

    def zero_at_masked(self, below: bool) -> bool:
        return below and self.window == (1, 1)

    def masked_places(self, places: Sequence[Places]) -> Places:
        (place,) = places
        middles = self.strides, self.middles
        return place if middles == ((1, 1), (0, 0)) else (place, middles)

    def sums(self, q: Array, shape: Pair) -> Array:
        """Sums over the windows, (n, h, w) -> (n, \\*shape)."""
        if self.window == (1, 1) and self.strides == (1, 1):
            return q
        (a, b), (sy, sx), (h, w), lo = self.window, self.strides, shape, self.lo
        hi = (
            max(0, sy * (h - 1) + a - lo[0] - q.shape[1]),
            max(0, sx * (w - 1) + b - lo[1] - q.shape[2]),
        )
        if self.circular:
            padded = np.pad(q, [(0, 0), (lo[0], hi[0]), (lo[1], hi[1])], mode="wrap")
        else:
            rows, cols = q.shape[1:]
            padded = np.zeros((len(q), lo[0] + rows + hi[0], lo[1] + cols + hi[1]))
            padded[:, lo[0] : lo[0] + rows, lo[1] : lo[1] + cols] = q
        total = np.zeros((len(q), h, w))
        for u in range(a):
            for v in range(b):
                total += padded[:, u : u + sy * (h - 1) + 1 : sy, v : v + sx * (w - 1) + 1 : sx]
        return total


@dataclass(frozen=True)
class Affine(Windowed):
    """Conv or Dense: K <- gain box(K) + bias, T <- K + gain box(T); box sums over the window.

    ``hi``: rows and columns that windows take in behind the image. ``contribution``: (w, b) where T
    is w box(K) + b + gain box(T) instead.
    """

    layers: ClassVar[int] = 1
    hi: Pair
    gain: float
    bias: float
    contribution: Contribution | None = None

    def parts(self, need: Mask) -> Iterator[tuple[Affine, Mask, bool]]:
        """Windows that make it, the displacements of ``need`` that each makes, and whether it reads
        the source."""
        yield self, need, True

    def needs(self, need: Mask, source: Pair) -> Mask:
        d = displacements(need) * np.array(self.strides)
        return marked(wrapped(d, source) if self.circular else d, source)

    @property
    def coarser(self) -> Pair:
        return self.strides

    @property
    def couples(self) -> tuple[bool, bool]:
        return self.circular and self.window[0] > 1, self.circular and self.window[1] > 1

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        ((k, t),) = sources
        sums, of_t = self.sums(np.concatenate([k, t]), shape).reshape(2, len(k), *shape)
        value = self.gain * sums + self.bias
        return value, self.own(sums, value) + self.gain * of_t

    def own(self, sums: Array, value: Array) -> Array:
        """The part of T that its own parameters make; ``sums`` of K over windows, ``value`` of K
        behind it."""
        if self.contribution is None:
            return value
        return self.contribution.weights * sums + self.contribution.biases

    @property
    def biased(self) -> bool:
        """Whether it adds a constant to K or T."""
        return bool(self.bias or (self.contribution and self.contribution.biases))

    def zero_at_masked(self, below: bool) -> bool:
        return super().zero_at_masked(below) and not self.biased

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        a, b = self.window
        return self.gain * a * b * below[0] + self.bias

    def carries(self, below: Sequence[Carried], formula: Formula | None) -> Carried:
        before = Carried.of_sum(below)
        whole = self.bound([before.top], (0, 0), formula)
        return before.beside((whole - self.bias) / whole if whole > 0 else 1.0)

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return not self.bias and (below[0] or not self.gain)

    def degree(self, below: int) -> int | None:
        return None if self.biased and below else below

    # powers of two ----------------------------------------------------------------------------

    def place(self, i: int, shape: Pair, sources: tuple[int, ...], graph: Exponents) -> int:
        """Its constants take a value from any exponent to any other."""
        (source,) = sources
        before = graph.exponent[source]
        sums = self.sums(graph.profile[source], shape)
        size = np.logaddexp2(
            np.log2(self.gain) + np.log2(sums.max()) - 2 * before, np.log2(self.bias)
        )
        exponent = 0 if graph.wants_truth(i) else graph.chosen(i, float(size), before)
        made = self._taken(2 * (exponent - before), 2 * exponent)
        return graph.add(made, sources, shape, exponent, made.gain * sums + made.bias)

    def _taken(self, power: int, to: int) -> Affine:
        """This operation with what multiplies its source times 2^``power``, and what is added to
        that times 2^``to``."""
        own = self.contribution
        if own is not None:
            own = Contribution(_scaled(own.weights, power), float(np.ldexp(own.biases, to)))
        gain, bias = _scaled(self.gain, power), float(np.ldexp(self.bias, to))
        return replace(self, gain=gain, bias=bias, contribution=own)

    # what floating point loses ----------------------------------------------------------------

    def at_angles(self, below: Sequence[Angles], source: Pair, formula: Formula | None) -> Angles:
        """Windows of equal values."""
        (value,), (a, b) = below, self.window
        gain, taps = self.gain * a * b, a * b
        q, k = gain * value.q + self.bias, rounded(gain * value.k + self.bias)
        own = float(self.own(np.array(taps * value.q), np.array(q)))
        t = self.own(taps * value.k, k) + gain * value.t
        return Angles(q, own + gain * value.own, k, t)

    @property
    def t_apart(self) -> bool:
        return self.contribution is not None

    def loses(self, seen: Seen) -> tuple[Any, Array]:
        top, made, lost = seen.top, seen.top, np.zeros(len(seen.top))
        if not self.gain > 0:
            return lost, made
        below = seen.below
        if self.gain < seen.limits.tiny:
            lost = np.where(below > 0, share(top - self.bias, top), 0.0)
        elif self.gain > seen.limits.high:
            # Constants bring back what was lost before: that is the reason to be told.
            known = seen.lost[0][0] > 0
            made = np.where((below > 0) & ~known, np.inf, np.where(known, 0.0, made))
        else:
            # The windows' sums, which the constants follow.
            made = np.maximum(top, (top - self.bias) / self.gain)
        if self.strides == (1, 1):  # Others may pass by all pixels that are not 0
            lost = np.maximum(lost, where((top == 0) & (below > 0)))
        return lost, made

    def loses_t(self, seen: Seen) -> Any:
        own = self.contribution
        return 1.0 if own is not None and 0 < own.weights < seen.limits.tiny else 0.0

    def carries_lost(self, seen: Seen) -> Parts:
        ((k, t),), top, ntk = seen.lost, seen.top, seen.top_t
        behind = k * share(top - self.bias, top)
        if self.contribution is None:
            below = t * share(ntk - top, ntk)
            return behind, np.maximum(behind * share(top, ntk), below)
        sums = self.sums(seen.sources[0][0], seen.shape)
        weights = self.contribution.weights * highest(sums)
        part = np.where(weights > 0, k * share(weights, ntk), 0.0)
        rest = ntk - weights - self.contribution.biases
        return behind, np.maximum(part, t * share(rest, ntk))

    # words ------------------------------------------------------------------------------------

    def describe(self) -> str:
        text = " {}x{}".format(*self.window)
        text += "/{}x{}".format(*self.strides) if self.strides != (1, 1) else ""
        text += " circular" if self.circular else ""
        if self.contribution is None:
            return text
        return text + (" contribution" if any(self.contribution) else " frozen")


@dataclass(frozen=True)
class Local(Affine):
    """ConvLocal: as :class:`Affine` at d = 0; K = T = 0 at all others, where no weight or bias is
    shared (neural-tangents' ``_conv_kernel_full_spatial_unshared``)."""

    def parts(self, need: Mask) -> Iterator[tuple[Affine, Mask, bool]]:
        none = Affine((1, 1), (1, 1), (0, 0), False, (0, 0), 0.0, 0.0)
        alone = _centre_of(need)
        yield self, need & alone, True
        yield none, need & ~alone, False

    def needs(self, need: Mask, source: Pair) -> Mask:
        return centre(source) if (need & _centre_of(need)).any() else empty(source)


# What each layer becomes whose filters move over an image.
CONVOLUTIONS: dict[type[Convolution], type[Affine]] = {Conv: Affine, ConvLocal: Local}


def left_over(size: int, window: int, stride: int, lo: int, out: int) -> int:
    """Along an axis of ``out`` windows, what is left in front of the first of them, less what is
    left behind the last one."""
    return 2 * lo - (stride * (out - 1) + window - size)


def _scaled(factor: float, power: int) -> float:
    """A factor of sums times 2^power: never 0 where it was not, since what it makes must be seen to
    be too small."""
    least = float(np.finfo(np.float64).smallest_subnormal) if factor else 0.0
    return float(np.ldexp(factor, power)) or least
