"""What each PTX instruction without side effects computes: operand types and a function on arrays.

Only instructions that generated kernels have are here; any other one is an error with its name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtual_card.ptx import numbers
from virtual_card.ptx.text import Unsupported

Array = NDArray[Any]
Function = Callable[..., Array]

KINDS: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "pred": np.bool_, "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32,
        "b16": np.uint16, "u16": np.uint16, "s16": np.int16,
        "b64": np.uint64, "u64": np.uint64, "s64": np.int64, "f64": np.float64,
    }.items()
}  # fmt: skip
_U32 = KINDS["u32"]


@dataclass(frozen=True)
class Meaning:
    """Types of the operands, type of the result, and the function."""

    takes: tuple[np.dtype[Any], ...]
    gives: np.dtype[Any]
    function: Function


_COMPARE: dict[str, Function] = {
    "eq": operator.eq, "ne": np.not_equal, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge,
    # True where an operand is no number.
    "equ": lambda a, b: ~((a < b) | (a > b)), "neu": operator.ne,
    "ltu": lambda a, b: ~(a >= b), "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
}  # fmt: skip
# PTX's "ne" is false where an operand is no number.
_ORDERED_NE = lambda a, b: (a < b) | (a > b)  # noqa: E731


def meaning(name: str, approximate: numbers.Approximate) -> Meaning:
    """The meaning of an instruction such as ``add.ftz.f32``.

    Raises :class:`Unsupported` where there is none.
    """
    base, *suffixes = name.split(".")
    if base == "cvt":
        return _conversion(name, suffixes)
    kind = KINDS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise Unsupported(name)
    modifiers = tuple(s for s in suffixes[:-1] if s != "rn")
    if base == "setp":
        return _comparison(name, modifiers, kind)
    special = _special(base, modifiers, kind, approximate)
    if special is not None:
        return special
    ftz, modifiers = "ftz" in modifiers, tuple(m for m in modifiers if m != "ftz")
    found = _table(kind).get((base, *modifiers))
    if found is None or (ftz and kind != np.float32):
        raise Unsupported(name)
    count, function = found
    return Meaning((kind,) * count, kind, numbers.flushing(function) if ftz else function)


def _table(kind: np.dtype[Any]) -> dict[tuple[str, ...], tuple[int, Function]]:
    """Operations whose operands and result are of one type."""
    if kind == np.bool_:
        return {**_BITS, ("mov",): (1, np.copy)}
    if kind.kind == "f":
        return _FLOAT
    return {**_BITS, **_WHOLE, **(_UNSIGNED if kind.kind == "u" else {})}


_BITS: dict[tuple[str, ...], tuple[int, Function]] = {
    ("and",): (2, np.bitwise_and), ("or",): (2, np.bitwise_or), ("xor",): (2, np.bitwise_xor),
    ("not",): (1, np.invert),
}  # fmt: skip
_WHOLE: dict[tuple[str, ...], tuple[int, Function]] = {
    ("mov",): (1, np.copy), ("neg",): (1, np.negative), ("add",): (2, np.add),
    ("sub",): (2, np.subtract), ("mul", "lo"): (2, np.multiply),
    ("mul", "hi"): (2, numbers.high_product),
    ("mad", "lo"): (3, lambda a, b, c: a * b + c),
    ("min",): (2, np.minimum), ("max",): (2, np.maximum),
}  # fmt: skip
_UNSIGNED: dict[tuple[str, ...], tuple[int, Function]] = {
    ("div",): (2, np.floor_divide), ("rem",): (2, np.remainder),
}  # fmt: skip
_FLOAT: dict[tuple[str, ...], tuple[int, Function]] = {
    ("mov",): (1, np.copy), ("neg",): (1, np.negative), ("abs",): (1, np.abs),
    ("add",): (2, np.add), ("sub",): (2, np.subtract), ("mul",): (2, np.multiply),
    ("div",): (2, np.divide), ("sqrt",): (1, np.sqrt),
    # The number, where the other operand is none.
    ("min",): (2, np.fmin), ("max",): (2, np.fmax),
    ("fma",): (3, numbers.fma),
    ("fma", "sat"): (3, lambda a, b, c: numbers.saturate(numbers.fma(a, b, c))),
}  # fmt: skip


def _special(
    base: str, modifiers: tuple[str, ...], kind: np.dtype[Any], approximate: numbers.Approximate
) -> Meaning | None:
    """Operations with operands of several types, and the approximate ones."""
    if base == "selp" and not modifiers:
        return Meaning((kind, kind, KINDS["pred"]), kind, lambda a, b, p: np.where(p, a, b))
    if base == "bfi" and kind == np.uint64:
        return Meaning((kind, kind, _U32, _U32), kind, _insert)
    if base in ("shl", "shr") and kind.kind in "iu":
        return Meaning((kind, _U32), kind, _shift(base, kind))
    if (base, modifiers) == ("mul", ("wide",)) and kind.kind in "iu" and kind.itemsize < 8:
        wide = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
        return Meaning((kind, kind), wide, lambda a, b: a.astype(wide) * b.astype(wide))
    if (base, modifiers) == ("mul", ("hi",)) and kind.itemsize != 8:
        raise Unsupported(f"mul.hi.{kind}")
    if modifiers == ("approx", "ftz"):
        found = {
            ("div", "f32"): (2, approximate.divide), ("sqrt", "f32"): (1, approximate.root),
            ("ex2", "f32"): (1, approximate.power), ("rcp", "f64"): (1, approximate.reciprocal),
            ("rsqrt", "f64"): (1, approximate.inverse_root),
        }.get((base, f"f{8 * kind.itemsize}"))  # fmt: skip
        if found is not None and kind.kind == "f":
            return Meaning((kind,) * found[0], kind, found[1])
    return None


def _insert(a: Array, b: Array, position: Array, length: Array) -> Array:
    """bfi.b64: the lowest bits of ``a`` at a position of ``b``."""
    if (length >= 64).any() or (position >= 64).any():
        raise Unsupported("bfi of a whole word")
    one = np.uint64(1)
    shift = position.astype(np.uint64)
    mask = ((one << length.astype(np.uint64)) - one) << shift
    return (b & ~mask) | ((a << shift) & mask)


def _shift(base: str, kind: np.dtype[Any]) -> Function:
    """Shifts clamp their distance to the width, as those of C and NumPy do not."""
    bits = 8 * kind.itemsize

    def shift(a: Array, distance: Array) -> Array:
        inside = np.minimum(distance, bits - 1).astype(kind)
        if base == "shr" and kind.kind == "i":
            return a >> inside
        moved = a << inside if base == "shl" else a >> inside
        return np.where(distance < bits, moved, kind.type(0))

    return shift


def _comparison(name: str, modifiers: tuple[str, ...], kind: np.dtype[Any]) -> Meaning:
    ftz = "ftz" in modifiers
    rest = tuple(m for m in modifiers if m != "ftz")
    if len(rest) != 1 or rest[0] not in _COMPARE:
        raise Unsupported(name)
    compare = _ORDERED_NE if rest[0] == "ne" and kind.kind == "f" else _COMPARE[rest[0]]
    if ftz:
        whole = compare
        compare = lambda a, b: whole(numbers.flush(a), numbers.flush(b))  # noqa: E731
    return Meaning((kind, kind), KINDS["pred"], compare)


def _conversion(name: str, suffixes: list[str]) -> Meaning:
    """Between integers, between floating-point numbers, and exact or rounded from integers."""
    gives, takes = (KINDS.get(s) for s in suffixes[-2:])
    modifiers = set(suffixes[:-2]) - {"rn"}
    if gives is None or takes is None or modifiers - {"ftz"}:
        raise Unsupported(name)
    if gives.kind != "f" and takes.kind == "f":
        raise Unsupported(name)
    if "ftz" not in modifiers:
        return Meaning((takes,), gives, lambda a: a.astype(gives))

    def flushed(a: Array) -> Array:
        a = numbers.flush(a) if takes == np.float32 else a
        found = a.astype(gives)
        return numbers.flush(found) if gives == np.float32 else found

    return Meaning((takes,), gives, flushed)
