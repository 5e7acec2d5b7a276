"""How much of its limit the engine reaches: every row with the roof of the same run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from widegram.network import Network
from widegram_bench import engine, limits, roof
from widegram_bench.networks import cnn, dense, preset
from widegram_bench.timing import Share
from widegram_bench.work import least_work

Say = Callable[[str], None]
ACTIVATIONS = ("Relu", "Erf")
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Sizes:
    """What is measured: image ``sides`` with ``depth`` layers, ``dense_depths``, ``presets``."""

    sides: tuple[int, ...] = (8, 16, 28, 32, 64)
    depth: int = 10
    flat_sides: tuple[int, ...] = (32,)
    dense_depths: tuple[int, ...] = (1, 10, 100)
    inputs: int = 3072
    presets: tuple[str, ...] = ("myrtle5", "myrtle7", "myrtle10", "wide-resnet")


QUICK = Sizes((4, 6), 2, (5,), (1, 2), 12, ())


def measure(
    seconds: float,
    sizes: Sizes | None = None,
    threads: int | None = None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """All tables within about ``seconds``.

    ``roof``: element-layers a second by activation and dtype. ``pooled``: the engine on images
    with global pooling and its ``fraction`` of the roof. ``flat`` and ``dense``: without
    pooling and fully connected, ``fraction`` of the limit named in ``bound``. ``networks``: cost
    per entry over what their element-layers cost in the plain 32 x 32 network (``over``).
    ``machine_limits``: bandwidth in bytes/s; multiply-adds/s of NumPy's GEMM and of the engine's
    inner products in cache, of which the faster counts.
    """
    sizes = sizes or Sizes()
    threads = threads or os.cpu_count() or 1
    todo = len(ACTIVATIONS) * len(DTYPES) * (1 + len(sizes.sides)) + len(DTYPES) * (
        2 + len(sizes.flat_sides) + len(sizes.dense_depths) + len(sizes.presets)
    )
    clock = Share(seconds, todo)
    found: dict[str, Any] = {"threads": threads, "roof": [], "pooled": [], "work": []}
    for activation in ACTIVATIONS:
        for dtype in DTYPES:
            top = roof.measure(activation, dtype, clock.next() / 2, threads=threads)
            found["roof"].append(top.as_dict())
            say(_roof_line(top))
            work = least_work(cnn(2, 8, activation), dtype)
            found["work"].append({"activation": activation, "dtype": dtype, **work})
            for side in sizes.sides:
                network = cnn(sizes.depth, side, activation)
                row = _pooled(network, top, clock.next(), threads)
                found["pooled"].append(row)
                say(_line(f"{side} x {side} {activation} {dtype}", row))
    stream = limits.bandwidth(0.5, threads)
    found["machine_limits"] = {"bandwidth": stream}
    for name in ("flat", "dense", "networks"):
        found[name] = []
    for dtype in DTYPES:
        rates = limits.gemm(dtype, clock.next() / 8), limits.inner(dtype, 0.2, threads)
        found["machine_limits"] |= {f"gemm_{dtype}": rates[0], f"inner_{dtype}": rates[1]}
        product = max(rates)
        box = roof.measure("Relu", dtype, clock.next() / 4, threads=threads)
        tap = roof.measure("Relu", dtype, 0.2, kind="tap", threads=threads)
        cases = [
            *(("flat", cnn(sizes.depth, s, pooled=False), box, s) for s in sizes.flat_sides),
            *(("dense", dense(d, (sizes.inputs,)), tap, d) for d in sizes.dense_depths),
        ]
        for table, network, top, size in cases:
            row = _limited(network, top, clock.next(), threads, stream, product)
            row |= {"size" if table == "flat" else "depth": size}
            found[table].append(row)
            say(_line(f"{table} {size} {dtype}", row))
        found["networks"] += _networks(sizes.presets, found["pooled"], dtype, clock, threads, say)
    return found


def _pooled(network: Network, top: roof.Roof, seconds: float, threads: int) -> dict[str, Any]:
    speed = engine.measure(network, top.dtype, seconds, threads=threads)
    return {
        "activation": top.activation,
        "size": network.input_shape[0],
        **speed.as_dict(),
        "roof": top.every,
        "fraction": speed.rate / top.every,
    }


def _limited(
    network: Network,
    top: roof.Roof,
    seconds: float,
    threads: int,
    stream: float,
    product: float,
) -> dict[str, Any]:
    limit = limits.least_ms(network, top.dtype, top, stream, product)
    speed = engine.measure(network, top.dtype, seconds, threads=threads)
    return speed.as_dict() | limit | {"fraction": limit["limit"] / speed.ms_entry}


def _networks(
    presets: Sequence[str],
    pooled: Sequence[dict[str, Any]],
    dtype: str,
    clock: Share,
    threads: int,
    say: Say,
) -> list[dict[str, Any]]:
    """Presets against the plain network of their largest image."""
    plain = [r for r in pooled if r["activation"] == "Relu" and r["dtype"] == dtype]
    rows = []
    for name in presets:
        network = preset(name)
        speed = engine.measure(network, dtype, clock.next(), threads=threads)
        rate = min(plain, key=lambda r: abs(r["size"] - network.input_shape[0]))["rate"]
        row = {"network": name, **speed.as_dict(), "over": rate / speed.rate}
        rows.append(row)
        say(f"{name} {dtype}: {speed.ms_entry:.4g} ms per entry, {row['over']:.2f}x the plain cost")
    return rows


def _roof_line(top: roof.Roof) -> str:
    return (
        f"roof {top.activation} {top.dtype}: {top.one:.3g} element-layers/s on one thread, "
        f"{top.every:.3g} on {top.threads}"
    )


def _line(what: str, row: dict[str, Any]) -> str:
    bound = f" ({row['bound']})" if "bound" in row else ""
    return f"{what}: {row['ms_entry']:.4g} ms per entry, {row['fraction']:.1%} of the limit{bound}"
