"""Arrays times an exponential: numbers below and above the range of float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from widegram.meanfield.theory.one_layer import Array


@dataclass(frozen=True)
class LogScaled:
    """exp(log_scale) * value: keeps relative precision below the range of float64."""

    value: Array
    log_scale: float = 0.0

    def plain(self) -> Array:
        """The product; entries below 1e-308 become 0."""
        with np.errstate(under="ignore"):
            return self.value * np.exp(self.log_scale)

    def times(self, factor: Array | float) -> LogScaled:
        """The product with numbers of ordinary size."""
        return LogScaled(self.value * factor, self.log_scale)

    def plus(self, other: LogScaled) -> LogScaled:
        """The sum, at the larger of the two scales."""
        a, b = (self, other) if self.log_scale >= other.log_scale else (other, self)
        with np.errstate(under="ignore"):
            shift = np.exp(b.log_scale - a.log_scale)
            return LogScaled(a.value + b.value * shift, a.log_scale)

    def normalized(self) -> LogScaled:
        """The same numbers with the largest between 1e-100 and 1e100 (powers of two are exact)."""
        top = float(np.abs(self.value).max(initial=0.0))
        if top == 0 or 1e-100 < top < 1e100:
            return self
        _, exponent = np.frexp(top)
        return LogScaled(
            np.ldexp(self.value, -int(exponent)), self.log_scale + float(exponent * np.log(2))
        )
