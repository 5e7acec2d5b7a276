"""Jobs of tests: both kernels in float64 with a small budget, unless a test says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from widegram.backends.job import Job
from widegram.data import Source, open_source
from widegram.network import Network, load_network

MEMORY = 2**28


def job(network: Any, x1: Any, x2: Any = None, **options: Any) -> Job:
    """A job for a network or its specification and arrays or sources; ``options`` as for
    :class:`Job`."""
    found = network if isinstance(network, Network) else load_network(network)
    options = {"kernels": ("nngp", "ntk"), "memory": MEMORY} | options
    return Job(network=found, x1=_source(x1), x2=None if x2 is None else _source(x2), **options)


def _source(x: Any) -> Source:
    return open_source(x) if isinstance(x, np.ndarray) else x
