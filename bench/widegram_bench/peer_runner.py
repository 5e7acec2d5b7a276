"""Times neural-tangents on one network. Run by its own Python, which need not have widegram.

Reads a job from stdin and prints one JSON object:

    network   specification: {"input_shape": [...], "layers": [{"layer": ...}, ...]}
    inputs    .npz file with `x` (n, *input_shape), float64
    dtype     'float32' or 'float64'
    batches   sizes b, ascending: x[:b] against x[b:2b]
    seconds   time limit for all of them
    memory    bytes that arrays may take
    values    where to write `nngp` and `ntk` of the first batch (.npz)
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

START = time.perf_counter()
_UNROLLED = 32  # compiling a hundred layers written out takes minutes
_LIVE_ARRAYS = 6  # of the size of the covariance tensor, at the peak of one layer


def network(stax: Any, layers: list[dict[str, Any]]) -> Any:
    """The peer's triple of a list of layers."""
    return stax.serial(*(_layer(stax, dict(entry)) for entry in layers))


def _layer(stax: Any, entry: dict[str, Any]) -> Any:
    name = entry.pop("layer")
    if name == "Repeat":
        return _repeated(stax, entry["body"], entry["times"])
    if name == "Residual":
        shortcut = network(stax, entry["shortcut"]) if entry["shortcut"] else stax.Identity()
        branches = stax.parallel(network(stax, entry["branch"]), shortcut)
        return stax.serial(stax.FanOut(2), branches, stax.FanInSum())
    entry = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    if name in ("Conv", "Dense"):
        entry["b_std"] = entry["b_std"] or None
        return getattr(stax, name)(1, **entry)
    return getattr(stax, name)(**entry)


def _repeated(stax: Any, body: list[dict[str, Any]], times: int) -> Any:
    """``body`` written out; a long one in the peer's compiled loop, where it allows that.

    Its loop wants layers that keep their shape and hold no convolution.
    """
    layer = network(stax, body)
    if times <= _UNROLLED or "Conv" in _names(body):
        return stax.serial(*([layer] * times))
    return stax.serial(layer, stax.repeat(layer, times - 1))


def covariance_bytes(shape: list[int], layers: list[dict[str, Any]], itemsize: int) -> int:
    """Bytes of one entry's largest tensor: all pairs of pixels, where a pool needs them."""
    pixels = 1
    for size in shape[:-1]:
        pixels *= size
    pools = any("Pool" in text for text in _names(layers))
    return itemsize * pixels * (pixels if pools else 1)


def _names(layers: Sequence[dict[str, Any]]) -> Iterator[str]:
    for entry in layers:
        yield entry["layer"]
        for key in ("body", "branch", "shortcut"):
            yield from _names(entry.get(key) or ())


def measure(
    kernel_fn: Callable[..., Any], x: Any, b: int, deadline: float, ready: Callable[..., Any]
) -> tuple[float, float, Any]:
    """First call and best later call of one batch, in seconds, and the first result."""
    start = time.perf_counter()
    result = ready(kernel_fn(x[:b], x[b : 2 * b]))
    first = time.perf_counter() - start
    best, runs = float("inf"), 0
    while runs < 2 or (time.perf_counter() < deadline and runs < 20):
        if runs == 1 and time.perf_counter() + best > deadline:
            break
        start = time.perf_counter()
        ready(kernel_fn(x[:b], x[b : 2 * b]))
        best = min(best, time.perf_counter() - start)
        runs += 1
    return first, best, result


def main() -> None:
    """Run the job."""
    job = json.load(sys.stdin)
    sys.stdout, output = sys.stderr, sys.stdout
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import warnings

    warnings.filterwarnings("ignore")
    import jax  # type: ignore[import-not-found]  # the peer's environment
    import numpy as np

    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    import neural_tangents  # type: ignore[import-not-found]  # the peer's environment
    from neural_tangents import stax

    spec = job["network"]
    _, _, raw = network(stax, spec["layers"])
    with np.load(job["inputs"]) as file:
        x = jax.numpy.asarray(file["x"], job["dtype"])
    found: dict[str, Any] = {
        "import_s": time.perf_counter() - START,
        "versions": {"neural-tangents": neural_tangents.__version__, "jax": jax.__version__},
        "batches": {},
    }
    kernel_fn = jax.jit(lambda a, b: tuple(raw(a, b, ("nngp", "ntk"))))
    end = time.perf_counter() + job["seconds"]
    entry = covariance_bytes(spec["input_shape"], spec["layers"], x.dtype.itemsize)
    last = None
    for b in job["batches"]:
        skipped = None
        if 2 * b > len(x):
            skipped = "too few inputs"
        elif b * b * entry * _LIVE_ARRAYS > job["memory"]:
            skipped = "would not fit into memory"
        elif last is not None:
            first, best, size = last
            compile_s = max(0.0, first - best)
            if time.perf_counter() + compile_s + 2 * best * (b / size) ** 2 > end:
                skipped = "would take too long"
        if skipped:
            found["batches"][str(b)] = {"skipped": skipped}
            continue
        share = time.perf_counter() + (end - time.perf_counter()) / 3
        first, best, result = measure(kernel_fn, x, b, share, jax.block_until_ready)
        found["batches"][str(b)] = {"first_call_s": first, "ms_entry": 1e3 * best / b**2}
        if last is None:
            nngp, ntk = (np.asarray(part) for part in result)
            np.savez(job["values"], nngp=nngp, ntk=ntk)
            found["first_call_s"] = first
        last = (first, best, b)
    scale = 1 if sys.platform == "darwin" else 1024
    found["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    json.dump(found, output)
    output.write("\n")


if __name__ == "__main__":
    main()
