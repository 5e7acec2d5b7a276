"""Networks of masked inputs, for any ``stax``.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, so that neural-tangents' environment can run it too
(``golden_values.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]
# By name: the network, the inputs x1 and x2, the mask constant, and what else kernel_fn gets.
Networks = Iterator[tuple[Any, ...]]
WEIGHTS = {"W_std": 1.2, "b_std": 0.3}
ENDS = ("Flatten", "GlobalAvgPool", "GlobalSumPool")


def padded(name: str, shape: tuple[int, ...], mask: float) -> tuple[np.ndarray, np.ndarray]:
    """Three and four sequences (L, C) of different lengths, ``mask`` behind their ends; the last of
    x1 is none at all, one of x2 has all its length."""
    rng = np.random.default_rng(sum(name.encode()))
    x1, x2 = (rng.standard_normal((n, *shape)) for n in (3, 4))
    for x, lengths in ((x1, (0.7, 0.4, 0.0)), (x2, (1.0, 0.5, 0.2, 0.8))):
        for row, part in zip(x, lengths, strict=True):
            row[round(part * shape[0]) :] = mask
    return x1, x2


def holed(name: str, shape: tuple[int, ...], mask: float) -> tuple[np.ndarray, np.ndarray]:
    """Images (H, W, C) with missing pixels, rows and single channels; one with none missing."""
    rng = np.random.default_rng(sum(name.encode()))
    x1, x2 = (rng.standard_normal((n, *shape)) for n in (3, 2))
    x1[0, rng.random(shape[:2]) < 0.4] = mask
    x1[1, 1] = mask
    x1[1, 0, 0, :1] = mask
    x2[0, :, -2:] = mask
    x2[0, rng.random(shape[:2]) < 0.2] = mask
    return x1, x2


def sequences(stax: Any) -> Networks:
    """Sequences of different lengths, by every padding and end."""
    for padding in ("SAME", "VALID", "CIRCULAR"):
        # neural-tangents has no circular pools of masked inputs
        pools = [] if padding == "CIRCULAR" else [stax.AvgPool((3,), (2,), padding)]
        for end in ENDS:
            layers = [stax.Conv(1, (3,), (2,), padding, **WEIGHTS), stax.Relu(),
                      stax.Conv(1, (2,), None, padding, 1.1, 0.1), stax.Erf(), *pools,
                      getattr(stax, end)(), stax.Dense(1, **WEIGHTS)]  # fmt: skip
            name = f"{padding} {end}"
            yield name, stax.serial(*layers), *padded(name, (11, 2), -100.0), -100.0
    layers = [stax.Conv(1, (4,), padding="SAME", **WEIGHTS), stax.Relu(),
              stax.SumPool((2,), None, "SAME"), stax.Dense(1, 1.1, 0.2), stax.Cos(),
              stax.AvgPool((3,), (2,), "SAME", True), stax.Conv(1, (3,)), stax.Relu(),
              stax.GlobalAvgPool(), stax.Dense(1, 1.2, 0.1), stax.Erf(), stax.Dense(1)]  # fmt: skip
    yield "pools", stax.serial(*layers), *padded("pools", (12, 3), np.nan), np.nan
    layers = [stax.Dense(1, **WEIGHTS), stax.Relu(), stax.ConvLocal(1, (3,), padding="SAME"),
              stax.Sin(), stax.Dropout(0.7), stax.Index(stax.Slice[:, 1:-1]),
              stax.Conv(1, (2,), **WEIGHTS), stax.Gelu(), stax.GlobalAvgPool()]  # fmt: skip
    yield "local", stax.serial(*layers), *padded("local", (8, 2), np.inf), np.inf


def images(stax: Any) -> Networks:
    """Images with missing pixels, by every padding, strides, pool and end."""
    for n, padding in enumerate(("SAME", "VALID", "CIRCULAR")):
        for strides in (None, (2, 1)):
            for pool in ("AvgPool", "SumPool"):
                between = [getattr(stax, pool)((2, 3), strides, padding)]
                if padding == "CIRCULAR":
                    between = []
                end = ENDS[(n + (strides is None) + (pool == "SumPool")) % 3]
                layers = [stax.Conv(1, (3, 2), strides, padding, **WEIGHTS), stax.Relu(), *between,
                          stax.Conv(1, (1, 2), None, padding, 1.1, 0.2), stax.Erf(),
                          getattr(stax, end)(), stax.Dense(1, 1.3, 0.1)]  # fmt: skip
                name = f"{padding} {strides} {pool}"
                yield name, stax.serial(*layers), *holed(name, (7, 6, 2), np.nan), np.nan
    for padding, window in (("SAME", (3, 3)), ("SAME", (5, 9)), ("VALID", (2, 2))):
        layers = [stax.Conv(1, (3, 3), padding="SAME", **WEIGHTS), stax.Relu(),
                  stax.AvgPool(window, (1, 2), padding, True), stax.Conv(1, (2, 2), **WEIGHTS),
                  stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1)]  # fmt: skip
        name = f"edges {padding} {window}"
        yield name, stax.serial(*layers), *holed(name, (5, 7, 2), 0.0), 0.0
    layers = [stax.AvgPool((2, 2)), stax.Conv(1, (2, 3), **WEIGHTS), stax.Relu()]
    for end in ENDS:
        network = stax.serial(*layers, getattr(stax, end)())
        yield f"pool first {end}", network, *holed(end, (5, 6, 1), -1.0), -1.0


def norms(stax: Any) -> Networks:
    """LayerNorm over channels, and over pixels that are visible."""
    for axis in (-1, (1, 2, 3), (2, 3)):
        conv = stax.Conv(1, (3, 2), padding="SAME", **WEIGHTS)
        layers = [conv, stax.LayerNorm(axis), stax.Erf(), conv, stax.LayerNorm(axis), stax.Relu()]
        for end in ENDS:
            name = f"{axis} {end}"
            network = stax.serial(*layers, getattr(stax, end)(), stax.Dense(1, **WEIGHTS))
            yield name, network, *holed(name, (4, 5, 2), np.nan), np.nan
    layers = [stax.Conv(1, (3,), (2,), **WEIGHTS), stax.LayerNorm((1, 2)), stax.Relu(),
              stax.GlobalAvgPool(), stax.Dense(1), stax.LayerNorm(), stax.Sin()]  # fmt: skip
    yield "sequence", stax.serial(*layers), *padded("sequence", (9, 2), np.nan), np.nan


def branches(stax: Any) -> Networks:
    """Residual blocks: a pixel of a sum is visible where it is in either branch."""
    conv, dense = stax.Conv(1, (3, 3), padding="SAME", **WEIGHTS), stax.Dense(1, 1.1, 0.2)
    for end in ENDS:
        block = stax.serial(stax.FanOut(2), stax.parallel(
            stax.serial(stax.Relu(), conv), stax.Identity()), stax.FanInSum())  # fmt: skip
        network = stax.serial(conv, block, stax.LayerNorm(), block, stax.Erf(),
                              getattr(stax, end)(), dense)  # fmt: skip
        yield f"identity {end}", network, *holed(end, (4, 5, 2), np.nan), np.nan
        # The middles of the two windows are different pixels.
        block = stax.serial(stax.FanOut(2), stax.parallel(
            stax.serial(stax.Relu(), stax.Conv(1, (3, 3), (2, 2), "SAME", **WEIGHTS)),
            stax.Conv(1, (1, 1), (2, 2), **WEIGHTS)), stax.FanInSum())  # fmt: skip
        layers = [conv, block, stax.Relu(), conv, stax.Relu(), getattr(stax, end)(), dense]
        name = f"strides {end}"
        yield name, stax.serial(*layers), *holed(name, (6, 8, 1), 5.0), 5.0


def activations(stax: Any) -> Networks:
    """Activations, those that are not 0 at 0 too."""
    for name, act in (
        ("Abs", stax.Abs()), ("LeakyRelu", stax.LeakyRelu(0.1)), ("Erf", stax.Erf(1.1, 0.9, 0.4)),
        ("Gelu", stax.Gelu()), ("Sin", stax.Sin(1.0, 1.1, 0.6)), ("Cos", stax.Cos(0.8)),
        ("Rbf", stax.Rbf(0.7)), ("Exp", stax.Exp(0.5, 0.4)), ("Gaussian", stax.Gaussian(1, -0.6)),
        ("Hermite", stax.Hermite(2)), ("Sigmoid_like", stax.Sigmoid_like()),
        ("Monomial", stax.Monomial(2)), ("Gabor", stax.Gabor()), ("Sign", stax.Sign()),
    ):  # fmt: skip
        conv = stax.Conv(1, (2, 3), padding="SAME", **WEIGHTS)
        network = stax.serial(conv, act, conv, act, stax.GlobalAvgPool(), stax.Dense(1, **WEIGHTS))
        yield name, network, *holed(name, (3, 4, 1), np.nan), np.nan


def vectors(stax: Any) -> Networks:
    """Vectors with missing features, one without any left."""
    dense = stax.Dense(1, **WEIGHTS)
    for name, layers in (
        ("relu", [dense, stax.Relu(), dense]),
        ("erf", [dense, stax.Erf(1.0, 1.0, 0.3), dense, stax.LayerNorm(), stax.Cos(), dense]),
        ("no bias", [stax.Dense(1), stax.Relu(), stax.Dense(1), stax.Abs()]),
        ("flattened", [stax.Flatten(), dense, stax.Relu(), stax.Dropout(0.8), dense]),
    ):  # fmt: skip
        shape = (2, 3, 2) if name == "flattened" else (7,)
        rng = np.random.default_rng(sum(name.encode()))
        x1, x2 = (rng.standard_normal((n, *shape)) for n in (3, 4))
        x1[0].reshape(-1)[2:5] = x1[2] = x2[1] = x2[3].reshape(-1)[:3] = np.nan
        yield name, stax.serial(*layers), x1, x2, np.nan


def maps(stax: Any) -> Networks:
    """ConvTranspose, ImageResize, DotGeneral; images are square where neural-tangents' layers do
    not know that a convolution before them has exchanged rows and columns."""
    conv = stax.Conv(1, (3, 3), padding="SAME", **WEIGHTS)
    tail = [stax.Conv(1, (2, 2), W_std=1.1, b_std=0.2), stax.Erf(), stax.GlobalAvgPool(),
            stax.Dense(1, **WEIGHTS)]  # fmt: skip
    for padding in ("SAME", "VALID", "CIRCULAR"):
        for window, strides in (((3, 2), (2, 3)), ((2, 4), (3, 1)), ((5, 3), (2, 2))):
            up = stax.ConvTranspose(1, window, strides, padding, 1.3, 0.2)
            name = f"{padding} {window} {strides}"
            x1, x2 = holed(name, (4, 3, 2), np.nan)
            yield name, stax.serial(up, stax.Relu(), *tail), x1, x2, np.nan
    for method in ("linear", "nearest"):
        for size, antialias in ((7, True), (3, True), (2, False)):
            resize = stax.ImageResize((-1, size, size, -1), method, antialias)
            name = f"{method} {size} {antialias}"
            network = stax.serial(conv, stax.Relu(), resize, *tail)
            yield name, network, *holed(name, (5, 5, 2), np.nan), np.nan
    mixed = stax.DotGeneral(rhs=np.array([1.0, 0.0, -0.5]),
                            dimension_numbers=(((1,), (0,)), ((), ())))  # fmt: skip
    end = [stax.Dense(1, **WEIGHTS), stax.Relu(), stax.GlobalAvgPool()]
    for name, layers in (
        ("mixed", [conv, stax.Relu(), mixed]), ("mixed first", [mixed]),
        ("number", [conv, stax.Cos(), stax.DotGeneral(rhs=-0.5)]),
    ):  # fmt: skip
        yield name, stax.serial(*layers, *end), *holed(name, (3, 3, 2), np.nan), np.nan


def joins(stax: Any) -> Networks:
    """FanInProd and FanInConcat: masks of branches meet too."""
    conv, dense = stax.Conv(3, (3,), padding="SAME", **WEIGHTS), stax.Dense(3, 1.1, 0.2)
    wide, short = stax.Conv(5, (2,), (2,), **WEIGHTS), stax.Conv(3, (3,), (2,), "SAME", **WEIGHTS)
    gate, cosine = stax.serial(conv, stax.Sigmoid_like()), stax.serial(stax.Cos(), conv)
    thin = stax.Conv(3, (1,), (2,), **WEIGHTS)
    for kind, join, branches in (
        ("product", stax.FanInProd(), (gate, stax.serial(stax.Relu(), conv))),
        ("other product", stax.FanInProd(), (stax.serial(short, stax.Erf()), thin)),
        ("channels", stax.FanInConcat(-1), (stax.serial(stax.Relu(), short), wide)),
        ("side by side", stax.FanInConcat(1), (stax.serial(stax.Relu(), short), cosine)),
        ("sum", stax.FanInSum(), (short, thin, short)),
    ):  # fmt: skip
        both = stax.serial(stax.FanOut(len(branches)), stax.parallel(*branches), join)
        for end in (stax.GlobalAvgPool, stax.Flatten):
            name = f"{kind} {end.__name__}"
            network = stax.serial(conv, both, dense, stax.Relu(), end(), dense)
            yield name, network, *padded(name, (8, 2), np.nan), np.nan


def attention(stax: Any) -> Networks:
    """GlobalSelfAttention: nothing attends to masked pixels, which have no embeddings."""
    conv, dense = stax.Conv(3, (3,), padding="SAME", **WEIGHTS), stax.Dense(3, 1.1, 0.2)
    for kind, values, own in (("NONE", False, "SOFTMAX"), ("SUM", False, "RELU"),
                              ("SUM", True, "SOFTMAX"), ("CONCAT", True, "IDENTITY")):  # fmt: skip
        for mechanism, linear in ((own, True), ("IDENTITY", False)):
            attend = stax.GlobalSelfAttention(
                3, 1, 1, 1, linear, 1.1, 0.9, 0.8, 1.2, 0.3, mechanism, kind,
                W_pos_emb_std=0.7, val_pos_emb=values,
            )  # fmt: skip
            name = f"{mechanism} {linear} {kind} {values}"
            x1, x2 = padded(name, (6, 2), np.nan)
            yield name, stax.serial(conv, stax.Cos(), attend, stax.Relu(),
                                    stax.GlobalAvgPool(), dense), x1, x2, np.nan  # fmt: skip
    attend = stax.GlobalSelfAttention(3, 1, 1, 1, b_std=0.2)
    conv = stax.Conv(3, (2, 2), padding="SAME", **WEIGHTS)
    for end in ENDS:
        network = stax.serial(attend, stax.Erf(), conv, stax.Relu(), attend, getattr(stax, end)())
        yield f"images {end}", network, *holed(end, (3, 3, 2), np.nan), np.nan


def graphs(stax: Any) -> Networks:
    """Aggregate: masked vertices send nothing, and stay masked whatever they receive."""
    dense, relu = stax.Dense(1, 1.2, 0.3), stax.Relu()
    rng = np.random.default_rng(9)
    weights = [rng.standard_normal((n, 5, 5)).round(1) for n in (3, 4)]
    edges = [rng.integers(0, 5, (n, 7, 2)) for n in (3, 4)]
    edges[0][1, 2:, 1] = -1
    for end in ENDS:
        for kind, pattern in (("DENSE", weights), ("SPARSE", edges)):
            aggregate = stax.Aggregate(implementation=kind)
            layers = [dense, stax.Cos(), aggregate, dense, relu, aggregate, getattr(stax, end)()]
            name = f"{kind} {end}"
            x1, x2 = padded(name, (5, 2), np.nan)
            network = stax.serial(*layers, dense)
            yield name, network, x1, x2, np.nan, {"pattern": tuple(pattern)}
    conv = stax.Conv(1, (2, 2), padding="SAME", **WEIGHTS)
    rows = [rng.standard_normal((n, 3, 3)).round(1) for n in (3, 2)]
    network = stax.serial(conv, relu, stax.Aggregate(1), dense, relu, stax.GlobalAvgPool())
    yield "rows", network, *holed("rows", (3, 4, 2), np.nan), np.nan, {"pattern": tuple(rows)}
    network = stax.serial(stax.Aggregate(), dense, stax.Erf(), stax.GlobalAvgPool())
    x1, x2 = padded("first", (5, 1), np.nan)
    yield "first", network, x1, x2, np.nan, {"pattern": tuple(weights)}
    network = stax.serial(dense, stax.Aggregate(), dense, relu, stax.GlobalAvgPool())
    x1, x2 = padded("no pattern", (5, 2), np.nan)
    yield "no pattern", network, x1, x2, np.nan, {"pattern": (None, None)}


FAMILIES = {
    "sequences": sequences, "images": images, "norms": norms, "branches": branches,
    "activations": activations, "vectors": vectors, "maps": maps, "joins": joins,
    "attention": attention, "graphs": graphs,
}  # fmt: skip
MORE = ("kernels",)  # of Kernels, not of networks


def run(stax: Any, families: Any = FAMILIES, dtype: Any = np.float64) -> Values:
    """nngp, ntk, cov1, cov2, mask1, mask2 of every network, by name, for inputs of ``dtype``."""
    found: Values = {}
    for family in families:
        if family == "kernels":
            found |= kernels(stax)
            continue
        for name, (_, _, kernel_fn), x1, x2, mask, *more in FAMILIES[family](stax):
            options = more[0] if more else {}
            kernel = kernel_fn(x1.astype(dtype), x2.astype(dtype), mask_constant=mask, **options)
            for field in ("nngp", "ntk", "cov1", "cov2", "mask1", "mask2"):
                found[f"{family}/{name}/{field}"] = np.asarray(getattr(kernel, field))
    return found


def kernels(stax: Any) -> Values:
    """Kernels of images with masks, and Kernels that kernel_fn goes on from."""
    conv, dense = stax.Conv(3, (3, 3), padding="SAME", **WEIGHTS), stax.Dense(3, 1.1, 0.2)
    x1, x2 = holed("kernels", (4, 5, 2), np.nan)
    body = stax.serial(conv, stax.Relu(), conv)[2]
    tops = (
        ("relu", stax.serial(stax.Erf(), stax.Conv(3, (2, 2), **WEIGHTS), stax.Relu())),
        ("pooled", stax.serial(
            stax.LayerNorm((1, 2, 3)), stax.Relu(), stax.GlobalAvgPool(), dense)),
        ("flat", stax.serial(stax.Erf(), stax.Flatten())),
        ("dense", stax.serial(stax.Erf(), stax.Flatten(), dense, stax.Relu())),
    )  # fmt: skip
    made = {"cross": body(x1, x2, mask_constant=np.nan), "same": body(x1, mask_constant=np.nan)}
    made["identity"] = stax.Identity()[2](x1, x2, mask_constant=np.nan)
    made["half"] = body(x1, np.nan_to_num(x2), mask_constant=np.nan)
    made |= {f"{name} {first}": top[2](made[first])
             for name, top in tops for first in ("cross", "same")}  # fmt: skip
    mask1, mask2 = (np.asarray(m) for m in (made["cross"].mask2, made["cross"].mask1))
    mask1, mask2 = mask1[[0, 1, 0]], mask2[:2]
    made["masked"] = made["cross"].mask(mask1, mask2)
    made["sliced"] = made["cross"].slice(slice(1, None), slice(0, 1))
    made["cut"] = made["cross"][:, 1:3, ::2]
    return {f"kernels/{name}/{f}": v for name, k in made.items() for f, v in fields(k)}


def fields(kernel: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of a Kernel in the order of its axes, at most 60 numbers of each, and its masks."""
    kernel = kernel.reverse() if kernel.is_reversed else kernel
    for field in ("nngp", "ntk", "cov1", "cov2", "mask1", "mask2"):
        value = getattr(kernel, field)
        if value is not None:
            value = np.asarray(value)
            if field == "ntk":  # neural-tangents leaves a number where a network has no weights
                value = np.broadcast_to(value, kernel.nngp.shape)
            yield f"{field} shape", np.array(value.shape)
            places = np.random.default_rng(value.size).permutation(value.size)[:60]
            yield field, value.ravel()[places]
