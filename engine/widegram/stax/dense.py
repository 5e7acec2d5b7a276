"""Kernels that the dense reference computes: of images, and going on from a :class:`Kernel`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.network.layers import Layer
from widegram.network.masking import check_masked
from widegram.network.piece import Piece
from widegram.network.shapes import Ending
from widegram.stax.decays import tabulated
from widegram.stax.kernel import MASKS, Kernel, check_mask
from widegram.stax.patterns import Patterns, weights

if TYPE_CHECKING:
    from widegram.reference.pieces import Covariances

Array = NDArray[Any]
Shape = tuple[int | None, ...]


def from_inputs(
    piece: Piece, x1: Array, x2: Array | None, ntk: bool, diagonal: bool, accept: float | None,
    patterns: Patterns | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The arrays of a Kernel of layers on inputs, in the dtype of these; ``cov2`` and ``mask2``
    None without ``x2``. Where the piece has a mask, masked numbers are marked in inputs."""
    from widegram.reference.pieces import InputStart, propagate
    from widegram.reference.runs import images
    from widegram.stax.announcing import announce

    second = None if x2 is None else images(x2)
    start = InputStart(images(x1), second, piece.mask is not None)
    both = weights(piece, (start.n1, start.n2), patterns)
    found = propagate(piece, start, ntk, diagonal, _accepted(accept), both)
    announce(piece, start, ntk, _accepted(accept), both)
    dtype = np.result_type(x1, x1 if x2 is None else x2)
    return _in_dtype(found, dtype)


def go_on(
    layers: tuple[Layer, ...], kernel: Kernel, diagonal: bool | None, accept: float | None,
    patterns: Patterns | None = None,
) -> Kernel:  # fmt: skip
    """The Kernel behind more layers, from the arrays of one.

    Raises WidegramError for layers that need what it lacks, and where its arrays do not fit.
    """
    from widegram.reference.pieces import Covariances, KernelStart, propagate
    from widegram.stax.announcing import announce

    if diagonal is not None and bool(diagonal) != kernel.diagonal_spatial:
        raise WidegramError(
            f"kernel_fn: diagonal_spatial={diagonal} for a Kernel made with "
            f"diagonal_spatial={kernel.diagonal_spatial}; make it anew"
        )
    kernel = kernel.reverse() if kernel.is_reversed else kernel
    spatial = tuple(size or 0 for size in kernel.shape1[1:-1])
    inner = (*spatial, kernel.shape1[-1] or 0)
    layers = tabulated(layers, inner, raw=False, gaussian=kernel.is_gaussian)
    piece = Piece(inner, layers, raw=False, gaussian=kernel.is_gaussian)
    _check_arrays(kernel, spatial)
    masks = [mask for mask in (kernel.mask1, kernel.mask2) if mask is not None]
    if masks:
        check_masked(layers, [max(np.shape(mask)[-1] for mask in masks)], {})
    if kernel.diagonal_spatial:
        refuse_pools(piece)
    same = kernel.x1_is_x2 and kernel.nngp.shape[0] == kernel.nngp.shape[1]
    given = Covariances(
        kernel.nngp, kernel.ntk, kernel.cov1, None if same else kernel.cov2, kernel.mask1,
        kernel.mask2,
    )  # fmt: skip
    start = KernelStart(given, spatial, kernel.diagonal_spatial)
    ntk = kernel.ntk is not None
    both = weights(piece, (start.n1, start.n2), patterns)
    found = propagate(piece, start, ntk, kernel.diagonal_spatial, _accepted(accept), both)
    announce(piece, start, ntk, _accepted(accept), both)
    dtype = kernel.nngp.dtype
    arrays = _in_dtype(found, dtype)
    if same and kernel.cov2 is not None:
        arrays |= {"cov2": arrays["cov1"], "mask2": arrays["mask1"]}
    shapes = (ended(piece.end, kernel.shape1), ended(piece.end, kernel.shape2))
    diagonal = kept_diagonal(piece, kernel.diagonal_spatial)
    return described(piece.end, arrays, kernel.x1_is_x2, diagonal, shapes)


def kept_diagonal(piece: Piece, diagonal: bool) -> bool:
    """Whether a kernel behind ``piece`` is of equal pixels alone, as that before it: what was an
    image and is a vector has no more pairs of pixels."""
    return diagonal and len(piece.input_shape) - 1 == len(piece.end.shape)


def described(
    end: Ending, arrays: dict[str, Any], same: bool, diagonal: bool, shapes: tuple[Shape, Shape]
) -> Kernel:
    """A Kernel of ``arrays`` behind layers that end with ``end``, outputs of ``shapes``."""
    return Kernel(
        **arrays,
        x1_is_x2=same,
        is_gaussian=end.gaussian,
        is_reversed=False,
        is_input=False,
        diagonal_batch=True,
        diagonal_spatial=diagonal,
        shape1=shapes[0],
        shape2=shapes[1],
        batch_axis=0,
        channel_axis=len(end.shape) + 1,
    )


def ended(end: Ending, shape: Sequence[int | None]) -> Shape:
    """The shape of outputs for inputs of ``shape``, (n, ...)."""
    return (shape[0], *end.shape, end.channels)


def refuse_pools(piece: Piece) -> None:
    """Refuse layers that need pairs of pixels that ``diagonal_spatial`` leaves out."""
    coupling = piece.first_coupling()
    if coupling is not None:
        raise WidegramError(
            f"kernel_fn: diagonal_spatial=True leaves out the pairs of pixels that {coupling} needs"
        )


def _in_dtype(found: Covariances, dtype: Any) -> dict[str, Any]:
    """Arrays by field; masks as they are."""
    return {
        name: None if a is None else a.astype(a.dtype if name in MASKS else dtype)
        for name, a in vars(found).items()
    }


def _check_arrays(kernel: Kernel, spatial: tuple[int, ...]) -> None:
    """Refuse arrays that a user has put together wrongly."""
    each = 1 if kernel.diagonal_spatial else 2
    pixels = tuple(size for size in spatial for _ in range(each))
    n1, n2 = kernel.shape1[0], kernel.shape2[0]
    expected = {"nngp": (n1, n2, *pixels), "ntk": (n1, n2, *pixels)}
    expected |= {"cov1": (n1, *pixels), "cov2": (n2, *pixels)}
    for name, shape in expected.items():
        array = getattr(kernel, name)
        optional = name == "ntk" or (name == "cov2" and kernel.x1_is_x2)
        if array is None and optional:
            continue
        if array is None or np.shape(array) != shape:
            raise WidegramError(
                f"kernel_fn: {name} of the Kernel has shape {np.shape(array)}, its shape1 and "
                f"shape2 ask for {shape}"
            )
        if not np.isfinite(array).all():
            raise WidegramError(f"kernel_fn: {name} of the Kernel holds values that are not finite")
    check_mask(kernel.mask1, kernel.shape1, "kernel_fn: mask1 of the Kernel", each_channel=True)
    check_mask(kernel.mask2, kernel.shape2, "kernel_fn: mask2 of the Kernel", each_channel=True)


def _accepted(accept: float | None) -> float:
    from widegram.plan.precision import SERIES_ACCEPTED

    return SERIES_ACCEPTED if accept is None else accept
