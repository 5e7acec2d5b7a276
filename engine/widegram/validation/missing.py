"""Names of neural-tangents that are not here: found, and refused by name when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from widegram.errors import WidegramError

_FINITE = "widegram's networks are infinitely wide; for finite ones use neural_tangents"

WIDEGRAM: dict[str, str] = {
    "NtkImplementation": _FINITE,
    "empirical_kernel_fn": _FINITE,
    "empirical_nngp_fn": _FINITE,
    "empirical_ntk_fn": _FINITE,
    "empirical_ntk_vp_fn": _FINITE,
    "linearize": _FINITE,
    "monte_carlo_kernel_fn": f"kernel_fn is exact and needs no samples; {_FINITE}",
    "taylor_expand": _FINITE,
}


def refuse(module: str, name: str, instead: Mapping[str, str]) -> Callable[..., Any]:
    """A function that raises :class:`WidegramError` for ``module.name``, saying what to use.

    Raises AttributeError for a name that is not among those of ``instead``.
    """
    if name not in instead:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        where = module.removeprefix("widegram.")
        raise WidegramError(f"{where}.{name} is not supported: {instead[name]}")

    refused.__name__ = name
    refused.__doc__ = f"Not supported: {instead[name]}."
    return refused
