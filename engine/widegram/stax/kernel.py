"""``Kernel``: what a kernel_fn returns, and goes on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.records import Record
from widegram.stax.kernel_dot import dot_general
from widegram.validation.arrays import number
from widegram.validation.choices import KERNELS

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Kernel(Record):
    """Covariances of the outputs of two batches, with neural-tangents' fields.

    * ``nngp``, ``ntk``: (n1, n2) of vectors; of images (n1, n2, H, H, W, W), or (n1, n2, H, W)
      with ``diagonal_spatial``; ``ntk`` None where it was not asked for
    * ``cov1``, ``cov2``: K of each output with itself, (n1,) or (n1, H, H, W, W) or (n1, H, W);
      ``cov2`` None where x2 was not given
    * ``x1_is_x2``: whether both batches are the same
    * ``is_gaussian``: whether outputs are Gaussian, as behind Dense and Conv
    * ``is_reversed``: whether the axes are (W, W, H, H), which :meth:`reverse` alone makes
    * ``is_input``, ``diagonal_batch``: False, and True
    * ``diagonal_spatial``: whether pairs of equal pixels alone are kept
    * ``shape1``, ``shape2``: of the outputs of a network with the widths that its layers have,
      (n, channels) or (n, H, W, channels); None for channels where a layer was given no width
    * ``batch_axis``, ``channel_axis``: axes of these shapes
    * ``mask1``, ``mask2``: boolean, True where outputs are masked, (n, 1) or (n, H, W, 1), of
      inputs themselves and behind Flatten (n, ..., channels); None where kernel_fn was given no
      ``mask_constant``, ``mask2`` also where x2 was not given
    """

    nngp: Array
    ntk: Array | None
    cov1: Array
    cov2: Array | None
    x1_is_x2: bool
    is_gaussian: bool
    is_reversed: bool
    is_input: bool
    diagonal_batch: bool
    diagonal_spatial: bool
    shape1: tuple[int | None, ...]
    shape2: tuple[int | None, ...]
    batch_axis: int
    channel_axis: int
    mask1: Array | None = None
    mask2: Array | None = None

    def slice(self, n1_slice: slice, n2_slice: slice) -> Kernel:
        """The kernel of some rows of x1 and some of x2.

        Raises WidegramError for anything but slices.
        """
        for part in (n1_slice, n2_slice):
            if not isinstance(part, slice):
                raise WidegramError(f"Kernel.slice: takes two slices, found {shown(part)}")
        self._require_order("slice")
        n1, n2 = self.nngp.shape[:2]
        rows, columns = range(n1)[n1_slice], range(n2)[n2_slice]
        cov1, cov2 = self.cov1[n1_slice], (self.cov1 if self.cov2 is None else self.cov2)[n2_slice]
        mask1, mask2 = self.mask1, self.mask1 if self.cov2 is None else self.mask2
        return self.replace(
            nngp=self.nngp[n1_slice, n2_slice],
            ntk=None if self.ntk is None else self.ntk[n1_slice, n2_slice],
            cov1=cov1,
            cov2=cov2,
            x1_is_x2=self.x1_is_x2 and rows == columns,
            shape1=(len(rows), *self.shape1[1:]),
            shape2=(len(columns), *self.shape2[1:]),
            mask1=None if mask1 is None else mask1[n1_slice],
            mask2=None if mask2 is None else mask2[n2_slice],
        )

    def reverse(self) -> Kernel:
        """The kernel with its spatial axes in reverse order: (n1, n2, W, W, H, H)."""
        order = range(len(self.shape1) - 2)[::-1]
        return self._permuted(order).replace(is_reversed=not self.is_reversed)

    def transpose(self, axes: Sequence[int] | None = None) -> Kernel:
        """The kernel of outputs whose spatial axes are permuted, as by ``numpy.transpose``; None
        leaves them as they are.

        Raises WidegramError for what is no order of them.
        """
        self._require_order("transpose")
        spatial = len(self.shape1) - 2
        order = tuple(range(spatial)) if axes is None else tuple(axes)
        if sorted(order) != list(range(spatial)):
            raise WidegramError(
                f"Kernel.transpose: axes={shown(axes)} is no order of the {spatial} spatial axes"
            )
        shapes = {
            name: (shape[0], *(shape[1 + axis] for axis in order), shape[-1])
            for name, shape in (("shape1", self.shape1), ("shape2", self.shape2))
        }
        masks = {
            name: None if mask is None else mask.transpose(0, *(1 + axis for axis in order), -1)
            for name, mask in (("mask1", self.mask1), ("mask2", self.mask2))
        }
        return self._permuted(order).replace(**shapes, **masks)

    def mask(self, mask1: Any, mask2: Any) -> Kernel:
        """The kernel with zeros where an output of either batch is masked: ``mask1`` and ``mask2``
        are boolean, (n, 1) or (n, H, W, 1); None masks nothing, ``mask2`` as ``mask1`` where x2 was
        not given."""
        self._require_order("mask")
        first = check_mask(mask1, self.shape1, "Kernel.mask: mask1")
        second = check_mask(mask2, self.shape2, "Kernel.mask: mask2")
        rows, columns = first, first if self.cov2 is None else second
        hidden = {
            "nngp": self._hidden(rows, columns, 2), "ntk": self._hidden(rows, columns, 2),
            "cov1": self._hidden(rows, rows, 1), "cov2": self._hidden(second, second, 1),
        }  # fmt: skip
        arrays = {
            name: a if a is None else np.where(hidden[name], a.dtype.type(0), a)
            for name, a in ((name, getattr(self, name)) for name in hidden)
        }
        return self.replace(**arrays, mask1=first, mask2=second)

    def _hidden(self, first: Array | None, second: Array | None, lead: int) -> Array:
        """Where a pair of outputs has one that is masked: for an array with ``lead`` axes of the
        batch in front."""
        spatial = len(self.shape1) - 2
        found = np.zeros((1,) * (lead + spatial * (1 if self.diagonal_spatial else 2)), np.bool_)
        for side, mask in enumerate((first, second)):
            if mask is None:
                continue
            mask = mask[..., 0]
            if self.is_reversed:
                mask = mask.transpose(0, *range(spatial, 0, -1))
            n, *sides = mask.shape
            batch = ((n,), (n, 1), (1, n))[lead - 1 + side * (lead - 1)]
            pixels: list[int] = []
            for size in sides:
                pixels += [size] if self.diagonal_spatial else [(size, 1), (1, size)][side]
            found = found | mask.reshape(*batch, *pixels)
        return found

    def dot_general(
        self, other1: Any, other2: Any, is_lhs: bool, dimension_numbers: Any
    ) -> Kernel:
        """The kernel of ``jax.lax.dot_general`` of the outputs with arrays, ``other1`` of x1's and
        ``other2`` of x2's, on the left or the right: of ``dimension_numbers``, ((contracted axes),
        (axes side by side)), each a pair of those of the left and of the right factor."""
        return dot_general(self, other1, other2, is_lhs, dimension_numbers)

    def __mul__(self, other: float) -> Kernel:
        variance = number(other, "Kernel: a factor", -np.inf) ** 2
        return self._with(lambda a: variance * a)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Kernel:
        variance = number(other, "Kernel: a divisor", -np.inf) ** 2
        if variance == 0.0:
            raise WidegramError("Kernel: is divided by 0")
        return self._with(lambda a: a / variance)

    def __add__(self, other: float) -> Kernel:
        variance = number(other, "Kernel: a summand", -np.inf) ** 2
        return self._with(lambda a: a + variance).replace(ntk=self.ntk)

    __sub__ = __add__

    def __neg__(self) -> Kernel:
        return self

    __pos__ = __neg__

    def __getitem__(self, idx: Any) -> Kernel:
        """The kernel of ``outputs[idx]``: slices of any axis but the channels, which stay whole,
        and integers for spatial axes, which they remove."""
        parts = self._parts(idx)
        batch, spatial = parts[0], parts[1:-1]
        if self.is_reversed:
            spatial = spatial[::-1]
        pixels = tuple(part for part in spatial for _ in range(1 if self.diagonal_spatial else 2))
        pair, one = (batch, batch, *pixels), (batch, *pixels)
        rows, columns = (range(n)[batch] for n in self.nngp.shape[:2])
        shapes = {}
        for name, shape, n in (("1", self.shape1, len(rows)), ("2", self.shape2, len(columns))):
            kept = zip(shape[1:-1], parts[1:-1], strict=True)
            sides = [len(range(side)[p]) for side, p in kept if isinstance(p, slice) and side]
            shapes[f"shape{name}"] = (n, *sides, shape[-1])
        return self.replace(
            nngp=self.nngp[pair],
            ntk=None if self.ntk is None else self.ntk[pair],
            cov1=self.cov1[one],
            cov2=None if self.cov2 is None else self.cov2[one],
            channel_axis=len(shapes["shape1"]) - 1,
            mask1=None if self.mask1 is None else self.mask1[parts],
            mask2=None if self.mask2 is None else self.mask2[parts],
            **shapes,
        )

    def _parts(self, idx: Any) -> tuple[Any, ...]:
        """A slice or integer for each axis of the outputs."""
        self._require_order("__getitem__")
        given = list(idx) if isinstance(idx, tuple) else [idx]
        ndim = len(self.shape1)
        at = next((i for i, part in enumerate(given) if part is Ellipsis), len(given))
        filled = [slice(None)] * (ndim - len(given) + (at < len(given)))
        parts = (*given[:at], *filled, *given[at + 1 :])
        whole = parts[-1:] == (slice(None),)
        known = all(isinstance(part, (slice, int, np.integer)) for part in parts)
        if len(parts) != ndim or not (whole and known and isinstance(parts[0], slice)):
            raise WidegramError(
                f"Kernel[{shown(idx)}]: give a slice for the batch, slices or integers for spatial "
                "axes, and leave the channels whole"
            )
        for size, part in zip(self.shape1, parts, strict=True):
            if not isinstance(part, slice) and size and not -size <= part < size:
                raise WidegramError(f"Kernel[{shown(idx)}]: {part} is outside an axis of {size}")
        return parts

    def _require_order(self, method: str) -> None:
        """Refuse outputs that have not the batch first and channels last."""
        if (self.batch_axis, self.channel_axis) != (0, len(self.shape1) - 1):
            raise WidegramError(
                f"Kernel.{method}: its outputs have the batch on axis {self.batch_axis} and "
                f"channels on axis {self.channel_axis}; make a Kernel with the batch first and "
                "channels last"
            )

    def _permuted(self, order: Sequence[int]) -> Kernel:
        """The spatial axes of all arrays in another order."""
        each = 1 if self.diagonal_spatial else 2

        def permuted(a: Array) -> Array:
            lead = a.ndim - each * len(order)
            return a.transpose(
                *range(lead), *(lead + each * axis + side for axis in order for side in range(each))
            )

        return self._with(permuted)

    def _with(self, function: Callable[[Array], Array]) -> Kernel:
        """``function`` of each array that is there."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        return self.replace(**{n: None if a is None else function(a) for n, a in arrays.items()})


def check_mask(
    mask: Any, shape: tuple[int | None, ...], name: str, each_channel: bool = False
) -> Array | None:
    """A mask of outputs of that shape, with one channel, or several where ``each_channel``.

    Raises :class:`WidegramError` for one of another shape or dtype.
    """
    if mask is None:
        return None
    found = np.asarray(mask)
    if found.dtype != np.bool_:
        raise WidegramError(f"{name} holds {found.dtype}; it must be boolean, True where masked")
    channels = found.shape[-1:] if each_channel else (1,)
    if found.shape != (*shape[:-1], *channels) or not channels:
        asked = ", ".join(map(str, (*shape[:-1], 1)))
        raise WidegramError(f"{name} has shape {found.shape}; it must be ({asked})")
    return found


ARRAYS = (*KERNELS, "cov1", "cov2")
MASKS = ("mask1", "mask2")
FIELDS = tuple(field.name for field in fields(Kernel))
