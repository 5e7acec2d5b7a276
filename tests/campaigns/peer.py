"""Kernels of neural-tangents for cases of the campaign of networks.

The module is both sides: :func:`compare` sends cases to the peer's Python ($WIDEGRAM_PEER_PYTHON,
see bench/peers/README.md), which runs it as a program: a list of cases on stdin, one line of JSON
for each on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BOTH = ("nngp", "ntk")
# What the peer has exact kernels for.
LAYERS = {
    "Conv", "Dense", "Relu", "LeakyRelu", "ABRelu", "Abs", "Sign", "Erf", "Gelu", "Sin", "Cos",
    "Rbf", "Sigmoid_like", "Identity", "AvgPool", "SumPool", "GlobalAvgPool", "GlobalSumPool",
    "Flatten", "LayerNorm", "Dropout", "Residual", "Repeat",
}  # fmt: skip
_TESTS = Path(__file__).parents[1]
_RUNNER = _TESTS.parent / "bench" / "widegram_bench"


def compare(count: int, seed: int, seconds: float, report: Callable[[str], None]) -> dict[str, Any]:
    """At most ``count`` networks that the peer knows, as many as it answers within ``seconds``:
    differences of the engine's float64 and of the dense reference from it, relative to the largest
    entry, as percentiles; what the peer refuses. ``report`` is told how far it is."""
    from campaigns.judging import computed, reference
    from campaigns.networks import percentiles
    from widegram.errors import WidegramError
    from widegram.network import load_network

    cases = list(_known(count, seed))
    found: dict[str, list[float]] = {"engine": [], "reference": []}
    refused, larger, asked = 0, [], 0
    begin = time.monotonic()
    job = [{"spec": c.spec, "x1": c.x1.tolist(),
            "x2": None if c.x2 is None else c.x2.tolist()} for c in cases]  # fmt: skip
    for case, answer in zip(cases, answers("campaigns.peer", job, seconds), strict=False):
        asked += 1
        if asked % 10 == 0:
            report(f"peer: {asked} of {count} networks, {time.monotonic() - begin:.0f} s")
        network = load_network(case.spec)
        if "error" in answer:
            refused += 1
            continue
        try:
            ours = {"engine": computed(network, case, "float64")[0]}
        except WidegramError:
            refused += 1
            continue
        ours["reference"], _ = reference(network, case)
        worst = 0.0
        for key in BOTH:
            theirs = np.array(answer[key])
            for name, values in ours.items():
                largest = max(float(np.abs(theirs).max()), 1e-300)
                found[name].append(float(np.abs(values[key] - theirs).max()) / largest)
            worst = max(worst, found["engine"][-1])
        larger += [[case.number, worst]] if not worst <= 1e-6 else []
    return {
        "networks": asked - refused,
        "refused_by_either": refused,
        "percentiles": {name: percentiles(errors) for name, errors in found.items()},
        "beyond_1e-6": larger,
    }


def _known(count: int, seed: int) -> Iterator[Any]:
    """Cases that the peer's vocabulary holds, one depth each."""
    from campaigns.drawing import draw

    number = 0
    while count:
        case = draw(seed, number)
        number += 1
        if _names(case.spec["layers"]) <= LAYERS and not case.depths:
            count -= 1
            yield case


def _names(layers: list[dict[str, Any]]) -> set[str]:
    found = set()
    for layer in layers:
        found.add(layer["layer"])
        for key in ("branch", "shortcut", "body"):
            found |= _names(layer.get(key, []))
    return found


def answers(module: str, job: Any, seconds: float) -> Iterator[dict[str, Any]]:
    """What ``module``, run by the peer's Python, answers to ``job``, one by one, until ``seconds``
    are over."""
    command = [os.environ["WIDEGRAM_PEER_PYTHON"], "-m", module]
    environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as errors:
        json.dump(job, given)
        given.seek(0)
        process = subprocess.Popen(
            command, stdin=given, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.endswith("\n"):
                    yield json.loads(line)
            if process.wait() and not late.is_set():
                errors.seek(0)
                raise RuntimeError(f"the peer failed: {errors.read().strip().splitlines()[-1]}")
        finally:
            timer.cancel()
            process.kill()
            process.wait()


def _serve() -> None:
    """Runs in the peer's Python."""
    import warnings

    import jax

    jax.config.update("jax_enable_x64", True)
    # It compiles every operation for every shape, which is what takes its time.
    jax.config.update("jax_disable_most_optimizations", True)
    warnings.filterwarnings("ignore")
    from neural_tangents import stax

    sys.path.insert(0, str(_RUNNER))
    import peer_runner

    for case in json.load(sys.stdin):
        x1 = np.array(case["x1"])
        x2 = None if case["x2"] is None else np.array(case["x2"])
        try:
            *_, kernel_fn = peer_runner.network(stax, _spelt_out(case["spec"]["layers"]))
            values = kernel_fn(x1, x2, BOTH)
            answer = {key: np.asarray(getattr(values, key)).tolist() for key in BOTH}
        except Exception as error:  # The peer's: it is its answer to this case.
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


def _spelt_out(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Layers with the parameters that the peer's functions are called with: Dropout at work."""
    found = []
    for layer in layers:
        made = {key: _spelt_out(value) if key in ("branch", "shortcut", "body") else value
                for key, value in layer.items()}  # fmt: skip
        if made["layer"] == "Dropout":
            made["mode"] = "train"
        found.append(made)
    return found


if __name__ == "__main__":
    _serve()
