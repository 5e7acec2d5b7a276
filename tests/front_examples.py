"""Networks whose inputs, layers or axes are not those of channels-last images, for any ``stax``.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, so that neural-tangents' environment can run it too
(``golden_front/generate.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]
# By name: the network, and the shapes of x1 and x2.
Networks = Iterator[tuple[str, Any, tuple[int, ...], tuple[int, ...]]]


def norms(stax: Any) -> Networks:
    """LayerNorm with an eps of its own: beside variances of its size, far larger, far smaller."""
    for eps in (0.3, 1e-3, 50.0):
        dense = stax.Dense(1, 1.3, 0.2)
        layers = [dense, stax.LayerNorm(eps=eps), stax.Relu(), dense]
        yield f"vectors {eps}", stax.serial(*layers, *layers), (3, 5), (2, 5)
    for axis in (-1, (1, 2, 3), (2, 3)):
        conv = stax.Conv(1, (3, 2), padding="SAME", W_std=1.2, b_std=0.3)
        layers = [conv, stax.LayerNorm(axis, 0.2), stax.Erf(), conv]
        for end in (stax.Flatten, stax.GlobalAvgPool):
            name = f"images {axis} {end.__name__}"
            yield name, stax.serial(*layers, end(), dense), (2, 4, 5, 2), (2, 4, 5, 2)
    layers = [conv, stax.AvgPool((2, 3)), stax.LayerNorm((1, 3), 0.1), stax.Relu(), conv]
    yield "pooled", stax.serial(*layers, stax.GlobalAvgPool(), dense), (2, 5, 6, 1), (3, 5, 6, 1)


def edges(stax: Any) -> Networks:
    """AvgPool(normalize_edges=True): paddings, windows wider than the image, strides."""
    for padding, window, strides in (
        ("SAME", (3, 3), None), ("SAME", (2, 3), (2, 1)), ("SAME", (5, 9), (1, 2)),
        ("VALID", (2, 3), (2, 1)), ("CIRCULAR", (3, 2), None),
    ):  # fmt: skip
        for end in (stax.Flatten, stax.GlobalAvgPool):
            layers = [stax.Conv(1, (3, 2), padding="SAME", W_std=1.2, b_std=0.3), stax.Relu(),
                      stax.AvgPool(window, strides, padding, True),
                      stax.Conv(1, (2, 2), W_std=1.1), stax.Relu()]  # fmt: skip
            name = f"{padding} {window} {strides} {end.__name__}"
            network = stax.serial(*layers, end(), stax.Dense(1, 1.2, 0.1))
            yield name, network, (2, 5, 6, 2), (3, 5, 6, 2)


FAMILIES = {"norms": norms, "edges": edges}


def inputs(name: str, which: int, shape: tuple[int, ...]) -> np.ndarray:
    """x1 (``which`` 0) or x2 of a network, of ``shape``."""
    seed = sum(name.encode()) + 1000 * which
    return np.random.default_rng(seed).standard_normal(shape)


def run(stax: Any, families: Any = FAMILIES) -> Values:
    """nngp, ntk, cov1, cov2 of every network, by name, float64."""
    found: Values = {}
    for family in families:
        for name, (_, _, kernel_fn), first, second in FAMILIES[family](stax):
            x1, x2 = inputs(name, 0, first), inputs(name, 1, second)
            kernel = kernel_fn(x1, x2)
            for field in ("nngp", "ntk", "cov1", "cov2"):
                found[f"{family}/{name}/{field}"] = np.asarray(getattr(kernel, field))
    return found
