"""Programs all of whose planes are whole tori of one shape, so that registers can hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from widegram.plan.cells import Space
from widegram.plan.masks import Pair
from widegram.plan.operations import Affine
from widegram.plan.steps import (
    Counting,
    Keeping,
    Load,
    Making,
    Pooling,
    Result,
    Step,
    Value,
    Window,
)


def alike(space: Space, steps: Sequence[Step]) -> bool:
    """Whether all planes are whole tori of one shape, with steps that map them to each other.

    Windows have stride 1 and one padding and keep the shape; the windows of pools tile images.
    """
    if not steps or len(space.lattices) != 1:
        return False
    (((height, width), _),) = space.lattices
    windows = [step.affine for step in steps if isinstance(step, Window)]
    # Where a pair of pixels is not to count its count is 0.
    needed = [not isinstance(step, Counting) for step in steps]
    return (
        not any(torus.split for torus in space.torus)
        and bool(space.active[:, needed].all())
        and (space.torus[0].period, space.torus[1].period) == (height, width)
        and all(_same_shape(affine) for affine in windows)
        and len({a.circular for a in windows if a.window != (1, 1)}) < 2
        and all(_plain(step) for step in steps)
    )


def whole(space: Space, steps: Sequence[Step]) -> tuple[Space, Sequence[Step]]:
    """``space`` and ``steps`` with strided convolutions as whole ones.

    Where what a strided convolution makes is stored as it is and not read here, the convolution is
    made at every pixel, and the store gets every so many rows and columns of it: all planes then
    have one shape.
    """
    found: list[Step] = []
    strided: dict[int, tuple[Value, Pair]] = {}
    for step in steps:
        inputs = [strided.get(value.node) for value in step.inputs]
        if isinstance(step, Keeping) and inputs[0] is not None:
            value, strides = inputs[0]
            scaled = tuple(n * s for n, s in zip(step.store.shape, strides, strict=True))
            if scaled != value.shape:
                return space, steps
            found.append(replace(step, inputs=(value,), every=strides))
            continue
        if any(inputs):
            return space, steps
        if isinstance(step, Window) and step.affine.strides != (1, 1):
            (source,), conv = step.inputs, step.affine
            if step.formula is not None:
                return space, steps
            out = replace(source, node=step.out.node)
            strided[out.node] = out, conv.strides
            up, left = conv.lo
            hi = conv.window[0] - 1 - up, conv.window[1] - 1 - left
            step = replace(step, out=out, affine=replace(conv, strides=(1, 1), hi=hi))
        found.append(step)
    values = [value for step in found for value in (step.out, *step.inputs) if value is not None]
    lattices = {value.lattice for value in values}
    if len(lattices) != 1:
        return space, steps
    return replace(space, lattices=(lattices.pop(),)), found


def slots(steps: Sequence[Step]) -> int:
    """Planes of K, and as many of T, that a thread holds at once."""
    return 1 + max((step.out.slot for step in steps if isinstance(step, Making)), default=-1)


def _same_shape(affine: Affine) -> bool:
    whole = (affine.lo[0] + affine.hi[0] + 1, affine.lo[1] + affine.hi[1] + 1)
    return affine.strides == (1, 1) and affine.window == whole and min(*affine.lo, *affine.hi) >= 0


def _plain(step: Step) -> bool:
    """Whether a pool's windows tile the image, a loaded value is an image, nothing is a result."""
    match step:
        case Load(store=store):
            return not store.reduced
        case Pooling(store=store, pool=pool):
            ((height, width),) = (value.shape for value in step.inputs)
            oh, ow = store.shape
            tiled = (oh * pool.strides[0], ow * pool.strides[1]) == (height, width)
            plain = pool.window == pool.strides and pool.lo == (0, 0)
            return tiled and plain and not pool.circular
        case Result():
            return False
    return True
