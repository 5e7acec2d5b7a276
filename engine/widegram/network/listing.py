"""The layers of a network one after the other, as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from widegram.network.model import Network


def layers_of(network: Network) -> list[dict[str, Any]]:
    """The path (``layer``), ``parameters``, and shapes ``in`` and ``out`` of every layer."""
    canonical = network.canonical()
    rows: list[dict[str, Any]] = [
        {
            "layer": path,
            "parameters": _parameters(canonical, path),
            "in": list(before),
            "out": list(after),
        }
        for path, before, after in network.shapes()
    ]
    if network.inputs:
        rows[0]["in"] = [list(shape[:-1]) for shape in network.inputs]
    return rows


def _parameters(canonical: dict[str, Any], path: str) -> dict[str, Any]:
    """Parameters of the layer at ``layers[0] Residual.branch[1] Conv``, at
    ``layers[2] FanInSum.branches[0][1] Relu``, or at ``layers[3] Readouts.heads.gap[0] Dense``,
    without nested layers."""
    layer: Any = canonical
    for head, field, numbers in re.findall(r"(?:heads\.([\w.=-]+)|(\w+))((?:\[\d+\])+)", path):
        layer = layer["heads"][head] if head else layer[field]
        for n in re.findall(r"\d+", numbers):
            layer = layer[int(n)]
    nested = ("layer", "branch", "shortcut", "branches", "body", "heads")
    return {name: value for name, value in layer.items() if name not in nested}


def parameters_text(parameters: dict[str, Any]) -> str:
    """``filter_shape 3x3, W_std 1.5``; empty where a layer has none."""
    parts = []
    for name, value in parameters.items():
        if value in ("", []):  # Custom takes one of two
            continue
        shown = "none" if value is None else value
        if isinstance(value, list):
            whole = all(isinstance(one, int) for one in value)
            shown = shapes_text(value) if whole else f"of {len(value)} numbers or rows"
        parts.append(f"{name} {shown:.6g}" if isinstance(shown, float) else f"{name} {shown}")
    return ", ".join(parts)


def shapes_text(sizes: Sequence[Any]) -> str:
    """A shape, or those of a list of inputs."""
    if sizes and not isinstance(sizes[0], int):
        return " and ".join(map(shapes_text, sizes))
    return "x".join(str(size) for size in sizes) or "vector"
