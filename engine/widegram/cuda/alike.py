"""Programs whose planes a thread can keep in registers: what all forms that do so ask for."""

from __future__ import annotations

from collections.abc import Sequence

from widegram.cuda.layout import Space
from widegram.cuda.steps import Context, Job
from widegram.plan.graph import Affine

_KINDS = ("input", "load", "window", "point", "add", "reduce", "copy", "pool")


def alike(context: Context, space: Space, jobs: Sequence[Job]) -> bool:
    """Whether all planes are whole tori of one shape, with steps that map them to each other.

    Windows are 1 x 1, or 3 x 3 at stride 1 and of one padding; the windows of pools tile images.
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


def slots(jobs: Sequence[Job]) -> int:
    """Planes of K, and as many of T, that a thread holds at once."""
    return 1 + max((job.out.slot for job in jobs if job.out is not None), default=-1)


def _same_shape(affine: Affine) -> bool:
    if affine.strides != (1, 1):
        return False
    return affine.window == (1, 1) or (affine.window == (3, 3) and affine.lo == (1, 1) == affine.hi)


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
