"""Kernels that a caller asks for by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from widegram.errors import WidegramError, shown
from widegram.validation.choices import KERNELS

Get = str | Sequence[str] | None
"""One name or several, as neural-tangents takes them; None stands for a default."""


def listed(get: str | Sequence[str]) -> tuple[str, ...]:
    """The names in ``get``, those of a string between commas, in lower case; none of no names."""
    try:
        return tuple(k.strip().lower() for k in (get.split(",") if isinstance(get, str) else get))
    except (AttributeError, TypeError):
        return ()


def named(get: str | Sequence[str], where: str = "") -> tuple[str, ...]:
    """A name or several, in lower case and in the order given.

    Raises WidegramError, which begins with ``where``, for what is no name, for none, and for a
    name given twice.
    """
    try:
        names = tuple(name.lower() for name in ((get,) if isinstance(get, str) else get))
    except (AttributeError, TypeError):
        raise WidegramError(
            f"{where}get={shown(get)} is no name of a kernel; name 'nngp', 'ntk' or both"
        ) from None
    if not names or not all(names):
        raise WidegramError(f"{where}get is empty; name 'nngp', 'ntk' or both")
    if len(set(names)) < len(names):
        raise WidegramError(f"{where}get={shown(get)} names a kernel twice; name each once")
    return names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The kernels that are among ``names``, in the order in which results hold them."""
    asked = set(names)
    return tuple(kernel for kernel in KERNELS if kernel in asked)
