"""The API reference, from the docstrings of public names."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator

import widegram

# The modules whose __all__ is public, and what each is for.
MODULES = {
    "widegram": "The same as the commands, as functions",
    "widegram.stax": "Networks with neural-tangents' functions",
    "widegram.predict": "Predictions, with neural-tangents' functions. Called, the module does "
    'what the command does: ``widegram.predict("A.h5", "Kc.h5", y="d.h5:test/y")``, with the '
    "fields of ``PredictJob`` as keywords",
    "widegram.linalg": "Solvers, factorisations and spectra",
    "widegram.gramfile": "Reading and writing Gram files",
    "widegram.meanfield": "Mean field theory",
    "widegram.sklearn": "Estimators for scikit-learn",
}


def reference() -> str:
    """Markdown with a section for each module; its names through autodoc."""
    return "\n".join(line for name in MODULES for line in _of(name))


def _of(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"\n## {name}\n\n{MODULES[name]}.\n\n```{{eval-rst}}\n.. module:: {name}\n"
    for public in sorted(module.__all__, key=str.lower):
        value = getattr(module, public)
        if isinstance(value, types.ModuleType) or public.startswith("__"):
            continue
        if name != "widegram" and getattr(widegram, public, None) is value:
            yield f"* :any:`widegram.{public}`\n"
        elif not callable(value):
            yield f".. autodata:: {name}.{public}\n   :no-value:\n"
        elif inspect.isclass(value):
            yield f".. autoclass:: {name}.{public}\n   :members:\n"
        else:
            yield f".. autofunction:: {name}.{public}\n"
    yield "```\n"


# Literals and roles, which stay; and marks of formulas that RST would take for its own.
_KEPT = re.compile(r"(``.+?``|:\w+:`[^`]*`|^\s*\* )|([*|])")


def plain(lines: list[str]) -> None:
    """Escape what stands in a docstring for itself: products, norms."""
    for number, line in enumerate(lines):
        lines[number] = _KEPT.sub(lambda found: found[1] or f"\\{found[2]}", line)
