"""Arrays of networks that end in vectors, which the engine computes, for ``kernel_fn``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from widegram.network import Network
from widegram.stax.kernel import ARRAYS
from widegram.stax.masked import source
from widegram.stax.patterns import Patterns, sources
from widegram.validation.kernel_names import in_order

Array = NDArray[Any]
# A batch of inputs, or a list of such.
Batch = Array | list[Array]


def vectors(
    network: Network, x1: Batch, x2: Batch | None, same: bool, names: tuple[str, ...],
    accept: float | None, patterns: Patterns | None,
) -> dict[str, Any]:  # fmt: skip
    """The arrays ``names`` of a network that ends in a vector, from the engine."""
    from widegram.computing.in_memory import kernel

    batches = (x1,) if x2 is None else (x1, x2)
    dtype = np.result_type(*(a for x in batches for a in (x if isinstance(x, list) else [x]))).name
    found: dict[str, Any] = dict.fromkeys(ARRAYS)
    rows = source(network, x1), None if x2 is None else source(network, x2)
    first, second = sources(network, *rows, patterns)
    wanted = in_order(names)
    if wanted:
        result = kernel(
            network, first, None if same else second, wanted, dtype, accept_series_error=accept
        )
        assert isinstance(result, tuple)
        found |= result._asdict()
    if "cov1" in names or "cov2" in names:
        if same and "nngp" in wanted:
            found["cov1"] = np.diagonal(found["nngp"]).copy()
        else:
            found["cov1"] = _variances(network, first, dtype, accept)
        if x2 is not None:
            found["cov2"] = found["cov1"] if same else _variances(network, second, dtype, accept)
    return found


def _variances(network: Network, x: Any, dtype: str, accept: float | None) -> Array:
    """Variances (n,) of the outputs for each input: the diagonal of the NNGP, as ``dtype``."""
    from widegram.computing.in_memory import diagonal
    from widegram.computing.job import make_job

    job = make_job(network, x, None, "nngp", dtype, None, 1, None, accept)
    return diagonal(job)["nngp"].astype(dtype)
