"""Activations with neural-tangents' signatures, and more smooth ones.

``do_stabilize`` and ``approximate`` are accepted and ignored: the first rescales sums that do not
overflow here, the second concerns finite networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from widegram.stax.kernel_fn import Triple
from widegram.stax.making import make, number, numbers
from widegram.stax.own import elementwise, whole


def Relu(do_stabilize: bool = False) -> Triple:
    """max(x, 0)."""
    return make("Relu")


def LeakyRelu(alpha: float, do_stabilize: bool = False) -> Triple:
    """alpha min(x, 0) + max(x, 0)."""
    return make("LeakyRelu", alpha=number(alpha))


def ABRelu(a: float, b: float, do_stabilize: bool = False) -> Triple:
    """a min(x, 0) + b max(x, 0)."""
    return make("ABRelu", a=number(a), b=number(b))


def Abs(do_stabilize: bool = False) -> Triple:
    """|x|."""
    return make("Abs")


def Sign() -> Triple:
    """The sign of x."""
    return make("Sign")


def Erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """a erf(b x) + c."""
    return make("Erf", a=number(a), b=number(b), c=number(c))


def Sigmoid_like() -> Triple:
    """erf(x / 2.4020563531719796) / 2 + 1 / 2, close to the logistic function."""
    return make("Sigmoid_like")


def Gelu(approximate: bool = False) -> Triple:
    """x times the normal distribution function of x."""
    return make("Gelu")


def Sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """a sin(b x + c)."""
    return make("Sin", a=number(a), b=number(b), c=number(c))


def Cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """a cos(b x + c)."""
    return make("Cos", a=number(a), b=number(b), c=number(c))


def Rbf(gamma: float = 1.0) -> Triple:
    """sqrt(2) sin(sqrt(2 gamma) x + pi / 4): the Gaussian kernel exp(-gamma |x - x'|^2 / D)."""
    return make("Rbf", gamma=number(gamma))


def Exp(a: float = 1, b: float = 1) -> Triple:
    """a exp(b x)."""
    return make("Exp", a=number(a), b=number(b))


def Gaussian(a: float = 1, b: float = -1) -> Triple:
    """a exp(b x^2)."""
    return make("Gaussian", a=number(a), b=number(b))


def Gabor() -> Triple:
    """exp(-x^2) sin(x)."""
    return make("Gabor")


def ExpNormalized(gamma: float = 1, shift: float = -1, do_clip: bool = False) -> Triple:
    """K = sqrt(q q') exp(gamma (c + shift)); correlations are within -1 and 1, clipped or not."""
    return make("ExpNormalized", gamma=number(gamma), shift=number(shift), do_clip=do_clip)


def Hermite(degree: int) -> Triple:
    """The Hermite polynomial, of norm 1, of inputs of variance 1: K = k^degree."""
    return make("Hermite", degree=degree)


def Monomial(degree: int) -> Triple:
    """x^degree."""
    return make("Monomial", degree=degree)


def RectifiedMonomial(degree: int) -> Triple:
    """(x >= 0) x^degree."""
    return make("RectifiedMonomial", degree=degree)


def Polynomial(coef: Sequence[float]) -> Triple:
    """coef[0] + coef[1] x + coef[2] x^2 + ..."""
    return make("Polynomial", coef=numbers(coef))


def Elementwise(fn: Any = None, nngp_fn: Any = None, d_nngp_fn: Any = None) -> Triple:
    """Any function ``fn`` of a number or an array, by its Hermite series, whose error is known.

    ``nngp_fn``(cov12, var1, var2) and ``d_nngp_fn`` are not computed with: where they are given,
    they are compared with what comes of ``fn``, which has to be there.
    """
    return elementwise("Elementwise", fn, None, nngp_fn, d_nngp_fn)


def ElementwiseNumerical(fn: Any, deg: int, df: Any = None) -> Triple:
    """Any function ``fn`` with its derivative ``df``; ``deg`` is no matter: the series has as many
    terms as it needs."""
    whole("ElementwiseNumerical", "deg", deg)
    return elementwise("ElementwiseNumerical", fn, df)


def Custom(expression: str = "", table: Any = ()) -> Triple:
    """An expression in x, or a table of rows (x, phi(x)), a file or numbers."""
    rows = table.tolist() if hasattr(table, "tolist") else table
    return make("Custom", expression=expression, table=rows)


def Tanh() -> Triple:
    """tanh(x)."""
    return make("Tanh")


def Sigmoid() -> Triple:
    """1 / (1 + exp(-x))."""
    return make("Sigmoid")


def Softplus() -> Triple:
    """log(1 + exp(x))."""
    return make("Softplus")


def Swish() -> Triple:
    """x / (1 + exp(-x))."""
    return make("Swish")


def Silu() -> Triple:
    """x / (1 + exp(-x))."""
    return make("Silu")


def Mish() -> Triple:
    """x tanh(log(1 + exp(x)))."""
    return make("Mish")


def Softsign() -> Triple:
    """x / (1 + |x|)."""
    return make("Softsign")


def Arctan() -> Triple:
    """arctan(x)."""
    return make("Arctan")


def Elu(alpha: float = 1.0) -> Triple:
    """x for x > 0, alpha (exp(x) - 1) below."""
    return make("Elu", alpha=number(alpha))
