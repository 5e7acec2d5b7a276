"""Tiny networks that run every line of the CPU's driver: ``python -m driver_cases FILE``.

Writes digests of their Gram matrices to FILE, with the driver as Python and the line coverage of
``cpu/driver`` in percent: see :mod:`test_driver_interpreted`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

PADDINGS = ("SAME", "VALID", "CIRCULAR")
RELU, DENSE = {"layer": "Relu"}, {"layer": "Dense", "W_std": 1.3, "b_std": 0.2}
GAP, FLATTEN = {"layer": "GlobalAvgPool"}, {"layer": "Flatten"}
# Bytes that planes may take: as everywhere; so that no plane is packed; so that the packed planes
# of the case "in place" fit only if each is written over its source.
USUAL, NONE, TIGHT = 768 * 1024, 0, 17920


class Case(NamedTuple):
    """A network of images (h, w, C) or vectors (n,); ``planes``: bytes that its planes may take;
    ``count``: the number of inputs."""

    shape: tuple[int, ...]
    layers: list[dict[str, Any]]
    depths: tuple[int, ...] = ()
    planes: int = USUAL
    dtype: str = "float64"
    count: int = 1


def conv(window: tuple[int, int], padding: str = "SAME", strides: Any = (1, 1)) -> dict[str, Any]:
    return {
        "layer": "Conv", "filter_shape": list(window), "padding": padding,
        "strides": list(strides), "W_std": 1.2, "b_std": 0.1,
    }  # fmt: skip


def pool(window: Any, strides: Any, padding: str) -> dict[str, Any]:
    return {
        "layer": "AvgPool", "window_shape": list(window), "strides": list(strides),
        "padding": padding,
    }  # fmt: skip


def images() -> Iterator[tuple[str, Case]]:
    """Every padding, window, stride and pool; planes packed and not."""
    shape, three = (4, 4, 2), conv((3, 3))
    residual = {"layer": "Residual", "branch": [RELU, three], "shortcut": []}
    projected = {"layer": "Residual", "branch": [RELU, three], "shortcut": [conv((1, 1))]}
    for padding in PADDINGS:
        for window in ((1, 1), (3, 3), (2, 2), (3, 1)):
            c = conv(window, padding)
            second = conv((2, 1), padding) if padding == "VALID" else c
            yield f"{padding} {window}", Case(shape, [c, RELU, second, FLATTEN, DENSE])
        for strides in ((2, 2), (1, 2)):
            c = conv((3, 3), padding, strides)
            yield f"{padding} strides {strides}", Case((5, 3, 1), [three, RELU, c, RELU, GAP])
        for window, strides in (((2, 2), (2, 2)), ((3, 3), (2, 1)), ((2, 1), (1, 1))):
            p = pool(window, strides, padding)
            layers = [three, RELU, p, conv((3, 3), "CIRCULAR"), RELU, GAP]
            yield f"pool {padding} {window} {strides}", Case(shape, layers)
        local = [three, RELU, pool((5, 5), (1, 1), "SAME"), FLATTEN, DENSE]
        yield f"local pooling {padding}", Case(shape, [conv((3, 3), padding), *local])
    p = pool((2, 2), (1, 1), "SAME")
    across = {"layer": "Residual", "branch": [p, RELU, three], "shortcut": []}
    yield "across a pool", Case(shape, [three, p, across, GAP])
    pools = {"layer": "Residual", "branch": [RELU, three, p], "shortcut": [p]}
    yield "a sum of pools", Case(shape, [three, pools, RELU, GAP])
    larger = {"layer": "ImageResize", "shape": [-1, 5, 3, -1], "method": "linear"}
    yield "a map", Case(shape, [three, RELU, larger, three, RELU, larger, GAP])
    yield "no halo", Case(shape, [conv((1, 1)), RELU, GAP])
    for name, block in (("residual", residual), ("projected", projected)):
        yield name, Case(shape, [three, block, GAP, DENSE, RELU, DENSE])
        yield f"{name}, pooled", Case(shape, [three, p, block, GAP])
    yield "one image, a row wide", Case((1, 6, 1), [conv((1, 3)), RELU, GAP], (), USUAL, "float32")
    for padding in ("SAME", "CIRCULAR"):  # too many pixels for a chart
        handed = [conv((3, 3), padding), RELU, pool((2, 2), (2, 2), "VALID"), three, GAP]
        yield f"rows handed on {padding}", Case((2, 74, 1), handed)
    deep = {"layer": "Repeat", "times": 3, "body": [RELU, three]}
    yield "depths", Case(shape, [three, deep, GAP], (1, 3))
    yield "depths, dense", Case(shape, [three, deep, FLATTEN, DENSE], (1, 3))


def cases() -> Iterator[tuple[str, Case]]:
    """All cases by name, always the same."""
    for name, case in images():
        yield name, case
        # Planes apart know nothing of the padding but where windows end: two kinds of it.
        if "CIRCULAR" not in name:
            yield f"{name}, planes apart", case._replace(planes=NONE)
    three = conv((3, 3))
    block = {"layer": "Residual", "branch": [RELU, three], "shortcut": []}
    yield "in place", Case((4, 4, 1), [three, block, block, RELU, three, GAP], planes=TIGHT)
    body = [{"layer": "Residual", "branch": [RELU, DENSE], "shortcut": []}, RELU, DENSE]
    vectors = [DENSE, {"layer": "Repeat", "times": 2, "body": body}, DENSE]
    for dtype in ("float32", "float64"):
        yield f"vectors {dtype}", Case((7,), vectors, (1, 2), dtype=dtype, count=64)


def digests() -> dict[str, str]:
    """A digest of the matrices of each case: symmetric ones, and with one other input."""
    from fresh_tables import fresh_tables
    from widegram.backends.job import Job
    from widegram.cpu import CpuEvaluator, in_cache
    from widegram.data import open_source
    from widegram.network import load_network

    found = {}
    for name, case in cases():
        network = load_network({"input_shape": list(case.shape), "layers": case.layers})
        x = np.random.default_rng(3).standard_normal((case.count, *case.shape))
        digest = hashlib.sha256()
        for other in (None, x[:1] + 0.5):
            second = None if other is None else open_source(other)
            job = Job(
                network=network, x1=open_source(x), x2=second, kernels=("nngp", "ntk"),
                depths=case.depths, dtype=case.dtype, threads=1,
            )  # fmt: skip
            cols = range(case.count if other is None else 1)
            with (
                fresh_tables(),
                mock.patch.object(in_cache, "PLANES_BYTES", case.planes),
                CpuEvaluator(job) as evaluator,
            ):
                matrices = evaluator.tile(range(case.count), cols, other is None)
            for key in sorted(matrices):
                digest.update(key.encode() + matrices[key].tobytes())
        found[name] = digest.hexdigest()
    return found


def main() -> None:
    """Run the cases with the driver as Python."""
    import coverage

    os.environ["WIDEGRAM_INTERPRET"] = "1"
    engine = Path(__file__).parents[1] / "engine"
    driver = engine / "widegram" / "cpu" / "driver"
    # lowered.py holds the compiled forms of what here runs as Python.
    lines = coverage.Coverage(
        data_file=None, config_file=False, include=[f"{driver}/*"], omit=["*/lowered.py"]
    )
    lines.start()
    found = digests()
    lines.stop()
    with open(os.devnull, "w") as nowhere:
        percent = lines.report(file=nowhere)
    missing = {}
    for path in sorted(lines.get_data().measured_files()):
        missing[Path(path).name] = lines.analysis2(path)[3]
    Path(sys.argv[1]).write_text(
        json.dumps({"digests": found, "percent": percent, "missing": missing})
    )


if __name__ == "__main__":
    main()
