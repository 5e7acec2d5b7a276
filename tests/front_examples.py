"""Networks whose inputs, layers or axes are not those of channels-last images, for any ``stax``.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, and what does, so that neural-tangents' environment can run it too
(``golden_values.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from map_examples import inputs

Values = dict[str, np.ndarray]
# By name: the network, and the shapes of x1 and x2.
Networks = Iterator[tuple[str, Any, tuple[int, ...], tuple[int, ...]]]


def norms(stax: Any) -> Networks:
    """LayerNorm with an eps of its own: beside variances of its size, far larger, far smaller."""
    for eps in (0.3, 1e-3, 50.0):
        dense = stax.Dense(1, 1.3, 0.2)
        layers = [dense, stax.LayerNorm(eps=eps), stax.Relu(), dense]
        yield f"vectors {eps}", stax.serial(*layers, *layers), (3, 5), (2, 5)
    for axis in (-1, (1, 2, 3), (2, 3)):
        conv = stax.Conv(1, (3, 2), padding="SAME", W_std=1.2, b_std=0.3)
        layers = [conv, stax.LayerNorm(axis, 0.2), stax.Erf(), conv]
        for end in (stax.Flatten, stax.GlobalAvgPool):
            name = f"images {axis} {end.__name__}"
            yield name, stax.serial(*layers, end(), dense), (2, 4, 5, 2), (2, 4, 5, 2)
    layers = [conv, stax.AvgPool((2, 3)), stax.LayerNorm((1, 3), 0.1), stax.Relu(), conv]
    yield "pooled", stax.serial(*layers, stax.GlobalAvgPool(), dense), (2, 5, 6, 1), (3, 5, 6, 1)


def edges(stax: Any) -> Networks:
    """AvgPool(normalize_edges=True): paddings, windows wider than the image, strides."""
    for padding, window, strides in (
        ("SAME", (3, 3), None), ("SAME", (2, 3), (2, 1)), ("SAME", (5, 9), (1, 2)),
        ("VALID", (2, 3), (2, 1)), ("CIRCULAR", (3, 2), None),
    ):  # fmt: skip
        for end in (stax.Flatten, stax.GlobalAvgPool):
            layers = [stax.Conv(1, (3, 2), padding="SAME", W_std=1.2, b_std=0.3), stax.Relu(),
                      stax.AvgPool(window, strides, padding, True),
                      stax.Conv(1, (2, 2), W_std=1.1), stax.Relu()]  # fmt: skip
            name = f"{padding} {window} {strides} {end.__name__}"
            network = stax.serial(*layers, end(), stax.Dense(1, 1.2, 0.1))
            yield name, network, (2, 5, 6, 2), (3, 5, 6, 2)


def sequences(stax: Any) -> Networks:
    """Inputs (n, L, C): windows and strides of one number, LayerNorm over channels and all."""
    for padding in ("SAME", "VALID", "CIRCULAR"):
        for end in (stax.Flatten, stax.GlobalAvgPool, stax.GlobalSumPool):
            layers = [stax.Conv(1, (3,), (2,), padding, 1.2, 0.3), stax.Relu(),
                      stax.Conv(1, (2,), None, padding, 1.1, 0.1), stax.LayerNorm((1, 2)),
                      stax.Erf(), stax.AvgPool((3,), (2,), padding)]  # fmt: skip
            network = stax.serial(*layers, end(), stax.Dense(1, 1.2, 0.1))
            yield f"{padding} {end.__name__}", network, (2, 13, 2), (3, 13, 2)
    dense = stax.Dense(1, 1.1, 0.2)
    layers = [dense, stax.LayerNorm(), stax.Relu(), stax.ConvLocal(1, (3,), padding="SAME"),
              stax.SumPool((2,), None, "CIRCULAR"), stax.Conv(1, (4,)), stax.Relu()]  # fmt: skip
    yield "local", stax.serial(*layers, stax.GlobalAvgPool()), (2, 7, 3), (2, 7, 3)
    layers = [stax.Conv(1, (3,), padding="SAME"), stax.Relu(),
              stax.AvgPool((4,), (3,), "SAME", True), dense, stax.Erf()]  # fmt: skip
    yield "edges", stax.serial(*layers, stax.GlobalAvgPool(), dense), (2, 8, 1), (2, 8, 1)
    yield "flattened", stax.serial(stax.Flatten(), dense, stax.Relu()), (3, 4, 3), (2, 4, 3)


def axes(stax: Any) -> Networks:
    """Batch and channels on other axes, by every argument that names them."""
    nchw, nhwc = ("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NHWC")
    weights = {"W_std": 1.2, "b_std": 0.3}
    for end in (stax.GlobalAvgPool, stax.GlobalSumPool):
        network = stax.serial(
            stax.Conv(1, (3, 2), (1, 2), "SAME", dimension_numbers=nchw, **weights),
            stax.LayerNorm((1, 3), channel_axis=1), stax.Relu(),
            stax.AvgPool((2, 3), (2, 1), "SAME", True, channel_axis=1), stax.Dropout(0.7),
            stax.ConvLocal(1, (2, 2), None, "CIRCULAR", dimension_numbers=nchw, **weights),
            stax.Erf(), end(channel_axis=1), stax.Dense(1, **weights),
        )  # fmt: skip
        yield f"NCHW {end.__name__}", network, (2, 3, 5, 6), (3, 3, 5, 6)
    network = stax.serial(
        stax.Dense(1, 1.3, 0.1, batch_axis=2, channel_axis=0), stax.Relu(),
        stax.Conv(1, (3, 2), (2, 1), "SAME", dimension_numbers=("CHNW", "WIOH", "NWHC"), **weights),
        stax.Relu(), stax.Conv(1, (2, 3), padding="SAME", dimension_numbers=nhwc, **weights),
        stax.SumPool((1, 3), (2, 1)), stax.Erf(), stax.Flatten(batch_axis_out=1),
        stax.Dense(1, 1.1, batch_axis=1, channel_axis=0),
    )  # fmt: skip
    yield "moved", network, (2, 5, 3, 4), (2, 5, 2, 4)
    network = stax.serial(
        stax.Conv(1, (3,), dimension_numbers=("NCH", "OIH", "NCH"), **weights), stax.Relu(),
        stax.AvgPool((2,), channel_axis=1), stax.GlobalAvgPool(0, 1), stax.Dense(1),
    )  # fmt: skip
    yield "NCH", network, (2, 3, 8), (2, 3, 8)
    branch = stax.serial(
        stax.Relu(), stax.Conv(1, (3, 2), padding="SAME", dimension_numbers=nchw, **weights)
    )
    network = stax.serial(
        stax.Conv(1, (1, 3), padding="SAME", dimension_numbers=nchw), stax.FanOut(2),
        stax.parallel(branch, stax.Identity()), stax.FanInSum(), stax.Relu(),
        stax.GlobalAvgPool(channel_axis=1), stax.Dense(1, batch_axis=0, channel_axis=1),
    )  # fmt: skip
    yield "branches", network, (2, 2, 4, 5), (2, 2, 4, 5)
    dense = stax.Dense(1, 1.1, 0.2, batch_axis=1, channel_axis=0)
    yield "features first", stax.serial(dense, stax.Relu(), dense), (5, 3), (5, 2)
    network = stax.serial(stax.Flatten(), stax.Dense(1), stax.Erf())
    yield "Flatten first", network, (3, 4, 2), (3, 4, 2)


def index(stax: Any) -> Networks:
    """Index: slices of images and of the batch, strides, integers, axes of other orders."""
    conv, relu = stax.Conv(1, (3, 2), padding="SAME", W_std=1.2, b_std=0.3), stax.Relu()
    for name, idx in (
        ("crop", stax.Slice[:, 1:4, :-2]), ("strides", stax.Slice[:, ::2, 1::3]),
        ("batch", stax.Slice[1:, :3]), ("one pixel", stax.Slice[:, 2:3, -1:]),
        ("channels", stax.Slice[..., 1:5, :]),
    ):  # fmt: skip
        for end in (stax.Flatten, stax.GlobalAvgPool):
            layers = [conv, relu, stax.Index(idx), stax.Conv(1, (1, 1), W_std=1.1), stax.Erf()]
            network = stax.serial(*layers, end(), stax.Dense(1))
            yield f"{name} {end.__name__}", network, (3, 5, 6, 2), (4, 5, 6, 2)
    for name, idx in (("row", stax.Slice[:, 3]), ("column", stax.Slice[:, 1:, -2, :])):
        layers = [conv, relu, stax.Index(idx), stax.Conv(1, (3,), (2,)), relu]
        yield name, stax.serial(*layers, stax.GlobalAvgPool()), (2, 5, 8, 2), (2, 5, 8, 2)
    layers = [conv, stax.Index(stax.Slice[:, 0, 2]), relu, stax.Dense(1, 1.1, 0.1)]
    yield "pixel", stax.serial(*layers), (2, 3, 4, 1), (3, 3, 4, 1)
    layers = [stax.Index(stax.Slice[:, :, 1:4, ::2], channel_axis=1),
              stax.Conv(1, (2, 2), dimension_numbers=("NCHW", "OIHW", "NCHW")), relu,
              stax.Index(stax.Slice[:, ..., 0], channel_axis=1),
              stax.Conv(1, (2,), dimension_numbers=("NCH", "OIH", "NCH")), relu]  # fmt: skip
    network = stax.serial(*layers, stax.GlobalAvgPool(channel_axis=1))
    yield "NCHW", network, (2, 2, 5, 6), (2, 2, 5, 6)
    later = (slice(None), slice(2, None, 2))
    layers = [stax.Conv(1, (3,), padding="SAME"), stax.Index(later), relu]
    network = stax.serial(*layers, stax.Flatten(), stax.Dense(1))
    yield "sequence", network, (2, 9, 1), (2, 9, 1)


FAMILIES = {"norms": norms, "edges": edges, "sequences": sequences, "axes": axes, "index": index}


def run(stax: Any, families: Any = FAMILIES) -> Values:
    """nngp, ntk, cov1, cov2 of every network, by name, float64."""
    found: Values = {}
    for family in families:
        for name, (_, _, kernel_fn), first, second in FAMILIES[family](stax):
            x1, x2 = inputs(name, 0, first), inputs(name, 1, second)
            kernel = kernel_fn(x1, x2)
            for field in ("nngp", "ntk", "cov1", "cov2"):
                found[f"{family}/{name}/{field}"] = np.asarray(getattr(kernel, field))
    return found
