"""Activations with neural-tangents' signatures, and more smooth ones.

``do_stabilize`` and ``approximate`` are accepted and ignored: the first rescales sums that do not
overflow here, the second concerns finite networks.
"""

from __future__ import annotations

from widegram.errors import WidegramError
from widegram.stax.kernel_fn import Triple
from widegram.stax.making import make, number


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


def Gaussian(a: float = 1, b: float = -1) -> Triple:
    """exp(-x^2), with a = 1 and b = -1 alone."""
    if number(a) != 1 or number(b) != -1:
        raise WidegramError(
            f"stax.Gaussian: a={a!r}, b={b!r} is not supported, only a=1, b=-1; put factors into "
            "the W_std of the layers around it"
        )
    return make("Gaussian")


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
