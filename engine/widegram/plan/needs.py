"""Which displacements each value is needed at: one walk backwards through the graph.

A value on an (h, w) image has planes at displacements d = (i' - i, j' - j), |d| < (h, w). A need is
a boolean mask of shape (2h - 1, 2w - 1), centred on d = 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from widegram.plan.graph import Act, Affine, Gather, Node, Norm, Output, Pair, Reduce

Mask = NDArray[np.bool_]


def empty(shape: Pair) -> Mask:
    """No displacement of an image of this shape."""
    return np.zeros((2 * shape[0] - 1, 2 * shape[1] - 1), dtype=np.bool_)


def displacements(mask: Mask) -> NDArray[np.int64]:
    """The displacements of a mask, shape (n, 2), in row-major order."""
    centre = np.array([mask.shape[0] // 2, mask.shape[1] // 2])
    return np.argwhere(mask) - centre


def _mark(mask: Mask, d: NDArray[np.int64]) -> None:
    """Add those of the displacements d that exist."""
    centre = np.array([mask.shape[0] // 2, mask.shape[1] // 2])
    index = d + centre
    inside = np.all((index >= 0) & (index < mask.shape), axis=1)
    mask[index[inside, 0], index[inside, 1]] = True


def _wrapped(d: NDArray[np.int64], shape: Pair) -> NDArray[np.int64]:
    """d with every displacement that a torus identifies with it: d and d -+ (h, w) per axis."""
    shifts = [(i * shape[0], j * shape[1]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.concatenate([d + np.array(shift) for shift in shifts])


def _window_differences(window: Pair) -> NDArray[np.int64]:
    """All t' - t of taps t, t' of one window."""
    a, b = window
    return np.array([(i, j) for i in range(1 - a, a) for j in range(1 - b, b)])


def _into(node: Node, source: Node, need: Mask, out: Mask) -> None:
    """Add to ``out`` what ``node``, needed at ``need``, needs of its input ``source``."""
    operation = node.operation
    if isinstance(operation, Reduce):
        if operation.diagonal:
            out[source.shape[0] - 1, source.shape[1] - 1] = True
        else:
            out[:] = True
    elif isinstance(operation, Affine):
        d = displacements(need) * np.array(operation.strides)
        _mark(out, _wrapped(d, source.shape) if operation.circular else d)
    elif isinstance(operation, Gather):
        d = displacements(need) * np.array(operation.strides)
        d = (d[:, None, :] + _window_differences(operation.window)[None]).reshape(-1, 2)
        d = np.unique(d, axis=0)
        if operation.circular:
            # Windows may reach round the image more than once, each in its own direction.
            d = _wrapped(np.unique(d % np.array(source.shape), axis=0), source.shape)
        _mark(out, d)
    else:
        out |= need


def sources_of(node: Node, source: Node, need: Mask) -> Mask:
    """The displacements of ``source`` that ``node``, needed at ``need``, reads."""
    out = empty(source.shape)
    _into(node, source, need, out)
    return out


def needed(nodes: tuple[Node, ...], outputs: bool = True, variances: bool = False) -> list[Mask]:
    """The mask of every node.

    ``outputs``: the kernel is wanted at every Output. ``variances``: every activation and
    LayerNorm wants its input at d = 0 (an image with itself).
    """
    masks = [empty(node.shape) for node in nodes]
    for node, mask in zip(nodes, masks, strict=True):
        if outputs and isinstance(node.operation, Output):
            mask[:] = True
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if variances and isinstance(node.operation, Act | Norm):
            centre = (node.shape[0] - 1, node.shape[1] - 1)
            masks[node.inputs[0]][centre] = True
        if masks[i].any():
            for j in node.inputs:
                _into(node, nodes[j], masks[i], masks[j])
    return masks
