"""Kernels of networks of several inputs: ``parallel`` on a list of arrays, then what joins them.

The engine computes those that end with vectors. Of others, and of Kernels, each branch has a kernel
of its own input; these meet as arrays, from which the layers behind go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.network import layers as kinds
from widegram.network.joined import joined, spatial_axis
from widegram.network.layers import Layer
from widegram.network.masking import Masked, joined_masks
from widegram.network.state import State
from widegram.stax.axes import is_placed
from widegram.stax.branches import FanInItem, Item, ParallelItem, close, is_identity
from widegram.stax.decays import have_functions
from widegram.stax.kernel import ARRAYS, Kernel
from widegram.validation.choices import KERNELS

Array = NDArray[Any]
# The kernel of a branch, given its items, its inputs or Kernel, and its mask constant.
Branch = Callable[[tuple[Item, ...], Any, Any, Any], Kernel]


def acts_on_several(items: Sequence[Item]) -> bool:
    """Whether layers begin with branches of several inputs."""
    return bool(items) and isinstance(items[0], ParallelItem)


def kernel_of_several(
    items: Sequence[Item], x1: Any, x2: Any, mask: Any, branch: Branch
) -> tuple[Kernel, tuple[Item, ...]]:
    """The Kernel of what joins the inputs ``x1`` (a list of arrays, or of Kernels) and ``x2`` (a
    list of as many, or None), in float64, and the items behind it. ``mask``: the mask constant of
    all inputs, or a list with that of each.

    Raises WidegramError for lists of another length than the branches, inputs of different numbers
    of rows, and branches that do not fit together.
    """
    branches, join, rest = _parts(items)
    check_lists(items, x1, x2)
    seconds = [None] * len(branches) if x2 is None else x2
    given = zip(branches, x1, seconds, _masks_of_each(mask, len(branches)), strict=True)
    kernels = [branch(*each) for each in given]
    for name, side in (("x1", 0), ("x2", 1)):
        check_rows([kernel.nngp.shape[side] for kernel in kernels], name)
    return _met(join, kernels), rest


def check_lists(items: Sequence[Item], x1: Any, x2: Any) -> None:
    """Refuse what is no list with a value for each branch; x2 may be None."""
    count = len(_parts(items)[0])
    for name, x in (("x1", x1), ("x2", x2)):
        if not isinstance(x, (list, tuple)) or len(x) != count:
            if name == "x2" and x is None:
                continue
            raise WidegramError(
                f"kernel_fn: stax.parallel acts on {count} inputs, so {name} must be a "
                f"list of {count} arrays"
            )


def check_rows(counts: Collection[int], name: str) -> None:
    """Refuse inputs of one list, called ``name``, that have other numbers of rows."""
    if len(set(counts)) > 1:
        raise WidegramError(
            f"kernel_fn: inputs of one list must have as many rows, found {min(counts)} and "
            f"{max(counts)} in {name}"
        )


def _masks_of_each(mask: Any, count: int) -> list[Any]:
    """The mask constants of ``count`` branches."""
    if not isinstance(mask, (list, tuple)):
        return [mask] * count
    if len(mask) != count:
        raise WidegramError(
            f"kernel_fn: mask_constant is a list of {len(mask)} for a list of {count} inputs; give "
            "one number, or one for each"
        )
    return list(mask)


def layers_of_several(items: Sequence[Item]) -> tuple[Layer, ...] | None:
    """The layers of a network as data whose input is a list, None where some take inputs with other
    axes than that has, or have functions of Python's, or the list has one input, or lists in it.

    Raises WidegramError for several inputs that nothing joins.
    """
    branches, join, rest = _parts(items)
    if any(map(is_placed, (*branches, rest))) or len(branches) == 1:
        return None
    if any(map(acts_on_several, branches)):
        return None
    closed = tuple(() if is_identity(layers) else layers for layers in map(close, branches))
    axis = {} if join.axis is None else {"axis": join.axis}
    layers = (join.kind(closed, parallel=True, **axis), *close(rest))
    return None if have_functions(layers) else layers


def _parts(
    items: Sequence[Item],
) -> tuple[list[tuple[Item, ...]], FanInItem, tuple[Item, ...]]:
    """The branches, what joins them, and what follows."""
    branches: list[tuple[Item, ...]] = []
    for n, item in enumerate(items):
        match item:
            case ParallelItem(parts):
                before = branches or [()] * len(parts)
                if len(before) != len(parts):
                    raise WidegramError(
                        f"stax.parallel: has {len(parts)} branches for {len(before)} inputs"
                    )
                branches = [(*b, *p) for b, p in zip(before, parts, strict=True)]
            case FanInItem():
                return branches, item, tuple(items[n + 1 :])
            case _:
                break
    raise WidegramError(
        "stax.parallel: several inputs have to be joined by FanInSum, FanInProd or FanInConcat "
        "before other layers follow"
    )


def _met(join: FanInItem, kernels: Sequence[Kernel]) -> Kernel:
    """The Kernel of values that meet; they count as independent."""
    name, first = f"stax.{join.kind.__name__}", kernels[0]
    for kernel in kernels:
        if (kernel.batch_axis, kernel.channel_axis) != (0, len(kernel.shape1) - 1):
            raise WidegramError(f"{name}: joins outputs with the batch first and channels last")
        if kernel.diagonal_spatial != first.diagonal_spatial or kernel.is_reversed:
            raise WidegramError(f"{name}: joins kernels with the same axes alone")
    nothing = ((),) * len(kernels)
    axis = join.axis
    layer = join.kind(nothing) if axis is None else kinds.FanInConcat(nothing, axis)
    ends = [_state(kernel, n) for n, kernel in enumerate(kernels)]
    end = joined(layer, ends, name)
    arrays = _arrays(layer, kernels, [state.channels or 1 for state in ends])
    mask1, mask2 = (_masks(layer, kernels, ends, second) for second in (False, True))
    return first.replace(
        **arrays,
        mask1=mask1,
        mask2=None if arrays["cov2"] is None else mask2,
        x1_is_x2=all(kernel.x1_is_x2 for kernel in kernels),
        is_gaussian=end.lost_at is None,
        shape1=(first.shape1[0], *end.shape, end.channels),
        shape2=(first.shape2[0], *end.shape, end.channels),
    )


def _state(kernel: Kernel, n: int) -> State:
    """What is known of the output of branch ``n``."""
    shape = tuple(size or 0 for size in kernel.shape1[1:-1])
    lost_at = None if kernel.is_gaussian else f"branch {n + 1} of stax.parallel"
    where = f"the last layer of branch {n + 1} of stax.parallel"
    return State(shape, lost_at, True, tuple(range(len(shape))), kernel.shape1[-1], where)


def _arrays(
    layer: kinds.FanIn, kernels: Sequence[Kernel], widths: Sequence[int]
) -> dict[str, Array | None]:
    """The arrays of the joined Kernel."""
    if isinstance(layer, kinds.FanInProd):
        return reduce(_product, ({name: getattr(k, name) for name in ARRAYS} for k in kernels))
    shares = [1.0] * len(kernels)
    along = None
    if isinstance(layer, kinds.FanInConcat):
        along = spatial_axis(layer.axis, len(kernels[0].shape1) - 2)
        shares = [width / sum(widths) for width in widths]
    found: dict[str, Array | None] = {}
    for name in ARRAYS:
        arrays = [getattr(kernel, name) for kernel in kernels]
        if any(array is None for array in arrays):
            found[name] = None
        elif along is None:
            found[name] = np.sum([s * a for s, a in zip(shares, arrays, strict=True)], axis=0)
        else:
            lead = 2 if name in KERNELS else 1
            found[name] = _side_by_side(arrays, lead, along, kernels[0].diagonal_spatial)
    return found


def _masks(
    layer: kinds.FanIn, kernels: Sequence[Kernel], ends: Sequence[State], second: bool
) -> Masked | None:
    """The masks of x1 or x2 where branches meet that end with ``ends``, None where none has any."""
    given = [k.mask2 if second and k.cov2 is not None else k.mask1 for k in kernels]
    if all(mask is None for mask in given):
        return None
    found = []
    for mask, kernel, end in zip(given, kernels, ends, strict=True):
        rows, spatial = kernel.nngp.shape[second], len(end.shape)
        whole = np.zeros((rows, *end.shape, 1), dtype=np.bool_) if mask is None else mask
        found.append(whole.reshape(rows, *end.shape, *[1] * (2 - spatial), whole.shape[-1]))
    made = joined_masks(layer, found, ends[0].axes, [end.channels for end in ends])
    return made.reshape(*made.shape[: 1 + spatial], made.shape[-1])


def _product(
    one: dict[str, Array | None], two: dict[str, Array | None]
) -> dict[str, Array | None]:
    """K = K1 K2, T = T1 K2 + K1 T2."""
    found = {
        name: None if a is None or b is None else a * b
        for name, a, b in ((name, one[name], two[name]) for name in ARRAYS)
    }
    k, t, k2, t2 = one["nngp"], one["ntk"], two["nngp"], two["ntk"]
    if k is not None and t is not None and k2 is not None and t2 is not None:
        found["ntk"] = t * k2 + k * t2
    return found


def _side_by_side(arrays: Sequence[Array], lead: int, along: int, diagonal: bool) -> Array:
    """Covariances with ``lead`` axes in front, of images side by side along one of their axes."""
    if diagonal:
        return np.concatenate(arrays, axis=lead + along)
    at = lead + 2 * along
    total, first = sum(array.shape[at] for array in arrays), 0
    shape = list(arrays[0].shape)
    shape[at] = shape[at + 1] = total
    made = np.zeros(shape)
    for array in arrays:
        part = slice(first, first + array.shape[at])
        made[(slice(None),) * at + (part, part)] = array
        first = part.stop
    return made
