"""Draws docs/pictures from the code: what layers read, activations and their duals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from activation_oracles import ORACLES, OWN
from making.footprints import LAYERS, PIXELS, footprint
from widegram import activations

FOLDER = Path(__file__).parents[1] / "pictures"
# Kernels that are E[phi phi] of no function, or of another one at every variance.
OF_NO_FUNCTION: dict[str, dict[str, float]] = {"ExpNormalized": {}, "Hermite": {"degree": 3}}
_BLUE, _RED = "#2a5599", "#c1443c"


def reads() -> Figure:
    """K between the pixels of two sequences; dark: what the entry named in the title is made of."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots(2, 6).ravel()
    for axis, name in zip(axes, LAYERS, strict=False):
        weights = footprint(name)
        axis.imshow(weights / max(weights.max(), 1e-9), cmap="Blues", vmin=0, vmax=1.2)
        p, q = LAYERS[name][1]
        axis.set_title(f"{name}\nentry ({p}, {q})", fontsize=8)
        axis.set_xticks(np.arange(PIXELS + 1) - 0.5, labels=[])
        axis.set_yticks(np.arange(PIXELS + 1) - 0.5, labels=[])
        axis.grid(color="#bbbbbb", linewidth=0.5)
        axis.tick_params(length=0)
    axes[0].set_ylabel("p of x", fontsize=8)
    axes[0].set_xlabel("p' of x'", fontsize=8)
    for axis in axes[len(LAYERS) :]:
        axis.set_visible(False)
    return figure


def duals() -> Figure:
    """phi over x; K and Kdot over c at variances of 1."""
    rows = {o.name: o for o in reversed(ORACLES) if o.params.get("degree", 2) > 1}
    names = [name for name in activations.TABLE if name not in OWN]
    columns = 6
    figure = Figure(figsize=(12, 1.7 * -(-len(names) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(names) // columns), 2 * columns).reshape(-1, 2)
    x, c = np.linspace(-3, 3, 241), np.linspace(-1, 1, 161)
    for (left, right), name in zip(axes, names, strict=False):
        params = rows[name].params if name in rows else OF_NO_FUNCTION[name]
        value, slope = activations.get(name, params).moments(np.ones(1), c, np.ones(1))
        if name in rows:
            left.plot(x, rows[name].phi(x), color=_BLUE, linewidth=1)
        right.plot(c, value, color=_BLUE, linewidth=1)
        right.plot(c, slope, color=_RED, linewidth=1, linestyle="--")
        said = ", ".join(f"{key} {number:g}" for key, number in params.items()
                         if isinstance(number, float | int))  # fmt: skip
        left.set_title(f"{name}{': ' + said if said else ''}", fontsize=7, loc="left")
        for axis in (left, right):
            axis.tick_params(labelsize=5, length=2)
            axis.axhline(0, color="#cccccc", linewidth=0.5, zorder=0)
    for pair in axes[len(names) :]:
        for axis in pair:
            axis.set_visible(False)
    return figure


PICTURES = {"reads.png": reads, "activations.png": duals}


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw().savefig(FOLDER / name, dpi=110, metadata={"Software": None})
        print(FOLDER / name)


if __name__ == "__main__":
    main()
