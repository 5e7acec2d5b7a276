"""Random masked numbers in the inputs of a network with a mask."""

from __future__ import annotations

import numpy as np

from campaigns.drawing import Case
from widegram.network.masking import constant


def masked(case: Case, rng: np.random.Generator) -> Case:
    """Some inputs with masked numbers: three places of them, so that equal inputs may stay so."""
    shape = case.x1.shape[1:]
    places = [_place(shape, rng) for _ in range(3)]
    found = []
    for x in (case.x1, case.x2):
        if x is not None:
            which = rng.integers(-1, len(places), len(x))
            flags = [places[n] if n >= 0 else np.zeros(shape, dtype=bool) for n in which]
            x = np.where(np.stack(flags), constant(case.spec["mask"]), x)
        found.append(x)
    return case._replace(x1=found[0], x2=found[1])


def _place(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Which numbers of an input: some pixels, all behind a length, all, any numbers."""
    flags = np.zeros(shape, dtype=bool)
    match rng.choice(["pixels", "length", "all", "numbers"]):
        case "pixels":
            flags[rng.random(shape[:-1]) < 0.4] = True
        case "length":
            flags[rng.integers(len(flags) + 1) :] = True
        case "all":
            flags[...] = True
        case _:
            flags[rng.random(shape) < 0.3] = True
    return flags
