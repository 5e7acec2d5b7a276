"""phi(x) as a text of numbers, operations and named functions; parsed, never evaluated as code.

Values and derivatives go through the tree together, so that phi' is exact.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.activations.base import Array
from widegram.errors import shown

Both = tuple[Array, Array]
_LONGEST = 500
_NUMBERS = {"pi": np.pi, "e": np.e}


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _erf(x: Array) -> Array:
    from scipy.special import erf  # SciPy takes long to import, and most networks need none

    return np.asarray(erf(x))


# Each function and its derivative.
_OF_ONE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (np.exp, np.exp),
    "expm1": (np.expm1, np.exp),
    "log": (np.log, lambda x: 1 / x),
    "log1p": (np.log1p, lambda x: 1 / (1 + x)),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "abs": (np.abs, np.sign),
    "sign": (np.sign, np.zeros_like),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "arctan": (np.arctan, lambda x: 1 / (1 + x * x)),
    "erf": (_erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "softplus": (lambda x: np.asarray(np.logaddexp(0.0, x)), _sigmoid),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: (x > 0) + 0.0),
}
_OF_TWO = {"maximum": np.greater_equal, "minimum": np.less_equal}
_KNOWN = f"x, pi, e, numbers, + - * / **, and {', '.join([*_OF_ONE, *_OF_TWO])}"


def expression(text: Any) -> str:
    """The text of an expression that can be read; raises a ValueError that says what is wrong."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ValueError(f"must be a text of at most {_LONGEST} characters, found {shown(text)}")
    if text.strip():
        with np.errstate(all="ignore"):
            _evaluate(_parsed(text), np.array([0.25]))
    return text.strip()


def parsed_function(text: str) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """phi and phi' of arrays."""
    tree = _parsed(text)

    def part(n: int) -> Callable[[Array], Array]:
        def found(x: Array) -> Array:
            x = np.asarray(x, dtype=np.float64)
            with np.errstate(all="ignore"):
                return np.asarray(_evaluate(tree, x)[n] + 0.0 * x)

        return found

    return part(0), part(1)


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"cannot be read: {reason}, in {shown(text)}") from None


def _evaluate(node: ast.expr, x: Array) -> Both:
    """The value and the derivative of a part of the tree at ``x``."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _number(float(value) if abs(value) <= 1e300 else np.inf, x)
        case ast.Name(id="x"):
            return x, np.ones_like(x)
        case ast.Name(id=name) if name in _NUMBERS:
            return _number(_NUMBERS[name], x)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=inner):
            v, d = _evaluate(inner, x)
            return (-v, -d) if isinstance(sign, ast.USub) else (v, d)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_evaluate(left, x), _evaluate(right, x))
        case ast.BinOp(left=left, op=operation, right=right):
            return _combined(operation, _evaluate(left, x), _evaluate(right, x))
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _OF_ONE:
            v, d = _evaluate(inner, x)
            function, derivative = _OF_ONE[name]
            return function(v), np.where(d == 0, 0.0, derivative(v) * d)
        case ast.Call(func=ast.Name(id=name), args=[first, second], keywords=[]) if name in _OF_TWO:
            (v, d), (w, e) = _evaluate(first, x), _evaluate(second, x)
            left_wins = _OF_TWO[name](v, w)
            return np.where(left_wins, v, w), np.where(left_wins, d, e)
    raise ValueError(f"has {shown(ast.unparse(node))}, but may have {_KNOWN}")


def _number(value: float, x: Array) -> Both:
    if not np.isfinite(value):
        raise ValueError("has a number that is too large")
    return np.full_like(x, value), np.zeros_like(x)


def _combined(operation: ast.operator, left: Both, right: Both) -> Both:
    (v, d), (w, e) = left, right
    match operation:
        case ast.Add():
            return v + w, d + e
        case ast.Sub():
            return v - w, d - e
        case ast.Mult():
            return v * w, d * w + v * e
        case ast.Div():
            return v / w, (d - v / w * e) / w
    raise ValueError(f"has another operation, but may have {_KNOWN}")


def _power(base: Both, exponent: Both) -> Both:
    (v, d), (w, e) = base, exponent
    if not np.isfinite(w).all():
        raise ValueError("has a number that is too large")
    if (e != 0).any():
        raise ValueError("has an exponent with x; write it by exp")
    lower = np.where(w == 0, 0.0, w * v ** np.where(w == 0, 0.0, w - 1))
    return v**w, lower * d
