"""Masked inputs of kernel_fn, and the masks that neural-tangents' Kernel has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data import Source, open_source
from widegram.data.masked import is_masked
from widegram.network import Network
from widegram.network.layers import Layer
from widegram.network.masking import Mask, behind_all, constant

Array = NDArray[Any]


def marked(x: Array, mask: Mask) -> Array:
    """Inputs, float32 or float64, in which masked numbers are marked
    (:mod:`widegram.data.masked`)."""
    assert mask is not None
    return open_source(x).masked(constant(mask)).read(0, len(x))


def source(network: Network, x: Array) -> Array | Source:
    """Inputs for the engine; they are marked where the network has a mask."""
    return x if network.mask is None else open_source(x).as_marked()


def masks(layers: tuple[Layer, ...], x: Array) -> NDArray[np.bool_]:
    """The mask (n, c) of outputs, which are vectors, for marked inputs."""
    spatial = x.ndim - 2
    first = is_masked(x).reshape(len(x), *[1] * (2 - spatial), *x.shape[1:])
    found, _, _ = behind_all(layers, first, tuple(range(2))[2 - spatial :], x.shape[-1])
    return found.reshape(len(x), -1)
