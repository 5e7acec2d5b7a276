"""Functions of JAX as it traces them, carried out by NumPy: for small arrays JAX compiles each
operation ten times as long as all of them take. Imported in neural-tangents' Python alone.

Operations that are not in :data:`OPERATIONS` are left to JAX.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.special
from jax import core

Arrays = list[np.ndarray]


class _LeftToJax(Exception):
    """An operation has parameters that NumPy's does not know."""


def evaluate(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """What ``function`` makes of arrays, traced for their shapes."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arrays)
    with np.errstate(all="ignore"):
        found = _run(closed.jaxpr, closed.consts, arrays)
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(shapes), found)


def _run(jaxpr: Any, constants: Any, arguments: Any) -> Arrays:
    names, arrays = (*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments)
    known: dict[Any, np.ndarray] = dict(zip(names, map(np.asarray, arrays), strict=True))

    def value(var: Any) -> np.ndarray:
        literal = isinstance(var, core.Literal)
        return np.asarray(var.val, dtype=var.aval.dtype) if literal else known[var]

    for step in jaxpr.eqns:
        results = _step(step, [value(v) for v in step.invars])
        for var, made in zip(step.outvars, results, strict=True):
            array = np.asarray(made).astype(var.aval.dtype, copy=False)
            assert array.shape == tuple(var.aval.shape), step
            known[var] = array
    return [value(var) for var in jaxpr.outvars]


def _step(step: Any, given: Arrays) -> Any:
    """The results of one operation, or of the program that it names."""
    name, params = step.primitive.name, step.params
    inner = next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), 0)
    if name == "cond":
        branches = params["branches"]
        inner, given = branches[int(np.clip(given[0], 0, len(branches) - 1))], given[1:]
    if inner and name != "scan":
        return _run(inner.jaxpr, inner.consts, given)
    if name in OPERATIONS:
        try:
            return [OPERATIONS[name](*given, **params)]
        except _LeftToJax:
            pass
    found = step.primitive.bind(*map(jax.numpy.asarray, given), **params)
    return found if step.primitive.multiple_results else [found]


def _dot_general(a: Any, b: Any, dimension_numbers: Any, **_: Any) -> Any:
    (contracted_a, contracted_b), (batch_a, batch_b) = dimension_numbers
    letters = iter(string.ascii_letters)
    names_a: dict[int, str] = {}
    names_b: dict[int, str] = {}
    pairs = zip((*batch_a, *contracted_a), (*batch_b, *contracted_b), strict=True)
    for i, j in pairs:
        names_a[i] = names_b[j] = next(letters)
    out = [names_a[i] for i in batch_a]
    for array, names in ((a, names_a), (b, names_b)):
        for axis in range(array.ndim):
            if axis not in names:
                names[axis] = next(letters)
                out.append(names[axis])
    left, right = ("".join(n[i] for i in range(len(n))) for n in (names_a, names_b))
    return np.einsum(f"{left},{right}->{''.join(out)}", a, b)


def _broadcast_in_dim(x: Any, *_: Any, shape: Any, broadcast_dimensions: Any, **__: Any) -> Any:
    sides = [1] * len(shape)
    for size, axis in zip(x.shape, broadcast_dimensions, strict=True):
        sides[axis] = size
    return np.broadcast_to(x.reshape(sides), shape)


def _pad(x: Any, value: Any, padding_config: Any) -> Any:
    if any(inner or lo < 0 or hi < 0 for lo, hi, inner in padding_config):
        raise _LeftToJax
    return np.pad(x, [(lo, hi) for lo, hi, _ in padding_config], constant_values=value)


def _slice(x: Any, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or [1] * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


def _div(a: Any, b: Any) -> Any:
    return a / b if a.dtype.kind == "f" else np.trunc(a / b)


_PLAIN: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "acos": np.arccos, "add": np.add, "add_any": np.add, "and": np.bitwise_and,
    "asin": np.arcsin, "atan": np.arctan, "atan2": np.arctan2, "ceil": np.ceil,
    "copy": np.array, "cos": np.cos, "div": _div, "eq": np.equal, "erf": scipy.special.erf,
    "erfc": scipy.special.erfc, "exp": np.exp, "expm1": np.expm1, "floor": np.floor,
    "ge": np.greater_equal, "gt": np.greater, "is_finite": np.isfinite, "le": np.less_equal,
    "log": np.log, "log1p": np.log1p, "logistic": scipy.special.expit, "lt": np.less,
    "max": np.maximum, "min": np.minimum, "mul": np.multiply, "ne": np.not_equal,
    "neg": np.negative, "not": np.logical_not, "or": np.bitwise_or, "pow": np.power,
    "rem": np.fmod, "rsqrt": lambda x: 1 / np.sqrt(x), "sign": np.sign, "sin": np.sin,
    "sqrt": np.sqrt, "square": np.square, "stop_gradient": np.array, "sub": np.subtract,
    "tan": np.tan, "tanh": np.tanh,
}  # fmt: skip


def _without_params(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arrays, **_: function(*arrays)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, **_: function(x, axis=tuple(axes))


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _without_params(function) for name, function in _PLAIN.items()},
    **{f"reduce_{name}": _reduced(getattr(np, {"and": "all", "or": "any"}.get(name, name)))
       for name in ("sum", "max", "min", "prod", "and", "or")},
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda lo, x, hi: np.clip(x, lo, hi),
    "concatenate": lambda *arrays, dimension: np.concatenate(arrays, dimension),
    "convert_element_type": lambda x, new_dtype, **_: x.astype(new_dtype),
    "dot_general": _dot_general,
    "expand_dims": lambda x, dimensions: np.expand_dims(x, dimensions),
    "integer_pow": lambda x, y: np.power(x, float(y)),
    "pad": _pad,
    "reshape": lambda x, *_, new_sizes, **__: x.reshape(new_sizes),
    "rev": lambda x, dimensions: np.flip(x, dimensions),
    "select_n": lambda which, *cases: np.choose(which, cases),
    "slice": _slice,
    "squeeze": lambda x, dimensions: np.squeeze(x, tuple(dimensions)),
    "transpose": lambda x, permutation: np.transpose(x, permutation),
}  # fmt: skip
