"""What each operation of a graph is: everything that the rest of the plan asks about one.

An operation makes a value of others, K and T at every displacement; values live on images. The
walks of a plan (:mod:`~widegram.plan.needs`, :mod:`~widegram.plan.groups`, ...) ask operations and
know none of them. What reads one value and is stored is read by a later group; all else runs on
planes, as the steps of :mod:`widegram.plan.steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from widegram.activations import Formula
from widegram.activations.rectified import Relu, ReluNonnegative
from widegram.activations.scale import Scale, Weight
from widegram.network.contribution import Contribution
from widegram.network.layers import Conv, ConvLocal, Convolution
from widegram.plan.masks import (
    Mask,
    Pair,
    centre,
    differences,
    displacements,
    empty,
    full,
    marked,
    wrapped,
)
from widegram.plan.operation_base import Array, Centre, Operation
from widegram.tiling import End

# What stands for variances out of range.
_MOST = 1e300


def _centre_of(mask: Mask) -> Mask:
    """d = 0 of the image that a mask belongs to."""
    return centre(((mask.shape[0] + 1) // 2, (mask.shape[1] + 1) // 2))


@dataclass(frozen=True)
class Input(Operation):
    """k0 = <x_p, x'_p'> / C; no NTK. Inputs are multiplied by 2^``exponent`` first."""

    made_anew: ClassVar[bool] = True
    exponent: int = 0

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return float(np.ldexp(below[0], 2 * self.exponent))


@dataclass(frozen=True)
class Windowed(Operation):
    """What sums over windows: output position p reads inputs ``strides`` p + t - ``lo``; positions
    outside the image count as zero or, where ``circular``, wrap."""

    window: Pair
    strides: Pair
    lo: Pair
    circular: bool

    def sums(self, q: Array, shape: Pair) -> Array:
        """Sums over the windows, (n, h, w) -> (n, \\*shape)."""
        if self.window == (1, 1) and self.strides == (1, 1):
            return q
        (a, b), (sy, sx), (h, w), lo = self.window, self.strides, shape, self.lo
        hi = (
            max(0, sy * (h - 1) + a - lo[0] - q.shape[1]),
            max(0, sx * (w - 1) + b - lo[1] - q.shape[2]),
        )
        pads = [(0, 0), (lo[0], hi[0]), (lo[1], hi[1])]
        padded = np.pad(q, pads, mode="wrap") if self.circular else np.pad(q, pads)
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
        sums = self.sums(k, shape)
        value = self.gain * sums + self.bias
        return value, self.own(sums, value) + self.gain * self.sums(t, shape)

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

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        a, b = self.window
        return self.gain * a * b * below[0] + self.bias

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return not self.bias and (below[0] or not self.gain)

    def degree(self, below: int) -> int | None:
        return None if self.biased and below else below

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


@dataclass(frozen=True)
class Act(Operation):
    """An activation, ``phi``; ``nonnegative`` says that its input is known to be >= 0, ``where``
    names its layer for messages."""

    phi: Formula
    nonnegative: bool
    where: str = field(default="", compare=False, repr=False)

    @property
    def formula(self) -> Formula:
        if self.nonnegative and type(self.phi) is Relu:
            return ReluNonnegative()
        return self.phi

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        assert formula is not None
        ((k, t),) = sources
        value, slope = formula.variance(k)
        return value, t * slope

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        assert formula is not None
        most = np.max(formula.variance(np.linspace(0.0, below[0], 65))[0])
        return float(most) if most < _MOST else _MOST

    def may_vanish(self, below: Sequence[bool]) -> bool:
        at_zero, at_one = self.phi.variance(np.array([0.0, 1.0]))[0]
        return bool(at_one == 0 or (below[0] and at_zero == 0))

    def degree(self, below: int) -> int | None:
        if self.phi.homogeneity is not None:
            return below * self.phi.homogeneity
        return None if below else below

    @property
    def needs_truth(self) -> bool:
        return self.phi.homogeneity is None

    @property
    def power(self) -> int:
        return max(1, self.phi.homogeneity or 1)

    def profile(self, q: Array, shape: Pair) -> Array:
        if self.needs_truth:
            return np.asarray(self.phi.variance(q.max(keepdims=True))[0] + 0 * q)
        return self.phi.variance(q)[0]

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return self, exponent * (self.phi.homogeneity or 0)

    def describe(self) -> str:
        return f" {self.phi.code}"


@dataclass(frozen=True)
class Norm(Operation):
    """LayerNorm; ``axes``: the image axes (0 rows, 1 columns) over which variances are averaged;
    ``eps`` is added to them; its input comes times 4^``exponent``."""

    axes: tuple[int, ...]
    eps: float
    exponent: int = 0

    @property
    def formula(self) -> Formula:
        return Scale(self.exponent, self.eps)

    def normalised(self, q: Array) -> Array:
        axes = tuple(a + 1 for a in self.axes)
        return np.broadcast_to(q.mean(axis=axes, keepdims=True), q.shape) if axes else q

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        assert formula is not None
        ((k, t),) = sources
        factor = formula.factors(self.normalised(k))[0] ** 2
        return k * factor, t * factor

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        # One pixel may hold all the variance that a normalisation over space averages.
        return float(source[0] * source[1]) if self.axes else 1.0

    def degree(self, below: int) -> int | None:
        return None if below else below

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.asarray(q * self.formula.factors(self.normalised(q))[0] ** 2)

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return replace(self, exponent=exponent), 0

    def describe(self) -> str:
        return " layernorm"


@dataclass(frozen=True)
class Weigh(Operation):
    """Every pixel times ``rows``[i] ``cols``[j]: from means over whole windows to means over what
    of them lies in the image."""

    rows: tuple[float, ...]
    cols: tuple[float, ...]

    @property
    def formula(self) -> Formula:
        return Weight(rows=self.rows, cols=self.cols)

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        ((k, t),) = sources
        value, slope = self.formula.variance(k)
        return value, t * slope

    def profile(self, q: Array, shape: Pair) -> Array:
        return self.formula.variance(q)[0]

    def describe(self) -> str:
        return " edges"


@dataclass(frozen=True)
class Keep(Operation):
    """Dropout: an image's own variances, and its NTK with itself, are divided by ``rate``; between
    different images nothing changes."""

    rate: float

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        ((k, t),) = sources
        return k / self.rate, t / self.rate

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return below[0] / self.rate

    def profile(self, q: Array, shape: Pair) -> Array:
        return q / self.rate


@dataclass(frozen=True)
class Add(Operation):
    """Sum of two branches."""

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        (k, t), other = sources
        return k + other[0], t + other[1]

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return sum(below)

    def may_vanish(self, below: Sequence[bool]) -> bool:
        return all(below)


@dataclass(frozen=True)
class Gather(Windowed):
    """AvgPool or SumPool: ``scale`` times the sum over both windows."""

    stored: ClassVar[bool] = True
    accumulates: ClassVar[bool] = True
    scale: float

    def needs(self, need: Mask, source: Pair) -> Mask:
        d = displacements(need) * np.array(self.strides)
        d = (d[:, None, :] + differences(self.window)[None]).reshape(-1, 2)
        d = np.unique(d, axis=0)
        if self.circular:
            # Windows may reach round the image more than once, each in its own direction.
            d = wrapped(np.unique(d % np.array(source), axis=0), source)
        return marked(d, source)

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        a, b = self.window
        return below[0] * (self.scale * (a * b) ** 2)

    def profile(self, q: Array, shape: Pair) -> Array:
        return np.asarray(self.scale * self.sums(np.sqrt(q), shape) ** 2)


@dataclass(frozen=True)
class Take(Gather):
    """Index: the pixels ``strides`` p - ``lo``, a pool with windows of one pixel."""

    def profile(self, q: Array, shape: Pair) -> Array:
        rows, cols = (
            slice(-lo, -lo + stride * (n - 1) + 1, stride)
            for lo, stride, n in zip(self.lo, self.strides, shape, strict=True)
        )
        return q[:, rows, cols]


@dataclass(frozen=True)
class Reduce(Operation):
    """To a single number: over all pixel pairs, or over equal pixels (``diagonal``, Flatten)."""

    stored: ClassVar[bool] = True
    reduced: ClassVar[bool] = True
    diagonal: bool
    scale: float

    @property
    def sum_scale(self) -> float:
        return self.scale

    def needs(self, need: Mask, source: Pair) -> Mask:
        return centre(source) if self.diagonal else full(source)

    def at_zero(self, sources: Sequence[Centre], shape: Pair, formula: Formula | None) -> Centre:
        """That of sources of which no other displacement counts."""
        ((k, t),) = sources
        total = self.scale * k.sum(axis=(1, 2), keepdims=True)
        return total, self.scale * t.sum(axis=(1, 2), keepdims=True)

    def total(self, source: Pair) -> float:
        """What it makes of ones, on a source of that shape."""
        h, w = source
        return self.scale * (h * w if self.diagonal else (h * w) ** 2)

    def bound(self, below: Sequence[float], source: Pair, formula: Formula | None) -> float:
        return below[0] * self.total(source)

    def profile(self, q: Array, shape: Pair) -> Array:
        if self.diagonal:
            return np.asarray(self.scale * q.sum(keepdims=True))
        return np.asarray(self.scale * np.sqrt(q).sum(keepdims=True) ** 2)

    def describe(self) -> str:
        return " equal pixels" if self.diagonal else " all pixels"


@dataclass(frozen=True)
class Copy(Operation):
    """A value kept in a store between two groups (:mod:`widegram.plan.groups` inserts these)."""

    stored: ClassVar[bool] = True


@dataclass(frozen=True)
class Output(Operation):
    """The kernel, times 4^``exponent``, where it is read out."""

    read_out: ClassVar[bool] = True
    end: End
    exponent: int = 0

    def rescaled(self, exponent: int) -> tuple[Operation, int]:
        return replace(self, exponent=exponent), exponent
