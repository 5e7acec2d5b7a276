"""Checking a request for kernels, and the default size of its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.data.patterns import check_pattern
from widegram.data.several import Inputs, open_inputs
from widegram.errors import WidegramError, shown
from widegram.machine.budgets import kernel_budget
from widegram.machine.dtypes import ITEMSIZE
from widegram.network import Network, NetworkLike, load_network
from widegram.network.patterns import pattern_of
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.tiling import LARGEST_TILE, choose_tile
from widegram.validation.arrays import integer
from widegram.validation.choices import DTYPES, KERNELS
from widegram.validation.kernel_names import in_order, listed


def make_job(
    network: NetworkLike,
    x1: Inputs,
    x2: Inputs | None,
    get: str | Sequence[str],
    dtype: str,
    depths: Sequence[int] | None,
    threads: int | None,
    memory: str | int | None,
    accept_series_error: float | None = None,
) -> Job:
    """Check a request and open its data; raises :class:`WidegramError` saying what is wrong."""
    dtype = _dtype(dtype)
    threads = None if threads is None else integer(threads, "threads", 1)
    accept = SERIES_ACCEPTED if accept_series_error is None else accept_series_error
    if not isinstance(accept, Real) or not accept >= 0:
        raise WidegramError(
            f"accept_series_error {shown(accept)}: give a relative error, such as 0.01"
        )
    kernels = _kernels(get)
    first = open_inputs(x1)
    second = None if x2 is None else open_inputs(x2)
    net = load_network(network, first.expects)
    if second is not None and second.expects != first.expects:
        raise WidegramError(
            f"{second.name}: its rows have shape {second.expects}, those of {first.name} "
            f"{first.expects}; both must be inputs of one network"
        )
    pattern = pattern_of(net)
    for source in (first, second):
        if source is not None:
            check_pattern(source, pattern)
    steps = _depths(net, depths)
    return Job(
        network=net,
        x1=first,
        x2=second,
        kernels=kernels,
        depths=steps,
        dtype=dtype,
        threads=threads,
        memory=kernel_budget(memory),
        accept=accept,
    )


def tile_side(
    job: Job, evaluator: Evaluator, largest: int = LARGEST_TILE, at_once: int = 1
) -> int:
    """The default side of a tile, at most ``largest``, of an evaluator that is asked for
    ``at_once`` tiles at the same time."""
    return choose_tile(
        max(len(job.x1), len(job.x2 or job.x1)),
        len(job.keys),
        ITEMSIZE[evaluator.dtype],
        job.memory,
        evaluator.cost.entry,
        evaluator.cost.image_bytes,
        largest,
        at_once,
    )


def _dtype(dtype: Any) -> str:
    try:
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except (TypeError, ValueError):
        name = ""
    if dtype is None or name not in DTYPES:
        raise WidegramError(f"dtype {shown(dtype)} is unknown; choose float32 or float64")
    return str(name)


def _kernels(get: str | Sequence[str]) -> tuple[str, ...]:
    asked = listed(get)
    if not asked or set(asked) - set(KERNELS):
        raise WidegramError(f"get {shown(get)} is not understood; give nngp, ntk or nngp,ntk")
    return in_order(asked)


def _depths(network: Network, depths: Sequence[int] | None) -> tuple[int, ...]:
    if depths is None:
        return ()
    _, _, times, _ = network.sweep()
    try:
        depths = [integer(depth, "depths", 1) for depth in depths]
    except TypeError:
        raise WidegramError(f"depths {shown(depths)}: give a list of depths") from None
    wrong = [d for d in depths if not 1 <= d <= times]
    if wrong or not len(depths):
        raise WidegramError(
            f"depths {','.join(map(str, wrong or depths))!r}: the network repeats its block "
            f"{times} times; give depths from 1 to {times}"
        )
    return tuple(sorted(set(depths)))
