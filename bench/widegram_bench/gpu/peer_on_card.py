"""neural-tangents on the same card, by whatever JAX this Python has.

Release 0.6.5 wants an older JAX: it imports names that have since moved. Only its analytic part
(``stax``) is loaded here, with those names put back, and without its package's own imports, which
draw in TensorFlow. The package is found as installed, or at ``WIDEGRAM_PEER_PATH``: a folder or a
wheel file that holds ``neural_tangents``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from widegram_bench import peer_runner
from widegram_bench.child import finished

PATH = "WIDEGRAM_PEER_PATH"
# Times the seconds for all batches: compiling the last one may take longer than was left.
_PATIENCE = 1.7


def run(
    network: Any, dtype: str, batches: tuple[int, ...], seconds: float, memory: int, folder: Path
) -> dict[str, Any]:
    """``ms_entry`` of the fastest batch with its size, or the ``problem`` that prevents it."""
    import numpy as np

    inputs = folder / "inputs.npz"
    shape = (2 * max(batches), *network.input_shape)
    np.savez(inputs, x=np.random.default_rng(0).standard_normal(shape))
    job = {
        "network": network.canonical(), "inputs": str(inputs), "dtype": dtype, "batches": batches,
        "seconds": seconds, "memory": memory, "values": str(folder / "values.npz"),
        "folder": str(folder),
    }  # fmt: skip
    changed = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    stopped = ""
    try:
        done = finished(
            [sys.executable, "-m", "widegram_bench.gpu.peer_on_card"],
            json.dumps(job), os.environ | changed, _PATIENCE * seconds,
        )  # fmt: skip
        output, errors = done.stdout, done.stderr
    except OSError as error:
        return {"problem": str(error)}
    except subprocess.TimeoutExpired as error:
        # A line was printed after every batch; they count.
        stopped = f"stopped after {error.timeout:.0f} s"
        output, errors = str(error.stdout or ""), ""
    try:
        found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        said = errors.strip().splitlines()
        return {"problem": stopped or (said[-1] if said else f"exit code {done.returncode}")}
    timed = {b: r["ms_entry"] for b, r in found["batches"].items() if "ms_entry" in r}
    if not timed:
        return {"problem": "no batch fits into the time and memory"}
    best = min(timed, key=lambda b: timed[b])
    return found | {"ms_entry": timed[best], "best_batch": int(best)}


class FrozenDict(Mapping):
    """What stax needs of the package frozendict, for where it is not installed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._items = dict(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))


def _public(module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in dir(module) if not name.startswith("__")}


def load_stax(sources: Path) -> Any:
    """The analytic part of neural-tangents as a namespace, from the folder of the package."""
    jax, core = importlib.import_module("jax"), importlib.import_module("jax.core")
    for name in ("jax.extend.core", "jax._src.core"):
        for key, value in _public(importlib.import_module(name)).items():
            if not hasattr(core, key):
                setattr(core, key, value)
    util = types.ModuleType("jax.util")
    vars(util).update(_public(importlib.import_module("jax._src.util")))
    sys.modules["jax.util"] = util
    setattr(jax, "util", util)  # noqa: B010 - newer versions have none
    if importlib.util.find_spec("frozendict") is None:
        frozen = types.ModuleType("frozendict")
        vars(frozen)["frozendict"] = FrozenDict
        sys.modules["frozendict"] = frozen
    package = types.ModuleType("neural_tangents")
    package.__path__ = [str(sources)]
    sys.modules["neural_tangents"] = package
    stax = types.SimpleNamespace()
    for part in ("linear", "elementwise", "combinators", "branching"):
        module = importlib.import_module(f"neural_tangents._src.stax.{part}")
        vars(stax).update(_public(module))
    return stax


def package(folder: Path) -> Path:
    """Where the sources of neural_tangents are; a wheel is unpacked into ``folder``."""
    named = os.environ.get(PATH)
    if named and zipfile.is_zipfile(named):
        with zipfile.ZipFile(named) as wheel:
            wheel.extractall(folder / "peer")
        return folder / "peer" / "neural_tangents"
    if named:
        return Path(named) / "neural_tangents"
    spec = importlib.util.find_spec("neural_tangents")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"neural-tangents is not installed; name its wheel or folder by {PATH}")
    return Path(next(iter(spec.submodule_search_locations)))


def version(sources: Path) -> str | None:
    """The version of the package in this folder, by the metadata beside it; None without any."""
    found = importlib.metadata.distributions(name="neural-tangents", path=[str(sources.parent)])
    return next((package.version for package in found), None)


def main() -> None:
    """Time one network; the job is that of :mod:`widegram_bench.peer_runner` with a ``folder``."""
    import time
    import warnings

    warnings.filterwarnings("ignore")
    job = json.load(sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr
    import numpy as np

    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    sources = package(Path(job["folder"]))
    stax = load_stax(sources)
    spec = job["network"]
    _, _, raw = peer_runner.network(stax, spec["layers"])
    kernel_fn = jax.jit(lambda a, b: tuple(raw(a, b, ("nngp", "ntk"))))
    with np.load(job["inputs"]) as file:
        x = jax.numpy.asarray(file["x"], job["dtype"])
    found: dict[str, Any] = {
        "versions": {"neural-tangents": version(sources), "jax": jax.__version__},
        "device": str(jax.devices()[0].device_kind),
        "batches": {},
    }
    end = time.perf_counter() + job["seconds"]
    for b in job["batches"]:
        if time.perf_counter() > end:
            found["batches"][str(b)] = {"skipped": "no time left"}
            continue
        share = time.perf_counter() + max(0.0, end - time.perf_counter()) / 3
        try:
            timed = peer_runner.measure(kernel_fn, x, b, share, jax.block_until_ready)
        except jax.errors.JaxRuntimeError as error:
            found["batches"][str(b)] = {"skipped": str(error).splitlines()[0][:200]}
            continue
        found["batches"][str(b)] = {"first_call_s": timed[0], "ms_entry": 1e3 * timed[1] / b**2}
        print(json.dumps(found), file=output, flush=True)
    print(json.dumps(found), file=output)


if __name__ == "__main__":
    main()
