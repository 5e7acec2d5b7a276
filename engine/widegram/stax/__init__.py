"""neural-tangents' ``stax`` for analytic kernels: change the import, keep the network.

``from widegram import stax`` in place of ``from neural_tangents import stax``. Every layer returns
``(init_fn, apply_fn, kernel_fn)``; combinators take such triples. ``kernel_fn(x1, x2, get)``
computes the exact infinite-width kernels in the NTK parameterization (Novak et al. 2020,
arXiv:1912.02803); :meth:`~widegram.stax.kernel_fn.KernelFn.network` gives the same network to
:func:`widegram.gram`, which writes matrices of any size to a file. Layers without an exact kernel
here are refused by name when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from widegram.stax.activations import (
    ABRelu,
    Abs,
    Arctan,
    Cos,
    Custom,
    Elementwise,
    ElementwiseNumerical,
    Elu,
    Erf,
    Exp,
    ExpNormalized,
    Gabor,
    Gaussian,
    Gelu,
    Hermite,
    LeakyRelu,
    Mish,
    Monomial,
    Polynomial,
    Rbf,
    RectifiedMonomial,
    Relu,
    Sigmoid,
    Sigmoid_like,
    Sign,
    Silu,
    Sin,
    Softplus,
    Softsign,
    Swish,
    Tanh,
)
from widegram.stax.combinators import (
    FanInConcat,
    FanInProd,
    FanInSum,
    FanOut,
    parallel,
    repeat,
    serial,
)
from widegram.stax.graphs import (
    Aggregate,
    AggregateImplementation,
    AttentionMechanism,
    GlobalSelfAttention,
    PositionalEmbedding,
)
from widegram.stax.kernel import Kernel
from widegram.stax.kernel_fn import KernelFn
from widegram.stax.linear import (
    AvgPool,
    Conv,
    ConvLocal,
    ConvTranspose,
    Dense,
    DotGeneral,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalSumPool,
    Identity,
    ImageResize,
    Index,
    LayerNorm,
    Padding,
    Slice,
    SumPool,
)
from widegram.stax.refused import REFUSED
from widegram.validation.missing import refuse

__all__ = [
    "ABRelu",
    "Abs",
    "Aggregate",
    "AggregateImplementation",
    "Arctan",
    "AttentionMechanism",
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Cos",
    "Custom",
    "Dense",
    "DotGeneral",
    "Dropout",
    "Elementwise",
    "ElementwiseNumerical",
    "Elu",
    "Erf",
    "Exp",
    "ExpNormalized",
    "FanInConcat",
    "FanInProd",
    "FanInSum",
    "FanOut",
    "Flatten",
    "Gabor",
    "Gaussian",
    "Gelu",
    "GlobalAvgPool",
    "GlobalSelfAttention",
    "GlobalSumPool",
    "Hermite",
    "Identity",
    "ImageResize",
    "Index",
    "Kernel",
    "KernelFn",
    "LayerNorm",
    "LeakyRelu",
    "Mish",
    "Monomial",
    "Padding",
    "Polynomial",
    "PositionalEmbedding",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid",
    "Sigmoid_like",
    "Sign",
    "Silu",
    "Sin",
    "Slice",
    "Softplus",
    "Softsign",
    "SumPool",
    "Swish",
    "Tanh",
    "parallel",
    "repeat",
    "serial",
]


def __getattr__(name: str) -> Callable[..., Any]:
    """A name of neural-tangents that is refused: the error comes when it is called."""
    return refuse("widegram.stax", name, REFUSED)
