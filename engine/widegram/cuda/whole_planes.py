"""Programs whose planes a thread can keep in registers: what all forms that do so ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from widegram.cuda.layout import Space
from widegram.cuda.steps import Context, Job, Value, jobs_of
from widegram.plan.masks import Pair
from widegram.plan.operations import Affine
from widegram.plan.program import Program

_KINDS = ("input", "load", "window", "point", "add", "reduce", "copy", "pool")


def alike(context: Context, space: Space, jobs: Sequence[Job]) -> bool:
    """Whether all planes are whole tori of one shape, with steps that map them to each other.

    Windows have stride 1 and one padding and keep the shape; the windows of pools tile images.
    """
    if context.plan.vector or not jobs or len(space.kinds) != 1:
        return False
    (((height, width), _),) = space.kinds
    windows = [job.affine for job in jobs if job.affine is not None]
    return (
        not any(torus.split for torus in space.torus)
        and bool(space.active.all())
        and (space.torus[0].period, space.torus[1].period) == (height, width)
        and all(_same_shape(affine) for affine in windows)
        and len({a.circular for a in windows if a.window != (1, 1)}) < 2
        and all(job.kind in _KINDS and _plain(job) for job in jobs)
    )


def whole_jobs(context: Context, program: Program) -> tuple[Space, list[Job]]:
    """The space of a program and its steps, with strided convolutions as whole ones.

    Where what a strided convolution makes is stored as it is and not read here, the convolution is
    made at every pixel, and the store gets every so many rows and columns of it: all planes then
    have one shape.
    """
    space, jobs = jobs_of(context, program)
    found: list[Job] = []
    strided: dict[int, tuple[Value, Pair]] = {}
    for job in jobs:
        inputs = [strided.get(value.slot) for value in job.inputs]
        if job.kind == "copy" and inputs[0] is not None:
            value, strides = inputs[0]
            assert job.store is not None
            scaled = tuple(n * s for n, s in zip(job.store.shape, strides, strict=True))
            if scaled != value.shape:
                return space, jobs
            found.append(replace(job, inputs=(value,), every=strides))
            continue
        if any(inputs):
            return space, jobs
        if job.out is not None:
            strided.pop(job.out.slot, None)
        if job.kind == "window" and job.affine is not None and job.affine.strides != (1, 1):
            (source,), conv = job.inputs, job.affine
            if job.formula is not None or job.out is None:
                return space, jobs
            out = replace(source, slot=job.out.slot)
            strided[out.slot] = out, conv.strides
            up, left = conv.lo
            hi = conv.window[0] - 1 - up, conv.window[1] - 1 - left
            job = replace(job, out=out, affine=replace(conv, strides=(1, 1), hi=hi))
        found.append(job)
    kinds = {value.kind for job in found for value in (job.out, *job.inputs) if value is not None}
    if len(kinds) != 1:
        return space, jobs
    return replace(space, kinds=(space.kinds[kinds.pop()],)), found


def slots(jobs: Sequence[Job]) -> int:
    """Planes of K, and as many of T, that a thread holds at once."""
    return 1 + max((job.out.slot for job in jobs if job.out is not None), default=-1)


def _same_shape(affine: Affine) -> bool:
    whole = (affine.lo[0] + affine.hi[0] + 1, affine.lo[1] + affine.hi[1] + 1)
    return affine.strides == (1, 1) and affine.window == whole and min(*affine.lo, *affine.hi) >= 0


def _plain(job: Job) -> bool:
    """Whether a pool's windows tile the image, and a loaded value is an image."""
    if job.kind == "load":
        return job.store is not None and not job.store.reduced
    if job.pool is None:
        return True
    assert job.store is not None
    ((height, width),) = (value.shape for value in job.inputs)
    oh, ow = job.store.shape
    tiled = (oh * job.pool.strides[0], ow * job.pool.strides[1]) == (height, width)
    plain = job.pool.window == job.pool.strides and job.pool.lo == (0, 0)
    return tiled and plain and not job.pool.circular
