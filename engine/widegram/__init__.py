"""widegram: NNGP and NTK Gram matrices of infinitely wide networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from widegram import meanfield, predict, stax
    from widegram.combining import combine
    from widegram.computing.forecast import GramForecast, gram_forecast
    from widegram.computing.gram import GramResult, gram
    from widegram.computing.in_memory import Kernels, kernel
    from widegram.data import open_source, prepare
    from widegram.errors import WidegramError
    from widegram.gramfile import GramFile, VerifyReport, export
    from widegram.gramfile.assembling import JoinResult, join
    from widegram.linalg.from_files import eig, solve
    from widegram.network import load_network
    from widegram.stax import Kernel
    from widegram.stax.batching import batch
    from widegram.tuning import Search, tune
    from widegram.verifying.verify import verify

__all__ = [
    "GramFile",
    "GramForecast",
    "GramResult",
    "JoinResult",
    "Kernel",
    "Kernels",
    "Search",
    "VerifyReport",
    "WidegramError",
    "__version__",
    "batch",
    "combine",
    "eig",
    "export",
    "gram",
    "gram_forecast",
    "join",
    "kernel",
    "load_network",
    "meanfield",
    "open_source",
    "predict",
    "prepare",
    "solve",
    "stax",
    "tune",
    "verify",
]

_HOMES = {
    "GramFile": "widegram.gramfile",
    "GramForecast": "widegram.computing.forecast",
    "GramResult": "widegram.computing.gram",
    "JoinResult": "widegram.gramfile.assembling",
    "Kernel": "widegram.stax",
    "Kernels": "widegram.computing.in_memory",
    "Search": "widegram.tuning",
    "VerifyReport": "widegram.gramfile",
    "WidegramError": "widegram.errors",
    "batch": "widegram.stax.batching",
    "combine": "widegram.combining",
    "eig": "widegram.linalg.from_files",
    "export": "widegram.gramfile",
    "gram": "widegram.computing.gram",
    "gram_forecast": "widegram.computing.forecast",
    "join": "widegram.gramfile.assembling",
    "kernel": "widegram.computing.in_memory",
    "load_network": "widegram.network",
    "open_source": "widegram.data",
    "prepare": "widegram.data",
    "solve": "widegram.linalg.from_files",
    "tune": "widegram.tuning",
    "verify": "widegram.verifying.verify",
}


_MODULES = ("meanfield", "predict", "stax")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import widegram`` stays cheap.

    A name of neural-tangents that is not here raises when it is called.
    """
    if name in _MODULES:
        return import_module(f"widegram.{name}")
    if name not in _HOMES:
        from widegram.validation.missing import WIDEGRAM, refuse

        return refuse("widegram", name, WIDEGRAM)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
