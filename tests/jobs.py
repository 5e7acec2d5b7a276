"""Jobs of tests: both kernels in float64 with a small budget, unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from widegram.backends.evaluator import Tile
from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.data import Source, open_source
from widegram.network import Network, load_network
from widegram.reference import ReferenceEvaluator

MEMORY = 2**28


def job(network: Any, x1: Any, x2: Any = None, **options: Any) -> Job:
    """A job for a network or its specification and arrays or sources; ``options`` as for
    :class:`Job`."""
    found = network if isinstance(network, Network) else load_network(network)
    options = {"kernels": ("nngp", "ntk"), "memory": MEMORY} | options
    return Job(network=found, x1=_source(x1), x2=None if x2 is None else _source(x2), **options)


def cpu_and_reference(network: Network, dtype: str) -> Iterator[tuple[Tile, Tile]]:
    """Tiles by the CPU in a dtype and by the reference, of a cross and of a symmetric matrix."""
    rng = np.random.default_rng(3)
    x1, x2 = (rng.standard_normal((n, *network.input_shape)) for n in (3, 2))
    for second, cols in ((x2, range(2)), (None, range(3))):
        of = job(network, x1, second)
        wanted = ReferenceEvaluator(of).tile(range(3), cols, second is None)
        with CpuEvaluator(replace(of, dtype=dtype)) as evaluator:
            yield evaluator.tile(range(3), cols, second is None), wanted


def _source(x: Any) -> Source:
    return open_source(x) if isinstance(x, np.ndarray) else x
