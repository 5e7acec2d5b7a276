"""Networks as data: specification, validation with shapes, canonical form, presets."""

from widegram.network.geometry import padding
from widegram.network.layers import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    LayerNorm,
    Pool,
    Repeat,
    Residual,
)
from widegram.network.load import NetworkLike, load_network
from widegram.network.model import Network
from widegram.network.presets import PRESETS, build, preset

__all__ = [
    "PRESETS",
    "Activation",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalPool",
    "Layer",
    "LayerNorm",
    "Network",
    "NetworkLike",
    "Pool",
    "Repeat",
    "Residual",
    "build",
    "load_network",
    "padding",
    "preset",
]
