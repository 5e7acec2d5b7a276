"""Writes names.json: the public names of neural-tangents 0.6.5. Run with its Python:

VENV/bin/python tests/golden_names/generate.py     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import neural_tangents


def main() -> None:
    """Write the parameters of every public name, by module; members of enumerations; null where
    there is nothing to call.
    """
    modules = {
        "": neural_tangents,
        "stax": neural_tangents.stax,
        "predict": neural_tangents.predict,
        "Kernel": neural_tangents.Kernel,
    }
    found = {module: {n: described(v) for n, v in public(of)} for module, of in modules.items()}
    found["Kernel"] |= dict.fromkeys(inspect.signature(neural_tangents.Kernel).parameters)
    rows = [
        f"{json.dumps(module)}: {block(line(*row) for row in sorted(of.items()))}"
        for module, of in found.items()
    ]
    Path(__file__).with_name("names.json").write_text(block(rows) + "\n")


def public(module: Any) -> list[tuple[str, Any]]:
    """The public names of a module or class that are not modules themselves."""
    named = [(name, getattr(module, name)) for name in dir(module) if not name.startswith("_")]
    return [(name, value) for name, value in named if not inspect.ismodule(value)]


def described(value: Any) -> list[str] | None:
    """Parameters of a function or class, members of an enumeration, None of anything else."""
    if inspect.isclass(value) and issubclass(value, Enum):
        return [member.name for member in value]
    if not callable(value):
        return None
    return [name for name in inspect.signature(value).parameters if not name.startswith("_")]


def block(rows: Iterable[str]) -> str:
    """A JSON object with a row on each line."""
    return "{\n" + ",\n".join(rows) + "\n}"


def line(name: str, parameters: list[str] | None) -> str:
    """One row of the file."""
    return f"  {json.dumps(name)}: {json.dumps(parameters)}"


if __name__ == "__main__":
    main()
