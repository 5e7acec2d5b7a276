"""Networks in the standard parameterization, alone and mixed with 'ntk', for any ``stax``.

:func:`networks` takes the ``stax`` of neural-tangents or of widegram. Imports NumPy alone, so that
neural-tangents' environment can run it too (``golden_trained/generate.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

BIASES = (None, 0.0, 0.3)
SCALES = ((1, 1), (2, 3))
ENDS = ("Flatten", "GlobalAvgPool")
VECTORS = tuple(np.random.default_rng(5).standard_normal((n, 6)) for n in (4, 3))
IMAGES = tuple(np.random.default_rng(6).standard_normal((n, 5, 4, 2)) for n in (3, 2))


def networks(stax: Any) -> dict[str, tuple[tuple[np.ndarray, ...], Any]]:
    """(inputs x1 and x2, layers) of every network by name."""
    found = {}
    for b in BIASES:
        for s in SCALES:
            found[f"dense, b_std {b}, s {s}"] = VECTORS, _dense(stax, b, s)
            for end in ENDS:
                found[f"conv, b_std {b}, s {s}, {end}"] = IMAGES, _conv(stax, b, s, end)
            found[f"local, b_std {b}, s {s}"] = IMAGES, _local(stax, b, s)
    return found | {
        "ntk last": (VECTORS, _mixed(stax, "standard", "standard", "ntk")),
        "ntk first": (VECTORS, _mixed(stax, "ntk", "standard", "standard")),
        "ntk between": (VECTORS, _mixed(stax, "STANDARD", "ntk", "Standard")),
        "residual": (IMAGES, _residual(stax)),
        "flattened first": (IMAGES, _flattened(stax)),
        "no weights": (VECTORS, _no_weights(stax)),
    }


def _dense(stax: Any, b: float | None, s: tuple[int, int]) -> Any:
    given = {"b_std": b, "parameterization": "standard", "s": s}
    return stax.serial(
        stax.Dense(8, 1.3, **given), stax.Relu(), stax.Dense(16, 0.9, **given), stax.Erf(),
        stax.Dense(3, 1.1, **given),
    )  # fmt: skip


def _conv(stax: Any, b: float | None, s: tuple[int, int], end: str) -> Any:
    given = {"b_std": b, "parameterization": "standard", "s": s}
    return stax.serial(
        stax.Conv(7, (3, 2), (2, 1), "SAME", 1.3, **given), stax.Relu(),
        stax.Conv(5, (2, 2), None, "CIRCULAR", 0.9, **given), stax.Relu(),
        getattr(stax, end)(), stax.Dense(3, 1.1, **given),
    )  # fmt: skip


def _local(stax: Any, b: float | None, s: tuple[int, int]) -> Any:
    given = {"b_std": b, "parameterization": "standard", "s": s}
    # No Conv in front: behind one neural-tangents' ConvLocal takes rows for columns.
    return stax.serial(
        stax.ConvLocal(7, (3, 2), (2, 1), "SAME", 1.3, **given), stax.Relu(),
        stax.ConvLocal(5, (2, 2), None, "VALID", 0.9, **given), stax.Erf(),
        stax.Conv(4, (1, 2), None, "CIRCULAR", 0.9, **given), stax.Relu(),
        stax.GlobalAvgPool(), stax.Dense(3, 1.1, **given),
    )  # fmt: skip


def _mixed(stax: Any, *parameterizations: str) -> Any:
    one, two, three = parameterizations
    return stax.serial(
        stax.Dense(8, 1.3, 0.2, parameterization=one), stax.Relu(),
        stax.Dense(5, 0.9, parameterization=two, s=(2, 2)), stax.Relu(),
        stax.Dense(2, 1.1, 0.1, parameterization=three, s=(3, 1)),
    )  # fmt: skip


def _residual(stax: Any) -> Any:
    given = {"b_std": 0.2, "parameterization": "standard"}
    block = stax.serial(
        stax.FanOut(2),
        stax.parallel(
            stax.serial(stax.Relu(), stax.Conv(8, (3, 3), padding="SAME", **given)),
            stax.Identity(),
        ),
        stax.FanInSum(),
    )
    return stax.serial(
        stax.Conv(8, (3, 3), padding="SAME", **given), block, block, stax.Relu(),
        stax.AvgPool((2, 2), (2, 2)), stax.Flatten(), stax.Dense(3, **given),
    )  # fmt: skip


def _flattened(stax: Any) -> Any:
    given = {"b_std": 0.2, "parameterization": "standard"}
    return stax.serial(
        stax.Flatten(), stax.Dense(8, 1.2, **given), stax.Relu(), stax.Dense(3, **given)
    )


def _no_weights(stax: Any) -> Any:
    return stax.serial(
        stax.Dense(8, 1.2, 0.3, parameterization="standard"), stax.Relu(),
        stax.Dense(4, 0.0, 0.3, parameterization="standard"), stax.Relu(), stax.Dense(3),
    )  # fmt: skip
