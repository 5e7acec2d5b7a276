"""What random networks are drawn from: activations by what their kernels do, layers, paddings."""

from __future__ import annotations

from typing import NamedTuple

# Kdot jumps or has an infinite slope at |c| = 1 (Sign: K too): rounding of K enters as its root.
KINKED = ("Relu", "LeakyRelu", "ABRelu", "Abs", "Sign")
CLOSED = (
    "Erf", "Gelu", "Gaussian", "Sin", "Cos", "Rbf", "Sigmoid_like", "Identity", "Gabor",
    "ExpNormalized",
)  # fmt: skip
# Their values grow with a power of their inputs', or faster: only at moderate variances.
GROWING = ("Exp", "Monomial", "RectifiedMonomial", "Hermite", "Polynomial")
SERIES = ("Tanh", "Sigmoid", "Softplus", "Swish", "Silu", "Mish", "Arctan")
HOMOGENEOUS = ("Relu", "LeakyRelu", "ABRelu", "Abs")
SMOOTH = (*CLOSED, *SERIES)


class Vocabulary(NamedTuple):
    """What a drawn network may contain."""

    activations: tuple[str, ...] = (*KINKED, *SMOOTH)
    layer_norm: bool = True
    dropout: bool = True
    bias: bool = True
    trained: bool = True
    paddings: tuple[str, ...] = ("SAME", "VALID", "CIRCULAR")
    joins: tuple[str, ...] = ("FanInSum", "FanInProd", "FanInConcat")
    maps: bool = False


# Without a sign: its jump turns rounding at c = 0 or 1 into numbers of order one.
CONTINUOUS = Vocabulary(activations=tuple(a for a in (*KINKED, *SMOOTH) if a != "Sign"))


EVERYTHING = Vocabulary()
# With maps between all pixels, which not every backend has.
MAPPED = CONTINUOUS._replace(maps=True)
