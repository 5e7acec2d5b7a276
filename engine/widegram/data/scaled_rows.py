"""Inputs multiplied by powers of two, so that their squares stay in the middle of the range.

Powers of two change no digit. Which one an input gets depends on that input alone, or on the data
as a whole: never on the block that it is read in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.inputs import Source
from widegram.data.masked import kept
from widegram.data.patterns import PatternedSource
from widegram.data.several import ListSource
from widegram.errors import WidegramError
from widegram.machine import interrupts
from widegram.network.inputs import InputPart, parts_of
from widegram.network.patterns import Pattern

_READ = 256
# Inputs whose largest number is within 2^-ORDINARY .. 2^ORDINARY are left as they are; where a
# network makes its d-th power, within the d-th root of that.
ORDINARY = 16


class ScaledRows:
    """The inputs of ``source``, each multiplied by a power of two; sequences (L, C) are images of
    one row, (1, L, C).

    * ``own``: each has a power of its own, which takes its largest number to [1/2, 1) unless that
      is of ordinary size for a network of degree ``own``; where it is 0, ``exponent`` is the power
      of all
    * ``marked``: masked numbers are marked (:mod:`widegram.data.masked`)
    * ``parts``: of lists of inputs, whose rows are flat, where each lies
    * ``powers``: the exponents of the inputs read so far, (n,)
    """

    def __init__(
        self, source: Source, own: int, exponent: int = 0, pattern: Pattern | None = None
    ) -> None:
        self.source, self.own, self.pattern = source, own, pattern
        rows, *shape = source.shape
        self.shape = (rows, *([1] if len(shape) == 2 else []), *shape)
        self.name, self.marked = source.name, source.marked
        self.parts = parts_of(source.shapes) if isinstance(source, ListSource) else ()
        self.powers = np.full(self.shape[0], exponent, dtype=np.int64)

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Inputs lo to hi - 1; in the source's dtype where nothing is multiplied."""
        x = self.source.read(lo, hi).reshape(hi - lo, *self.shape[1:])
        if self.own:
            self.powers[lo:hi] = self._powers(x, lo)
        powers = self.powers[lo:hi]
        if not powers.any():
            return x
        made = np.ldexp(x.astype(np.float64), powers.reshape(-1, *[1] * (x.ndim - 1)))
        return kept(made, x) if self.marked else made

    def whole(self, lo: int, hi: int) -> NDArray[Any]:
        """Inputs lo to hi - 1, with their patterns as more channels: float64 weights, pixel by
        pixel, and zeros behind them (:func:`split`)."""
        x = self.read(lo, hi)
        if self.pattern is None:
            return x
        weights = self.weights(lo, hi).reshape(hi - lo, -1)
        pixels = x.shape[1] * x.shape[2]
        channels = -(-weights.shape[1] // pixels)
        made = np.zeros((hi - lo, channels * pixels))
        made[:, : weights.shape[1]] = weights
        return np.concatenate([x, made.reshape(*x.shape[:3], channels)], axis=-1)

    def weights(self, lo: int, hi: int) -> NDArray[np.float64]:
        """Patterns (hi - lo, vertices, vertices) of inputs that have some."""
        assert self.pattern is not None
        assert isinstance(self.source, PatternedSource)
        return self.source.dense(lo, hi, self.pattern)

    def _powers(self, x: NDArray[Any], lo: int) -> NDArray[np.int64]:
        largest = largest_numbers(x)
        if not np.isfinite(largest).all():
            row = lo + int(np.flatnonzero(~np.isfinite(largest))[0])
            raise WidegramError(
                f"{self.name} row {row}: leaves the range of float64; scale the inputs down"
            )
        exponents = np.frexp(largest)[1].astype(np.int64)
        ordinary = (self.own * np.abs(exponents) <= ORDINARY) | (largest == 0)
        return np.where(ordinary, 0, -exponents)


def split(x: NDArray[Any], channels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images (n, h, w, C) and patterns (n, numbers and some zeros) of :meth:`ScaledRows.whole`."""
    return x[..., :channels], x[..., channels:].reshape(len(x), -1)


def largest_numbers(x: NDArray[Any]) -> NDArray[np.float64]:
    """The largest absolute value of each input (n, ...), float64."""
    flat = x.reshape(len(x), -1)
    with np.errstate(over="ignore"):
        return np.maximum(flat.max(axis=1), -flat.min(axis=1)).astype(np.float64)


@dataclass(frozen=True)
class InputVariances:
    """Variances in some data: mean squares over the channels of a pixel, all features of a vector.

    * ``largest``: at least the smallest normal number, unless all are 0
    * ``zeros``: whether some are 0
    * ``received``: the largest sum of the absolute weights of the edges to a vertex; 1 without
      patterns
    """

    largest: float
    zeros: bool
    received: float = 1.0

    @staticmethod
    def of(squares: NDArray[np.float64]) -> InputVariances:
        """The variances of some mean squares."""
        return InputVariances(float(squares.max()), bool((squares == 0).any()))


def scaled_rows(
    x1: Source, x2: Source | None, own: int, exponent: int = 0, pattern: Pattern | None = None
) -> tuple[ScaledRows, ScaledRows]:
    """Both data sets of a run, the first twice where there is no second."""
    first = ScaledRows(x1, own, exponent, pattern)
    return first, first if x2 is None else ScaledRows(x2, own, exponent, pattern)


def input_variances(inputs: tuple[ScaledRows, ScaledRows], vector: bool) -> InputVariances:
    """Read all inputs.

    Raises :class:`WidegramError` where a mean square is beyond float64.
    """
    found = [_variances_of(x, vector) for x in dict.fromkeys(inputs)]
    return InputVariances(
        max(s.largest for s in found),
        any(s.zeros for s in found),
        max(s.received for s in found),
    )


def _squares(x: NDArray[np.float64], parts: Sequence[InputPart]) -> NDArray[np.float64]:
    """Mean squares over the last axis; of lists of inputs (n, D) over the channels of each."""
    if not parts:
        return np.asarray(np.mean(x * x, axis=-1))
    found = [x[:, p.numbers].reshape(len(x), -1, p.shape[-1]) for p in parts]
    return np.concatenate([np.mean(each * each, axis=-1) for each in found], axis=1)


def _variances_of(x: ScaledRows, vector: bool) -> InputVariances:
    largest, zeros, received = 0.0, False, 0.0
    for lo in range(0, x.shape[0], _READ):
        interrupts.check()
        hi = min(lo + _READ, x.shape[0])
        part = x.read(lo, hi).astype(np.float64)
        if x.pattern is not None:
            received = max(received, float(np.abs(x.weights(lo, hi)).sum(axis=1).max()))
        part = part.reshape(len(part), -1) if vector else part
        power = int(np.frexp(largest_numbers(part).max())[1])
        # Squares of numbers near 1 neither overflow nor vanish; of ordinary ones not a bit changes.
        part = part if abs(power) <= ORDINARY else np.ldexp(part, -power)
        squares = _squares(part, x.parts)
        zeros = zeros or bool((squares == 0).any())
        top = float(squares.max())
        if abs(power) > ORDINARY:
            with np.errstate(over="ignore", under="ignore"):
                found = float(np.ldexp(top, 2 * power))
            top = max(found, float(np.finfo(np.float64).tiny)) if top else 0.0
        largest = max(largest, top)
    if not np.isfinite(largest):
        raise WidegramError(f"{x.name}: squares leave the range of float64; scale the inputs down")
    return InputVariances(largest, zeros, 1.0 if x.pattern is None else received)
