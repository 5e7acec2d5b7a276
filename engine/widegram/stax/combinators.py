"""Combinators of layers: serial, repeat, and branches that meet."""

from __future__ import annotations

from typing import Any

from widegram.errors import WidegramError, shown
from widegram.network import layers as kinds
from widegram.stax.axes import is_placed
from widegram.stax.branches import FanInItem, FanOutItem, Item, ParallelItem, close
from widegram.stax.kernel_fn import KernelFn, Triple, triple


def serial(*layers: Triple) -> Triple:
    """Layers one after the other."""
    return triple(*(item for n, layer in enumerate(layers) for item in _items(layer, "serial", n)))


def parallel(*layers: Triple) -> Triple:
    """Layer n acts on value n of what ``FanOut`` made."""
    return triple(ParallelItem(tuple(_items(x, "parallel", n) for n, x in enumerate(layers))))


def repeat(layer: Triple, n: int) -> Triple:
    """``layer`` applied ``n`` times (n >= 0); the same as ``serial(*([layer] * n))``.

    Raises WidegramError for an n that is no such number.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise WidegramError(f"stax.repeat: n must be an integer >= 0, found {n!r}")
    items = _items(layer, "repeat", 0)
    if is_placed(items):  # axes may be others each time
        return triple(*items * n)
    return triple(kinds.Repeat(n, close(items))) if n and items else triple()


def FanOut(num: int) -> Triple:
    """One value becomes ``num`` equal ones, for the branches of ``parallel``.

    Raises WidegramError for a ``num`` that is no number of 1 or more.
    """
    if isinstance(num, bool) or not isinstance(num, int) or num < 1:
        raise WidegramError(f"stax.FanOut: num must be an integer >= 1, found {num!r}")
    return triple(FanOutItem(num))


def FanInSum() -> Triple:
    """The sum of the branches, which must be Gaussian. They count as independent: all but one
    should have weights of their own."""
    return triple(FanInItem(kinds.FanInSum))


def FanInProd() -> Triple:
    """The product of the branches, number by number; as of :func:`FanInSum` they count as
    independent. Behind it, put a Dense or Conv before an activation."""
    return triple(FanInItem(kinds.FanInProd))


def FanInConcat(axis: int = -1) -> Triple:
    """The branches side by side along ``axis``: channels, of which each branch has as many as its
    widths say, or an axis of images, whose pixels count as independent. Behind channels, put a
    Dense or Conv before an activation.

    Raises WidegramError for an axis that is no integer; kernel_fn for one that values have not.
    """
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise WidegramError(f"stax.FanInConcat: axis must be an integer, found {shown(axis)}")
    return triple(FanInItem(kinds.FanInConcat, axis))


def _items(layer: Any, where: str, n: int) -> tuple[Item, ...]:
    if not isinstance(layer, tuple) or len(layer) != 3 or not isinstance(layer[2], KernelFn):
        what = "a layer of widegram.stax, (init_fn, apply_fn, kernel_fn)"
        hint = "; call it: stax.Relu()" if callable(layer) else ""
        raise WidegramError(f"stax.{where}: argument {n + 1} must be {what}{hint}")
    items: tuple[Item, ...] = layer[2].items
    return items
