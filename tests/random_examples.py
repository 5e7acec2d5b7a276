"""Random networks, for any ``stax``: drawn as data by :mod:`campaigns.drawing_stax`, built here.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, so that neural-tangents' environment can run it too
(``golden_random/generate.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from campaigns.drawing_stax import Call, draw

SEED = 1
FUNCTIONS = {
    "cubic": lambda x: x**3 / 3 - x,
    "half": lambda d: np.e ** (-d / 2),
    "power": lambda d: 1 / (1 + d),
}


def run(
    stax: Any, numbers: Iterable[int], seed: int = SEED, through: Any = None
) -> dict[str, np.ndarray]:
    """What kernel_fn is asked for by the networks of ``numbers``, by name; ``through``: what calls
    a function with arrays."""
    found = {}
    for number in numbers:
        case = draw(seed, number)
        options: dict[str, Any] = {"pattern": case.pattern} if case.pattern else {}
        if case.mask is not None:
            options["mask_constant"] = case.mask
        _, _, kernel_fn = build(stax, case.calls, FUNCTIONS)
        get = ("nngp", "ntk") if case.get is None else case.get

        def kernels(x1: Any, x2: Any = None) -> Any:
            return kernel_fn(x1, x2, get, **options)  # noqa: B023  (called in its turn)

        given = (case.x1,) if case.x2 is None else (case.x1, case.x2)
        kernel = kernels(*given) if through is None else through(kernels, *given)
        for name in (get,) if isinstance(get, str) else get:
            value = kernel if isinstance(get, str) else getattr(kernel, name)
            found[f"{number}/{name}"] = np.asarray(value)
    return found


def build(stax: Any, calls: list[Call], functions: dict[str, Any]) -> Any:
    """The network of ``calls``, by the functions of ``stax``; ``functions``: by name, those that
    are arguments."""
    layers = []
    for name, arguments, keywords in calls:
        if name in ("serial", "parallel"):
            inner = [build(stax, [part], functions) for part in arguments]
            layers.append(getattr(stax, name)(*inner))
            continue
        given = [_argument(name, value, functions) for value in arguments]
        named = {key: _named(key, value, functions) for key, value in keywords.items()}
        layers.append(getattr(stax, name)(*given, **named))
    return stax.serial(*layers) if len(layers) > 1 else layers[0]


def _argument(name: str, value: Any, functions: dict[str, Any]) -> Any:
    if isinstance(value, str) and name.startswith("Elementwise"):
        return functions[value]
    if name == "Index":
        return tuple(slice(*v[1:]) if isinstance(v, list) else v for v in value)
    return tuple(value) if isinstance(value, list) else value


def _named(key: str, value: Any, functions: dict[str, Any]) -> Any:
    if key == "pos_emb_decay_fn" and value is not None:
        return functions[value]
    if key in ("lhs", "rhs") and isinstance(value, list):
        return np.array(value)
    if key == "dimension_numbers" and isinstance(value[0], str):
        return tuple(value)
    if isinstance(value, list):
        return tuple(tuple(tuple(w) if isinstance(w, list) else w for w in v)
                     if isinstance(v, list) else v for v in value)  # fmt: skip
    return value
