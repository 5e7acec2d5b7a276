"""Times widegram on one network, in a process of its own: the counterpart of ``peer_runner``.

Reads a job from stdin and prints one JSON object. ``network``, ``inputs``, ``dtype``, ``values``
as there; ``compare``: rows b of the values, x[:b] against x[b:2b]; ``seconds`` for the timings,
0 for the first call alone; ``threads``.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from typing import Any

START = time.perf_counter()
_LARGEST = 2048


def main() -> None:
    """Run the job."""
    job = json.load(sys.stdin)
    found = run(job)
    scale = 1 if sys.platform == "darwin" else 1024
    found["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    print(json.dumps(found))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The job's result but for memory."""
    import numpy as np

    import widegram

    network = widegram.load_network(job["network"])
    dtype, threads, b = job["dtype"], job["threads"], job["compare"]
    with np.load(job["inputs"]) as file:
        x = file["x"].astype(dtype)
    found: dict[str, Any] = {"import_s": time.perf_counter() - START}

    def kernel(x1: Any, x2: Any) -> Any:
        return widegram.kernel(network, x1, x2, dtype=dtype, device="cpu", threads=threads)

    start = time.perf_counter()
    first = kernel(x[:b], x[b : 2 * b])
    found["first_call_s"] = time.perf_counter() - start
    np.savez(job["values"], nngp=first.nngp, ntk=first.ntk)
    if job["seconds"] > 0:
        found |= _timed(kernel, network.input_shape, dtype, job["seconds"])
    return found


def _timed(kernel: Any, shape: tuple[int, ...], dtype: str, seconds: float) -> dict[str, Any]:
    """ms per entry of a matrix of different inputs, and of a symmetric one, n inputs each."""
    import numpy as np

    from widegram_bench.timing import best, once

    rng = np.random.default_rng(1)
    n = 16
    while True:
        x = rng.standard_normal((2 * n, *shape)).astype(dtype)
        kernel(x[:n], x[n:])
        spent = once(lambda: kernel(x[:n], x[n:]))  # noqa: B023 - called at once
        wanted = n * math.sqrt(seconds / 6 / spent)
        if n >= _LARGEST or wanted < 1.5 * n:
            break
        n = min(_LARGEST, 16 * max(n // 16 + 1, int(min(wanted, 8 * n)) // 16))
    cross = best(lambda: kernel(x[:n], x[n:]), seconds / 6, 1)
    symmetric = best(lambda: kernel(x[:n], None), seconds / 6, 2)
    return {
        "n": n,
        "ms_entry": 1e3 * min(cross, spent) / n**2,
        "ms_entry_symmetric": 1e3 * symmetric / n**2,
    }


if __name__ == "__main__":
    main()
