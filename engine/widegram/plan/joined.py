"""Operations that branches meet by, beside the sum of two values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from widegram.network.contribution import Contribution
from widegram.plan.operations import Affine

_ONE = (1, 1)


@dataclass(frozen=True)
class Scaled(Affine):
    """K and T times a number: what stands several times in a sum, or is a part of a mean."""

    layers: ClassVar[int] = 0

    def describe(self) -> str:
        return " scaled"


def scaled_by(factor: float) -> Scaled:
    """K and T times ``factor``."""
    nothing = Contribution(0.0, 0.0)
    return Scaled(_ONE, _ONE, (0, 0), False, (0, 0), factor, 0.0, nothing)
