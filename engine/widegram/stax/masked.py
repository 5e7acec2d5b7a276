"""Masked inputs of kernel_fn, and the masks that neural-tangents' Kernel has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.data import open_source
from widegram.data.masked import equals, is_masked
from widegram.data.several import open_inputs
from widegram.network import Network
from widegram.network.layers import FanIn, Layer
from widegram.network.masking import Mask, behind_all, constant, joined_ends, parse_mask

Array = NDArray[Any]


def marked(x: Array, mask: Mask) -> Array:
    """Inputs, float32 or float64, in which masked numbers are marked
    (:mod:`widegram.data.masked`)."""
    assert mask is not None
    return open_source(x).masked(constant(mask)).read(0, len(x))


def widened(x: Array, given: Any) -> Array:
    """An input as float64, whose numbers equal a mask constant where they did in its own dtype."""
    mask = parse_mask(given)
    assert mask is not None
    value = constant(mask)
    return np.where(equals(x, value), value, x.astype(np.float64))


def marked_list(x: Sequence[Array], network: Network) -> list[Array]:
    """A list of inputs for a network that has masks, as :func:`marked`."""
    assert isinstance(network.mask, tuple)
    each = zip(x, network.mask, strict=True)
    return [one + one.dtype.type(0) if mask is None else marked(one, mask) for one, mask in each]


def source(network: Network, x: Array | Sequence[Array]) -> Any:
    """Inputs, or a list of them, for the engine; they are marked where the network has a mask."""
    return x if network.mask is None else open_inputs(x).as_marked()


def masks(layers: tuple[Layer, ...], x: Array | Sequence[Array]) -> NDArray[np.bool_]:
    """The mask (n, c) of outputs, which are vectors, for marked inputs, or lists of them."""
    if isinstance(x, np.ndarray):
        found, _, _ = behind_all(layers, *_begin(x))
        return found.reshape(len(x), -1)
    first = layers[0]
    assert isinstance(first, FanIn)
    ends = [behind_all(b, *_begin(one)) for b, one in zip(first.branches, x, strict=True)]
    found, _, _ = behind_all(layers[1:], *joined_ends(first, ends))
    return found.reshape(len(found), -1)


def _begin(x: Array) -> tuple[NDArray[np.bool_], tuple[int, ...], int]:
    """Which numbers of inputs are masked, as of images, and their axes and channels."""
    spatial = x.ndim - 2
    first = is_masked(x).reshape(len(x), *[1] * (2 - spatial), *x.shape[1:])
    return first, tuple(range(2))[2 - spatial :], x.shape[-1]
