"""Layer specifications that the tests of networks are written with."""

from __future__ import annotations

from widegram.network import load_network

CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}
RELU, DENSE, GAP = {"layer": "Relu"}, {"layer": "Dense"}, {"layer": "GlobalAvgPool"}
FLATTEN, DROPOUT = {"layer": "Flatten"}, {"layer": "Dropout", "rate": 0.5}
NORM = {"layer": "LayerNorm"}
POOL = {"layer": "AvgPool", "window_shape": [2, 2]}
VECTOR, SEQUENCE, IMAGE = (8,), (7, 2), (6, 5, 3)


def load(shape, *layers):
    return load_network({"input_shape": list(shape), "layers": list(layers)})


def residual(*branch, shortcut=()):
    return {"layer": "Residual", "branch": list(branch), "shortcut": list(shortcut)}
