"""Linear maps between the pixels of images: from parameters to shapes and matrices.

Such a layer makes y = A x of the pixels x of an image, each channel alone, and so K -> A K A^T
between the pixels of two of them. Matrices have a row for each pixel of y and a column for each of
x, pixels in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_letters
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.network.layers import DimensionNumbers, DotGeneral, ImageResize, Padding
from widegram.validation import bounds
from widegram.validation.arrays import loaded

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Shape = tuple[int, ...]
# What jax.image.resize calls its methods, of which neural-tangents' kernels have two.
METHODS = {
    "nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear",
    "triangle": "linear",
}  # fmt: skip
NUMBERS = 4096
"""Numbers of a DotGeneral's array: a network holds them."""
_AXES = 8
# Weights of ImageResize are 0 but for roundings, or far above this.
_RELATIVE = 1e-9


class Transposed(NamedTuple):
    """A ConvTranspose along one axis: pixels are set apart, then a window of stride 1 follows.

    * ``out``: pixels behind it
    * ``first``: where pixel 0 is set; pixel i is set at ``first`` + stride i. Pixels outside of the
      image are left out, or on a torus go to its other side
    * ``lo``: how many pixels before its own the window reads; it keeps the shape
    """

    out: int
    first: int
    lo: int


def transposed(size: int, window: int, stride: int, mode: Padding) -> Transposed:
    """The geometry of jax.lax.conv_transpose along an axis, and of CIRCULAR, which neural-tangents
    adds: what VALID makes is laid round a torus as long as what SAME makes, its middle first."""
    out, longer = size * stride, max(window - stride, 0)
    if mode == "CIRCULAR":
        return Transposed(out, 0, window - 1 - longer // 2)
    lo = window - 1
    if mode == "VALID":
        out += longer
    elif stride < window:
        lo = -(-(window + stride - 2) // 2)
    # Of the padding in front, one part before the pixels, one part before the image.
    free = out - (size - 1) * stride - 1
    first = min(max(lo - (window - 1) // 2, 0), free)
    return Transposed(out, first, lo - first)


def stuffing(size: int, stride: int, geometry: Transposed) -> Array:
    """The matrix (out, size) that sets pixels apart."""
    made = np.zeros((geometry.out, size))
    made[geometry.first + stride * np.arange(size), np.arange(size)] = 1.0
    return made


def reached(size: int, window: int, stride: int, mode: Padding) -> Flags:
    """Which pixels (rows) behind a ConvTranspose each pixel before it reaches, along an axis;
    CIRCULAR as SAME, as neural-tangents has its masks."""
    made = transposed(size, window, stride, "SAME" if mode == "CIRCULAR" else mode)
    at = made.first + stride * np.arange(size) - np.arange(made.out)[:, None] + made.lo
    return np.asarray((at >= 0) & (at < window))


def reads(matrix: Array) -> Flags:
    """Where a matrix has numbers, but for those that rounding may have left beside others of a row.
    """
    sizes = np.abs(matrix)
    return np.asarray(sizes > _RELATIVE * sizes.max(axis=1, keepdims=True))


def resizing(size: int, out: int, method: str, antialias: bool) -> Array:
    """The matrix (out, size) of jax.image.resize along one axis, ``method`` of :data:`METHODS`.

    Pixels are intervals of their image; a linear one is weighed by a triangle about the centre of
    the pixel that is made, which is as wide as that pixel where an image shrinks and is to be
    ``antialias``-ed; the weights inside of the image have the sum 1.
    """
    centres = (np.arange(out) + 0.5) * (size / out)
    if METHODS[method] == "nearest":
        made = np.zeros((out, size))
        made[np.arange(out), np.floor(centres).astype(np.intp)] = 1.0
        return made
    wide = max(size / out, 1.0) if antialias else 1.0
    distances = np.abs(centres[:, None] - 0.5 - np.arange(size)) / wide
    weights = np.maximum(1.0 - distances, 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def resized(layer: ImageResize, shape: Shape, where: str) -> Shape:
    """The spatial shape behind an ImageResize. Raises WidegramError where its own does not fit."""
    batch, *spatial, channels = layer.shape
    if len(spatial) != len(shape):
        raise WidegramError(
            f"{where}: shape {list(layer.shape)} is for {len(spatial)} image axes between the "
            f"batch and the channels, its input has {len(shape)}"
        )
    for name, size in (("batch", batch), ("channels", channels)):
        if size != -1:
            raise WidegramError(
                f"{where}: shape {list(layer.shape)} resizes the {name}, which a kernel keeps; "
                "write -1 there"
            )
    return tuple(old if new == -1 else new for old, new in zip(shape, spatial, strict=True))


class _Dot(NamedTuple):
    """A DotGeneral on an image: the array, its axes and those of the image that are contracted or
    go side by side (``batch``), and whether the array stands on the left."""

    other: Array
    contracted: tuple[Shape, Shape]
    batch: tuple[Shape, Shape]
    left: bool

    @property
    def free(self) -> Shape:
        """The array's axes that the output gets."""
        return tuple(
            n for n in range(self.other.ndim) if n not in (*self.contracted[0], *self.batch[0])
        )

    def kept(self, axes: int) -> Shape:
        """The image's axes (0 rows), of so many, that are neither contracted nor side by side."""
        return tuple(n for n in range(axes) if n not in (*self.contracted[1], *self.batch[1]))


def scalar(layer: DotGeneral) -> float | None:
    """The number that a DotGeneral multiplies by, 1 without any array; None where it has axes."""
    value = layer.rhs if layer.lhs is None else layer.lhs
    if value is None:
        return 1.0
    return None if isinstance(value, tuple) else value


def dotted(layer: DotGeneral, shape: Shape, where: str) -> Shape:
    """The spatial shape behind a DotGeneral, in the order of jax.lax.dot_general's axes, the batch
    and channels left out. Raises WidegramError where the array does not fit."""
    dot = _dot(layer, len(shape), where)
    for own, image in (dot.contracted, dot.batch):
        for a, b in zip(own, image, strict=True):
            if dot.other.shape[a] != shape[b]:
                raise WidegramError(
                    f"{where}: axis {a} of its array has {dot.other.shape[a]} entries, axis "
                    f"{b + 1} of its input {shape[b]}"
                )
    side = [shape[b] for b in dot.batch[1]]
    kept = [shape[n] for n in dot.kept(len(shape))]
    free = [dot.other.shape[n] for n in dot.free]
    made = (*side, *(free + kept if dot.left else kept + free))
    if len(made) > len(shape):
        raise WidegramError(
            f"{where}: its output has {len(made)} axes of pixels, its input {len(shape)}; it may "
            "not have more"
        )
    if math.prod(made) * math.prod(shape) > bounds.MATRIX:
        raise WidegramError(
            f"{where}: maps {math.prod(shape):,} pixels to {math.prod(made):,}; at most "
            f"{bounds.MATRIX:,} pairs of them are taken"
        )
    return made


def dotting(layer: DotGeneral, shape: Shape, where: str) -> Array:
    """The matrix of a DotGeneral on an image of that spatial shape."""
    dot = _dot(layer, len(shape), where)
    names = iter(ascii_letters)
    image = [next(names) for _ in shape]
    own = [next(names) for _ in range(dot.other.ndim)]
    for mine, its in (dot.contracted, dot.batch):
        for a, b in zip(mine, its, strict=True):
            own[a] = image[b]
    basis = next(names)
    kept, free = [image[n] for n in dot.kept(len(shape))], [own[n] for n in dot.free]
    made = [*(image[b] for b in dot.batch[1]), *(free + kept if dot.left else kept + free)]
    pixels = math.prod(shape)
    terms = f"{basis}{''.join(image)},{''.join(own)}->{basis}{''.join(made)}"
    x = np.eye(pixels).reshape(pixels, *shape)
    return np.ascontiguousarray(np.einsum(terms, x, dot.other).reshape(pixels, -1).T)


def _dot(layer: DotGeneral, axes: int, where: str) -> _Dot:
    """A DotGeneral on images with so many axes, its numbers checked."""
    left = layer.rhs is None
    other = np.array(layer.lhs if left else layer.rhs, dtype=np.float64)
    (first, second), (side, beside) = layer.dimension_numbers
    mine, its = (first, second) if left else (second, first)
    own_side, image_side = (side, beside) if left else (beside, side)
    for what, numbers, size in (
        ("array", (*mine, *own_side), other.ndim),
        ("input", (*its, *image_side), axes + 2),
    ):
        if len(set(numbers)) < len(numbers) or not all(0 <= n < size for n in numbers):
            raise WidegramError(
                f"{where}: dimension_numbers name the axes {list(numbers)} of its {what}, which "
                f"has {size}; name each at most once, from 0 on"
            )
    for n in (*its, *image_side):
        if n in (0, axes + 1):
            raise WidegramError(
                f"{where}: dimension_numbers name axis {n} of its input, the "
                f"{'channels' if n else 'batch'}; they may name those of its pixels alone"
            )
    pixels = tuple(n - 1 for n in its), tuple(n - 1 for n in image_side)
    return _Dot(other, (mine, pixels[0]), (own_side, pixels[1]), left)


# values of a specification -----------------------------------------------------------------------


def resize_shape(value: Any) -> Shape:
    """A size for each axis of the batch array, -1 where it stays."""
    ok = isinstance(value, (list, tuple)) and all(
        isinstance(v, int) and not isinstance(v, bool) and (v == -1 or v >= 1) for v in value
    )
    if not ok or not 2 <= len(value) <= _AXES:
        raise ValueError(
            "must be a list of sizes >= 1, or -1 for axes that stay, with one for the batch and "
            f"one for the channels, found {shown(value)}"
        )
    if max(value) > bounds.PIXELS:
        raise ValueError(f"has a size above {bounds.PIXELS:,}, found {shown(value)}")
    return tuple(value)


def resize_method(value: Any) -> str:
    """The name of a method."""
    if not isinstance(value, str) or value.lower() not in METHODS:
        raise ValueError(
            f"must be one of {', '.join(METHODS)}, found {shown(value)}; others have negative "
            "weights, which neural-tangents' kernels do not take"
        )
    return value.lower()


def tensor(value: Any) -> Any:
    """A number, or nested tuples of numbers; of lists, arrays or a .npy file."""
    if value is None:
        return None
    if isinstance(value, str):
        value = _read(value)
    try:
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"must be a number, nested lists of numbers or a .npy file, found {shown(value)}"
        ) from None
    if isinstance(value, bool) or found.ndim > _AXES or not 1 <= found.size <= NUMBERS:
        raise ValueError(
            f"must have 1 to {NUMBERS:,} numbers on at most {_AXES} axes, found "
            + (f"the shape {found.shape}" if found.ndim else shown(value))
        )
    if not (np.abs(found) <= bounds.MAGNITUDE).all():
        raise ValueError("has a number that is not finite, or too large")
    return _tuples(found.tolist())


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read(name: str) -> Any:
    found = loaded(name)
    if not isinstance(found, np.ndarray) or found.size > NUMBERS or found.dtype.kind not in "biuf":
        shape = getattr(found, "shape", "an archive")
        raise ValueError(
            f"{shown(name)} must hold an array of at most {NUMBERS:,} numbers, found {shape}"
        )
    return np.array(found, dtype=np.float64)


def dimension_numbers(value: Any) -> DimensionNumbers:
    """((contracted of lhs, of rhs), (side by side of lhs, of rhs)): tuples of axes."""
    try:
        pairs = tuple(tuple(_axes(part) for part in pair) for pair in value)
        (a, b), (c, d) = pairs
    except (TypeError, ValueError):
        raise ValueError(
            "must be ((contracted axes of lhs, of rhs), (batch axes of lhs, of rhs)), lists of "
            f"integers, found {shown(value)}"
        ) from None
    if len(a) != len(b) or len(c) != len(d):
        raise ValueError(f"must name as many axes of lhs as of rhs, found {shown(value)}")
    return (a, b), (c, d)


def _axes(value: Sequence[Any]) -> Shape:
    if isinstance(value, str) or not all(
        hasattr(v, "__index__") and not isinstance(v, bool) for v in value
    ):
        raise ValueError
    return tuple(int(v) for v in value)


def implementation(value: Any) -> str:
    """How the patterns of an Aggregate are written."""
    if not isinstance(value, str) or value.upper() not in ("DENSE", "SPARSE"):
        raise ValueError(f"must be DENSE or SPARSE, found {shown(value)}")
    return value.upper()


def one_array(given: dict[str, Any]) -> None:
    """Refuse both of lhs and rhs, and axes where there is no array."""
    if given["lhs"] is not None and given["rhs"] is not None:
        raise ValueError("takes lhs or rhs, not both: the other one is its input")
    if given["lhs"] is None and given["rhs"] is None and any(map(any, given["dimension_numbers"])):
        raise ValueError("has dimension_numbers, but neither lhs nor rhs")
