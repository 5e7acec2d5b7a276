"""Writes names.json and signatures.json: the public names of neural-tangents 0.6.5, and how each is
called. Run with its Python:

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
import numpy as np
from neural_tangents import predict, stax


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
    here = Path(__file__)
    here.with_name("names.json").write_text(block(rows) + "\n")
    called = {f"{module}.{name}".lstrip("."): value for module, of in modules.items()
              for name, value in public(of)} | made()  # fmt: skip
    signatures = {name: signature(value) for name, value in sorted(called.items())}
    rows = [line(name, of) for name, of in signatures.items() if of is not None]
    here.with_name("signatures.json").write_text(block(rows) + "\n")


def made() -> dict[str, Any]:
    """Functions that others return, by the name of these and a ``()``."""
    kernel_fn = stax.Dense(1)[2]
    k, x, y = np.eye(2), np.ones((2, 3)), np.ones((2, 1))
    return {
        "stax.serial()[2]": kernel_fn,
        "predict.gradient_descent()": predict.gradient_descent(lambda a, b: (a - b).sum(), k, y),
        "predict.gradient_descent_mse()": predict.gradient_descent_mse(k, y),
        "predict.gradient_descent_mse_ensemble()": predict.gradient_descent_mse_ensemble(
            kernel_fn, x, y
        ),
        "predict.gp_inference()": predict.gp_inference(k, y),
    }


def signature(value: Any) -> list[list[str | None]] | None:
    """Name, kind and default of each parameter of a function; None of anything else."""
    if inspect.isclass(value) or not callable(value):
        return None
    return [
        [p.name, p.kind.name, None if p.default is p.empty else written(p.default)]
        for p in inspect.signature(value).parameters.values()
    ]


def written(default: Any) -> str:
    """A default as text that has no address in it."""
    return "a function" if callable(default) else repr(default)


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


def line(name: str, parameters: list[Any] | None) -> str:
    """One row of the file."""
    return f"  {json.dumps(name)}: {json.dumps(parameters)}"


if __name__ == "__main__":
    main()
