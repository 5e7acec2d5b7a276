"""Inputs: opening them block by block, preparing raw data sets, drawing rows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from widegram.data.inputs import Source, open_source

if TYPE_CHECKING:
    from widegram.data.applying import Applied, apply
    from widegram.data.preparing import Prepared, prepare
    from widegram.data.sampling import Sampled, sample

__all__ = [
    "Applied",
    "Prepared",
    "Sampled",
    "Source",
    "apply",
    "open_source",
    "prepare",
    "sample",
]

# What only computes kernels prepares no data.
_HOMES = {
    "Applied": "widegram.data.applying",
    "Prepared": "widegram.data.preparing",
    "Sampled": "widegram.data.sampling",
    "apply": "widegram.data.applying",
    "prepare": "widegram.data.preparing",
    "sample": "widegram.data.sampling",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
