"""Products of a Kernel's outputs with arrays: what ``Kernel.dot_general`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.validation.arrays import finite

if TYPE_CHECKING:
    from widegram.stax.kernel import Kernel

Array = NDArray[Any]
# Axes of an einsum: of the batches; of axis n of the outputs and of the array, of x1's and of x2's.
_BATCH, _OUTPUTS, _OTHER = 0, 2, 20
_MOST = 6


def dot_general(
    kernel: Kernel, other1: Any, other2: Any, is_lhs: bool, dimension_numbers: Any
) -> Kernel:
    """The Kernel of ``jax.lax.dot_general`` of outputs and arrays of one shape, ``other1`` of x1's
    and ``other2`` of x2's, which stand on the left where ``is_lhs``.

    Raises WidegramError where one of two arrays is missing, axes do not fit, or pairs of outputs
    are needed that the Kernel has not.
    """
    if other1 is None and other2 is None:
        return kernel
    first, second = (_array(other, f"other{n}") for n, other in enumerate((other1, other2), 1))
    if first.ndim != second.ndim:
        raise _refusal(f"other1 has shape {first.shape}, other2 {second.shape}; give as many axes")
    kernel = kernel.reverse() if kernel.is_reversed else kernel
    dot = _DotAxes.of(kernel, first.ndim, is_lhs, dimension_numbers)
    for other, shape, name in ((first, kernel.shape1, "other1"), (second, kernel.shape2, "other2")):
        dot.check(other, shape, name)
    same = kernel.cov2 is None
    alike = first.shape == second.shape and np.array_equal(first, second)
    own = kernel.cov1 if same else kernel.cov2
    shapes = (dot.shape(kernel.shape1, first), dot.shape(kernel.shape2, second))
    batch, channel = (dot.made.index(axis) for axis in (kernel.batch_axis, kernel.channel_axis))
    mask1, mask2 = kernel.mask1, kernel.mask1 if same else kernel.mask2
    return kernel.replace(
        nngp=dot.pairs(first, kernel.nngp, second),
        ntk=None if kernel.ntk is None else dot.pairs(first, kernel.ntk, second),
        cov1=dot.own(first, kernel.cov1),
        cov2=None if own is None or (same and alike) else dot.own(second, own),
        x1_is_x2=kernel.x1_is_x2 and alike,
        shape1=shapes[0], shape2=shapes[1], batch_axis=batch, channel_axis=channel,
        mask1=None if mask1 is None else dot.mask(mask1, first),
        mask2=None if mask2 is None or (same and alike) else dot.mask(mask2, second),
    )  # fmt: skip


@dataclass(frozen=True)
class _DotAxes:
    """The axes of a product of outputs and an array.

    * ``contracted``, ``side``: pairs of axes, of outputs and of the array, that are summed over,
      and that go side by side
    * ``made``: the axes of the product: those of outputs by their number n, those of the array by
      -1 - n
    * ``batch``, ``channel``, ``axes``: of outputs: which axis those are, and how many there are
    * ``diagonal``: whether pairs of equal pixels alone are kept
    """

    contracted: tuple[tuple[int, int], ...]
    side: tuple[tuple[int, int], ...]
    made: tuple[int, ...]
    batch: int
    channel: int
    axes: int
    diagonal: bool

    @classmethod
    def of(cls, kernel: Kernel, other: int, is_lhs: bool, numbers: Any) -> _DotAxes:
        """The axes that ``dimension_numbers`` name, for an array of ``other`` axes; raises
        WidegramError for what they are not."""
        axes = len(kernel.shape1)
        try:
            pairs = [[tuple(int(n) for n in part) for part in both] for both in numbers]
            contracted, side = (
                tuple(
                    (_axis(image, axes), _axis(own, other))
                    for own, image in zip(*(both if is_lhs else both[::-1]), strict=True)
                )
                for both in pairs
            )
        except (TypeError, ValueError):
            raise _refusal(
                f"dimension_numbers {shown(numbers)} are not ((contracted axes), (axes side by "
                "side)), each a pair of as many of the left and of the right factor"
            ) from None
        named = [*contracted, *side]
        for of in zip(*named, strict=True):
            if len(set(of)) < len(of):
                raise _refusal(f"dimension_numbers {shown(numbers)} name an axis twice")
        batch, channel = kernel.batch_axis, kernel.channel_axis
        if channel in dict(named) or batch in dict(contracted):
            raise _refusal(
                "channels take no part in it, and the batch goes side by side or stays; found "
                f"dimension_numbers {shown(numbers)}"
            )
        if kernel.diagonal_spatial and contracted:
            raise _refusal("diagonal_spatial=True leaves out the pairs of pixels that it sums")
        kept = [n for n in range(axes) if n not in dict(named)]
        taken = {own for _, own in named}
        free = [-1 - n for n in range(other) if n not in taken]
        made = (*(image for image, _ in side), *(free + kept if is_lhs else kept + free))
        return cls(contracted, side, made, batch, channel, axes, kernel.diagonal_spatial)

    def check(self, other: Array, shape: Sequence[int | None], name: str) -> None:
        """Refuse an array whose axes do not fit those of outputs."""
        for image, own in (*self.contracted, *self.side):
            if other.shape[own] != shape[image]:
                raise _refusal(
                    f"axis {own} of {name}, of {other.shape[own]}, meets axis {image} of the "
                    f"outputs, of {shape[image]}"
                )

    def shape(self, shape: Sequence[int | None], other: Array) -> tuple[int | None, ...]:
        """The shape of the product."""
        return tuple(shape[n] if n >= 0 else other.shape[-1 - n] for n in self.made)

    def _image(self, axis: int, second: bool, lead: int) -> int:
        """The name of an axis of outputs."""
        if axis == self.batch:
            return _BATCH + (second and lead == 2)
        return _OUTPUTS + 2 * axis + (second and not self.diagonal)

    def _other(self, other: Array, second: bool, lead: int) -> list[int]:
        """The names of the axes of an array."""
        known = {own: image for image, own in (*self.contracted, *self.side)}
        return [
            self._image(known[n], second, lead) if n in known
            else _OTHER + 2 * n + (second and not self.diagonal)
            for n in range(other.ndim)
        ]  # fmt: skip

    def _both(self, axes: Sequence[int], lead: int) -> list[int]:
        """The names of axes of the arrays of a Kernel, without those of the batch."""
        found = []
        for axis in axes:
            pair = [
                self._image(axis, second, lead) if axis >= 0
                else _OTHER + 2 * (-1 - axis) + (second and not self.diagonal)
                for second in (False, True)
            ]  # fmt: skip
            found += pair[:1] if self.diagonal else pair
        return found

    def _product(self, first: Array, a: Array, second: Array, lead: int) -> Array:
        batch = list(range(lead))
        skipped = self.batch, self.channel
        before = [n for n in range(self.axes) if n not in skipped]
        after = [n for n in self.made if n not in skipped]
        made = np.einsum(
            first, self._other(first, False, lead), a, batch + self._both(before, lead),
            second, self._other(second, True, lead), batch + self._both(after, lead),
            optimize=True,
        )  # fmt: skip
        return np.asarray(made, dtype=a.dtype)

    def pairs(self, first: Array, a: Array, second: Array) -> Array:
        """Covariances of products of x1 and x2."""
        return self._product(first, a, second, 2)

    def own(self, other: Array, a: Array) -> Array:
        """Covariances of each product with itself."""
        return self._product(other, a, other, 1)

    def mask(self, mask: Array, other: Array) -> Array:
        """What is masked of products: all that makes it is, or counts nothing."""
        names = [_OUTPUTS + n for n in range(self.axes)]
        known = {own: image for image, own in (*self.contracted, *self.side)}
        others = [
            _OUTPUTS + known[n] if n in known else _OTHER + n for n in range(other.ndim)
        ]
        made = [_OUTPUTS + n if n >= 0 else _OTHER - 1 - n for n in self.made]
        seen = np.einsum((~mask).astype(float), names, (other != 0).astype(float), others, made)
        return np.asarray(seen == 0)


def _array(other: Any, name: str) -> Array:
    if other is None:
        raise _refusal(f"{name} is missing; give two arrays, or none")
    found = finite(np.asarray(other), f"Kernel.dot_general: {name}")
    if found.ndim > _MOST:
        raise _refusal(f"{name} has shape {found.shape}; it may have at most {_MOST} axes")
    return found


def _axis(n: int, axes: int) -> int:
    if not -axes <= n < axes:
        raise ValueError
    return n % axes


def _refusal(message: str) -> WidegramError:
    return WidegramError(f"Kernel.dot_general: {message}")
