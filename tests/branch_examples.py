"""Networks whose branches meet, and networks of several inputs, for any ``stax``.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, so that neural-tangents' environment can run it too
(``golden_values.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]
# By name: the network, and the shapes of an input of x1 and x2, or of each of several.
Networks = Iterator[tuple[str, Any, Any]]
WEIGHTS = {"W_std": 1.3, "b_std": 0.2}


def conv(stax: Any, *window: int, padding: str = "SAME", width: int = 4, **more: Any) -> Any:
    return stax.Conv(width, window, padding=padding, **WEIGHTS, **more)


def fan(stax: Any, join: Any, *branches: Any) -> Any:
    return stax.serial(stax.FanOut(len(branches)), stax.parallel(*branches), join)


def sums(stax: Any) -> Networks:
    """FanInSum of several branches without weights."""
    dense, relu, same = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.Identity()
    three, join = conv(stax, 3, 3), stax.FanInSum()
    deep = stax.serial(relu, dense)
    yield "two identities", stax.serial(dense, fan(stax, join, same, deep, same), relu, dense), (5,)
    layers = [three, fan(stax, join, same, same, same), relu, three, relu, stax.GlobalAvgPool()]
    yield "nothing but identities", stax.serial(*layers), (4, 5, 2)
    inner = fan(stax, join, same, same)
    layers = [three, fan(stax, join, inner, same, stax.serial(relu, three)), stax.Erf(), three]
    yield "nested", stax.serial(*layers, stax.Flatten(), dense), (4, 3, 1)
    pool = stax.AvgPool((2, 2), padding="SAME")
    layers = [three, fan(stax, join, pool, same, stax.serial(relu, three), same), relu]
    yield "pools", stax.serial(*layers, stax.GlobalAvgPool(), dense), (4, 4, 1)
    block = stax.serial(fan(stax, join, same, same, deep), relu, dense)
    yield "again", stax.serial(dense, block, block, stax.LayerNorm(), stax.Gelu()), (6,)


def products(stax: Any) -> Networks:
    """FanInProd: gates, powers, pools and flattened ends."""
    dense, relu, same = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.Identity()
    three, join = conv(stax, 3, 3), stax.FanInProd()
    erf, gap = stax.serial(dense, stax.Erf()), stax.GlobalAvgPool()
    layers = [fan(stax, join, stax.serial(dense, relu), erf), dense, relu, dense]
    yield "vectors", stax.serial(*layers), (5,)
    layers = [dense, fan(stax, join, same, stax.serial(relu, dense), same, erf)]
    yield "powers", stax.serial(*layers), (5,)
    yield "of the input", stax.serial(fan(stax, join, same, dense), dense, stax.Gelu()), (4,)
    gate = stax.serial(three, stax.Sigmoid_like())
    for end in (stax.GlobalAvgPool, stax.GlobalSumPool, stax.Flatten):
        layers = [three, relu, fan(stax, join, gate, three), three, relu, end(), dense]
        yield f"gate {end.__name__}", stax.serial(*layers), (4, 5, 2)
    wrap = conv(stax, 3, 3, padding="CIRCULAR")
    layers = [wrap, fan(stax, join, stax.serial(relu, wrap, relu), wrap), gap]
    yield "torus", stax.serial(*layers), (4, 3, 1)
    half = stax.Conv(4, (2, 2), (2, 2), "SAME", **WEIGHTS)
    pooled = stax.serial(stax.AvgPool((2, 2), (2, 2), "SAME"), relu, three)
    layers = [three, fan(stax, join, half, pooled), stax.AvgPool((2, 2)), dense, relu, gap]
    yield "strides and pools", stax.serial(*layers), (6, 5, 1)
    inner = fan(stax, stax.FanInSum(), three, same)
    layers = [three, fan(stax, join, inner, stax.serial(relu, three), stax.Dropout(0.6)), three]
    yield "sums inside", stax.serial(*layers, relu, stax.Flatten()), (3, 4, 2)
    layers = [fan(stax, join, conv(stax, 3), stax.serial(conv(stax, 2), relu))]
    yield "sequences", stax.serial(*layers, conv(stax, 2), stax.Erf(), gap), (7, 2)


def channels(stax: Any) -> Networks:
    """FanInConcat along channels, of branches of several widths."""
    dense, relu, same = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.Identity()
    wide, gap = stax.Dense(7, 1.1, 0.3), stax.GlobalAvgPool()
    layers = [fan(stax, stax.FanInConcat(), same, stax.serial(dense, relu), wide), dense, relu]
    yield "vectors", stax.serial(*layers), (5,)
    equal = fan(stax, stax.FanInConcat(-1), stax.serial(dense, relu), dense, dense)
    yield "one width", stax.serial(equal, dense, relu), (3,)
    three, narrow = conv(stax, 3, 3, width=6), conv(stax, 1, 3, width=2)
    for end in (stax.GlobalAvgPool, stax.Flatten):
        parts = [same, stax.serial(narrow, relu), stax.serial(relu, three)]
        layers = [three, fan(stax, stax.FanInConcat(3), *parts), narrow, stax.Erf(), end(), dense]
        yield f"images {end.__name__}", stax.serial(*layers), (4, 5, 2)
    pool = stax.AvgPool((2, 2), padding="SAME")
    layers = [fan(stax, stax.FanInConcat(-1), pool, narrow, three), stax.AvgPool((2, 1)), gap]
    yield "pools", stax.serial(*layers, dense, relu, dense), (4, 4, 1)
    standard = stax.Conv(5, (2, 2), padding="SAME", parameterization="standard", W_std=1.2)
    both = fan(stax, stax.FanInConcat(), stax.serial(relu, three), narrow)
    layers = [three, both, standard, relu, gap, stax.Dense(1, parameterization="standard")]
    yield "standard", stax.serial(*layers), (3, 4, 2)
    inner = fan(stax, stax.FanInConcat(), same, narrow)
    layers = [three, fan(stax, stax.FanInConcat(), inner, stax.serial(relu, three)), stax.Flatten()]
    yield "nested", stax.serial(*layers, dense, relu, dense), (3, 3, 1)


def spaces(stax: Any) -> Networks:
    """FanInConcat along axes of images."""
    dense, relu, same = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.Identity()
    three, gap, flat = conv(stax, 3, 3), stax.GlobalAvgPool(), stax.Flatten()
    valid = conv(stax, 2, 1, padding="VALID")
    for end in (gap, flat):
        layers = [three, fan(stax, stax.FanInConcat(1), same, stax.serial(relu, valid)), relu]
        name = "rows" if end is gap else "rows, flattened"
        yield name, stax.serial(*layers, three, relu, end, dense), (4, 3, 2)
    wrap = conv(stax, 3, 3, padding="CIRCULAR")
    layers = [wrap, fan(stax, stax.FanInConcat(2), three, wrap, same), stax.Erf(), wrap, relu]
    yield "columns", stax.serial(*layers, gap, dense), (3, 4, 1)
    half = stax.Conv(4, (2, 2), (2, 1), "SAME", **WEIGHTS)
    pooled = stax.serial(relu, three, stax.AvgPool((3, 1), (2, 1)))
    layers = [three, fan(stax, stax.FanInConcat(1), half, pooled), stax.LayerNorm((1, 3)), relu]
    yield "strides and pools", stax.serial(*layers, stax.AvgPool((2, 2)), flat, dense), (6, 4, 1)
    layers = [conv(stax, 3), fan(stax, stax.FanInConcat(-2), conv(stax, 2), same), relu]
    yield "sequences", stax.serial(*layers, conv(stax, 3), relu, gap), (6, 2)
    nchw = {"dimension_numbers": ("NCHW", "OIHW", "NCHW"), **WEIGHTS}
    first = stax.Conv(4, (3, 2), padding="SAME", **nchw)
    for axis in (1, 2, -1):
        layers = [first, fan(stax, stax.FanInConcat(axis), stax.serial(relu, first), first)]
        network = stax.serial(*layers, first, relu, stax.GlobalAvgPool(channel_axis=1))
        yield f"NCHW {axis}", network, (2, 3, 4)


def inputs(stax: Any) -> Networks:
    """parallel over several inputs."""
    dense, relu, gap = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.GlobalAvgPool()
    deep, three = stax.serial(dense, relu, dense), conv(stax, 3, 3)
    image = stax.serial(three, relu, gap, dense)
    layers = [stax.parallel(dense, deep), stax.FanInSum(), relu, dense]
    yield "two vectors", stax.serial(*layers), ((5,), (3,))
    layers = [stax.parallel(image, deep), stax.FanInProd(), dense, relu, dense]
    yield "image and vector", stax.serial(*layers), ((4, 3, 2), (5,))
    wide = stax.serial(stax.Dense(9, 1.1), relu)
    layers = [stax.parallel(image, wide, stax.Identity()), stax.FanInConcat(), dense, relu]
    yield "three", stax.serial(*layers), ((3, 3, 1), (5,), (4,))
    layers = [stax.parallel(three, stax.serial(three, relu, three)), stax.FanInSum(), relu, three]
    yield "two images", stax.serial(*layers, relu, gap, dense), ((4, 3, 2), (4, 3, 1))
    layers = [stax.parallel(stax.Identity(), dense), stax.parallel(dense, stax.serial(relu, dense))]
    yield "parallel twice", stax.serial(*layers, stax.FanInSum(), relu), ((2,), (6,))


def lists(stax: Any) -> Networks:
    """parallel over several inputs, ending with vectors: three of each fan-in, and masked ones."""
    dense, relu, gap = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.GlobalAvgPool()
    three, flat, erf = conv(stax, 3, 3), stax.Flatten(), stax.Erf()
    pooled = stax.serial(three, relu, gap, dense)
    flattened = stax.serial(three, erf, stax.AvgPool((2, 2), (2, 2)), flat, dense)
    deep, text = stax.serial(dense, relu, dense), stax.serial(conv(stax, 3), relu, gap, dense)
    pixels = stax.serial(three, relu, three)
    for name, join in (("sum", stax.FanInSum()), ("prod", stax.FanInProd())):
        behind = [dense, relu, dense]
        layers = [stax.parallel(pooled, deep), join, *behind]
        yield f"{name}, image and vector", stax.serial(*layers), ((4, 5, 2), (7,))
        layers = [stax.parallel(pixels, conv(stax, 1, 1)), join, three, relu, three, gap]
        yield f"{name}, images", stax.serial(*layers, dense), ((4, 5, 2), (4, 5, 3))
        layers = [stax.parallel(flattened, pooled, deep, dense), join, *behind]
        yield f"{name}, four", stax.serial(*layers), ((4, 4, 1), (3, 5, 2), (6,), (5,))
        layers = [stax.parallel(text, stax.serial(conv(stax, 2), flat, dense)), join, *behind]
        yield f"{name}, sequences", stax.serial(*layers), ((6, 2), (4, 3))
    wide, join = stax.serial(stax.Dense(9, 1.1), relu), stax.FanInConcat()
    layers = [stax.parallel(pooled, wide), join, dense, relu, dense]
    yield "concat, image and vector", stax.serial(*layers), ((4, 5, 2), (7,))
    layers = [stax.parallel(pixels, conv(stax, 1, 1, width=7)), join, three, relu, gap, dense]
    yield "concat, images", stax.serial(*layers), ((4, 5, 2), (4, 5, 3))
    layers = [stax.parallel(flattened, pooled, deep, wide), join, dense, stax.LayerNorm(), relu]
    yield "concat, four", stax.serial(*layers), ((4, 4, 1), (3, 5, 2), (6,), (5,))
    layers = [stax.parallel(pixels, three), stax.FanInConcat(1), relu, three, flat, dense]
    yield "concat, rows", stax.serial(*layers), ((3, 4, 2), (2, 4, 1))
    for name, join in (("sum", stax.FanInSum()), ("prod", stax.FanInProd())):
        layers = [stax.parallel(pooled, flattened, deep), join, dense, relu, dense]
        yield f"masked {name}", stax.serial(*layers), ((4, 5, 2), (6, 4, 2), (7,))
    layers = [stax.parallel(pixels, three), stax.FanInSum(), relu, three, gap, dense]
    yield "masked images", stax.serial(*layers), ((4, 5, 2), (4, 5, 1))


def nested(stax: Any) -> Networks:
    """Lists in lists of inputs: three inputs, of which two meet first."""
    dense, relu, gap = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.GlobalAvgPool()
    three, deep = conv(stax, 3, 3), stax.serial(dense, relu, dense)
    pooled, same = stax.serial(three, relu, gap, dense), stax.Identity()
    for name, join in (("sum", stax.FanInSum()), ("prod", stax.FanInProd())):
        inner = stax.serial(stax.parallel(dense, deep), join, dense)
        layers = [stax.parallel(inner, pooled), stax.FanInSum(), relu, dense]
        yield f"{name} first", stax.serial(*layers), (((5,), (3,)), (3, 3, 2))
    wide = stax.serial(pooled, stax.Dense(8, **WEIGHTS))
    layers = [stax.parallel(wide, stax.parallel(dense, same)), stax.parallel(same,
              stax.FanInConcat()), stax.FanInProd(), dense, relu]  # fmt: skip
    yield "apart", stax.serial(*layers), ((3, 3, 1), ((2,), (4,)))
    inner = stax.serial(stax.parallel(three, three), stax.FanInSum(), relu, three)
    layers = [stax.parallel(inner, three), stax.FanInSum(), relu, gap]
    yield "images", stax.serial(*layers), (((3, 4, 2), (3, 4, 1)), (3, 4, 1))


def patterns(stax: Any) -> Networks:
    """Lists of inputs beside a pattern, which all layers take: of one input, of both, behind."""
    dense, relu, gap = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.GlobalAvgPool()
    deep, graph = stax.serial(dense, relu, dense), stax.Aggregate()
    nodes = stax.serial(graph, dense, relu, graph, dense, gap)
    behind = [stax.FanInSum(), relu, dense]
    yield "one", stax.serial(stax.parallel(nodes, deep), *behind), ((VERTICES, 2), (3,))
    yield "both", stax.serial(stax.parallel(nodes, nodes), *behind), ((VERTICES, 2), (VERTICES, 1))
    layers = [stax.parallel(dense, deep), stax.FanInSum(), graph, relu, dense, gap]
    yield "behind", stax.serial(*layers), ((VERTICES, 2), (VERTICES, 3))
    layers = [stax.parallel(nodes, deep), stax.FanInProd(), dense]
    yield "product", stax.serial(*layers), ((VERTICES, 2), (3,))


def masks(stax: Any) -> Networks:
    """Masked inputs in lists in lists, and beside patterns."""
    dense, relu, gap = stax.Dense(4, **WEIGHTS), stax.Relu(), stax.GlobalAvgPool()
    three, deep = conv(stax, 3, 3), stax.serial(dense, relu, dense)
    pooled, graph = stax.serial(three, relu, gap, dense), stax.Aggregate()
    for name, join in (("sum", stax.FanInSum()), ("prod", stax.FanInProd())):
        inner = stax.serial(stax.parallel(dense, deep), join, dense)
        layers = [stax.parallel(inner, pooled), join, dense, relu, dense]
        yield f"masked {name}", stax.serial(*layers), (((5,), (3,)), (3, 3, 2))
    inner = stax.serial(stax.parallel(pooled, stax.Identity()), stax.FanInConcat())
    layers = [stax.parallel(inner, dense), stax.FanInConcat(), dense, relu, dense]
    yield "masked concat", stax.serial(*layers), (((3, 3, 1), (4,)), (2,))
    inner = stax.serial(stax.parallel(three, three), stax.FanInConcat(1), relu, three)
    layers = [stax.parallel(inner, three), stax.FanInSum(), relu, three, relu, gap]
    yield "masked rows", stax.serial(*layers), (((2, 4, 2), (1, 4, 1)), (3, 4, 1))
    nodes = stax.serial(dense, graph, relu, dense, gap)
    layers = [stax.parallel(nodes, deep), stax.FanInSum(), relu, dense]
    yield "masked pattern", stax.serial(*layers), ((VERTICES, 2), (3,))


FAMILIES = {
    "sums": sums, "products": products, "channels": channels, "spaces": spaces, "inputs": inputs,
    "lists": lists, "nested": nested, "patterns": patterns,
    "masks": masks,
}  # fmt: skip
MASK, VERTICES = 0.5, 4


def arrays(name: str, which: int, shapes: Any, dtype: str = "float64") -> Any:
    """Three inputs x1 (``which`` 0) or two x2 of a network: an array, or a list of one for each of
    several inputs, lists where their shapes are."""
    rng = np.random.default_rng(sum(name.encode()) + 1000 * which)

    def made(shape: Any) -> Any:
        if isinstance(shape[0], tuple):
            return [made(each) for each in shape]
        return rng.standard_normal((3 - which, *shape)).astype(dtype)

    def hide(found: Any) -> None:
        if isinstance(found, list):
            for x in found:
                hide(x)
        else:
            found[rng.random(found.shape[: max(2, found.ndim - 1)]) < 0.3] = MASK

    found = made(shapes)
    if name.startswith("masked"):
        hide(found)
    return found


def edges(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights of edges for x1 and x2."""
    rng = np.random.default_rng(sum(name.encode()))
    one, two = (rng.standard_normal((n, VERTICES, VERTICES)).round(1) for n in (3, 2))
    return one, two


def run(stax: Any, families: Any = FAMILIES, dtype: str = "float64") -> Values:
    """nngp, ntk, cov1, cov2 of every network, by name."""
    found: Values = {}
    for family in families:
        for name, (_, _, kernel_fn), shapes in FAMILIES[family](stax):
            options: dict[str, Any] = {"mask_constant": MASK} if name.startswith("masked") else {}
            if family == "patterns" or name.endswith("pattern"):
                options["pattern"] = edges(name)
            batches = (arrays(name, which, shapes, dtype) for which in (0, 1))
            kernel = kernel_fn(*batches, **options)
            for field in ("nngp", "ntk", "cov1", "cov2"):
                found[f"{family}/{name}/{field}"] = np.asarray(getattr(kernel, field))
    return found
