"""Kernels of images, Kernels that kernel_fn goes on from, and their methods, for any ``stax``.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, so that neural-tangents' environment can run it too
(``golden_values.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]
Named = Iterator[tuple[str, Any]]
FLAGS = ("is_gaussian", "diagonal_spatial", "x1_is_x2", "batch_axis", "channel_axis")
ARRAYS = ("nngp", "ntk", "cov1", "cov2")

_RNG = np.random.default_rng(31)
VECTORS = _RNG.standard_normal((4, 5))
IMAGES = _RNG.standard_normal((3, 4, 5, 2))
OTHERS = _RNG.standard_normal((2, 4, 5, 2))
SEQUENCES = _RNG.standard_normal((3, 6, 2))


FAMILIES = ("images", "sequences", "continued", "methods", "products")


def run(stax: Any, families: Any = FAMILIES) -> Values:
    """Every array and flag, by name."""
    found: Values = {}
    for family in families:
        for name, kernel in globals()[family](stax):
            found |= values_of(f"{family}/{name}", kernel)
    # neural-tangents leaves the shapes of products as they were before.
    return {k: v for k, v in found.items() if not (k[:8] == "products" and k[-5:] == "sizes")}


def values_of(name: str, kernel: Any) -> Values:
    """What is compared of one Kernel: arrays in the order of its axes, flags, sizes of outputs."""
    kernel = kernel.reverse() if kernel.is_reversed else kernel
    found = {f: np.asarray(getattr(kernel, f)) for f in ARRAYS if getattr(kernel, f) is not None}
    # neural-tangents leaves a number where a network has no weights.
    found = {f: np.broadcast_to(a, found["nngp"].shape) if f == "ntk" else a
             for f, a in found.items()}  # fmt: skip
    shapes = [(f, a.shape) for f, a in found.items()]
    found = {f: sampled(a) for f, a in found.items()}
    found["shapes"] = np.array([size for _, shape in shapes for size in shape])
    found["flags"] = np.array([int(getattr(kernel, flag)) for flag in FLAGS])
    found["sizes"] = np.array([*kernel.shape1, *kernel.shape2])
    return {f"{name}/{field}": value for field, value in found.items()}


def sampled(a: np.ndarray) -> np.ndarray:
    """At most 40 numbers of an array, the same ones of arrays of one size."""
    places = np.random.default_rng(a.size).permutation(a.size)[:40]
    return a.ravel()[places]


def images(stax: Any) -> Named:
    """Outputs that are images: kernels between all pairs of pixels, and between equal ones."""
    conv = stax.Conv(7, (3, 2), padding="SAME", W_std=1.2, b_std=0.3)
    local = [
        ("conv", conv),
        ("valid", stax.serial(conv, stax.Relu(), stax.Conv(7, (2, 3), (1, 2)))),
        ("erf", stax.serial(conv, stax.Erf(), stax.Dense(7, 1.1), stax.Gelu())),
        ("circular", stax.serial(stax.Conv(7, (3, 3), padding="CIRCULAR"), stax.LayerNorm())),
        ("norm", stax.serial(conv, stax.LayerNorm((1, 2, 3)), stax.Sin(), conv)),
        ("dropout", stax.serial(conv, stax.Relu(), stax.Dropout(0.6), conv, stax.Relu())),
        ("identity", stax.Identity()),
        ("residual", stax.serial(conv, stax.FanOut(2), stax.parallel(
            stax.serial(stax.Relu(), conv), stax.Identity()), stax.FanInSum())),
    ]  # fmt: skip
    pooled = [
        ("avg", stax.serial(conv, stax.Relu(), stax.AvgPool((2, 3), (1, 2)), conv, stax.Relu())),
        ("sum", stax.serial(conv, stax.Relu(), stax.SumPool((2, 2), None, "SAME"), conv)),
    ]
    for name, (_, _, kernel_fn) in local + pooled:
        yield f"{name} same", kernel_fn(IMAGES)
        yield f"{name} cross", kernel_fn(IMAGES[:2], OTHERS)
    for name, (_, _, kernel_fn) in local:
        yield f"{name} diagonal same", kernel_fn(IMAGES, diagonal_spatial=True)
        both = kernel_fn(IMAGES[:2], OTHERS, diagonal_spatial=True)
        yield f"{name} diagonal cross", both
    flat = stax.serial(conv, stax.Relu(), stax.Flatten())[2]
    yield "flat", flat(IMAGES, None, diagonal_spatial=True)
    yield "vectors", stax.Dense(3)[2](VECTORS, None, diagonal_spatial=True)


def sequences(stax: Any) -> Named:
    """The same of sequences."""
    conv = stax.Conv(7, (3,), padding="SAME", W_std=1.2, b_std=0.3)
    kernel_fn = stax.serial(conv, stax.Relu(), stax.Conv(7, (2,), (2,)), stax.Erf())[2]
    yield "same", kernel_fn(SEQUENCES)
    yield "diagonal", kernel_fn(SEQUENCES[:2], SEQUENCES[2:], diagonal_spatial=True)
    pooled = stax.serial(conv, stax.Relu(), stax.AvgPool((2,)))[2](SEQUENCES)
    yield "pooled", pooled
    yield "gone on", stax.serial(conv, stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1))[2](pooled)


def continued(stax: Any) -> Named:
    """kernel_fn of a Kernel."""
    conv = stax.Conv(7, (3, 2), padding="SAME", W_std=1.2, b_std=0.3)
    dense = stax.Dense(7, 1.3, 0.2)
    first = stax.serial(dense, stax.Relu(), dense)[2]
    tops = [
        ("relu", stax.serial(stax.Relu(), dense)),
        ("deep", stax.repeat(stax.serial(stax.Erf(), dense), 4)),
        ("norm", stax.serial(stax.LayerNorm(), stax.Gelu(), stax.Dropout(0.7), dense)),
        ("residual", stax.serial(stax.FanOut(2), stax.parallel(
            stax.serial(stax.Relu(), dense), stax.Identity()), stax.FanInSum(), stax.Cos())),
        ("nothing", stax.Identity()),
    ]  # fmt: skip
    for name, (_, _, kernel_fn) in tops:
        yield f"vectors {name} same", kernel_fn(first(VECTORS))
        yield f"vectors {name} cross", kernel_fn(first(VECTORS[:2], VECTORS[2:]))
    body = stax.serial(conv, stax.Relu(), conv)[2]
    tops = [
        ("flatten", stax.serial(stax.Erf(), stax.Flatten(), dense, stax.Relu())),
        ("image", stax.serial(stax.Relu(), stax.Conv(7, (2, 2), (2, 1)), stax.Gelu())),
        ("norm", stax.serial(stax.LayerNorm((1, 3)), stax.Relu(), stax.Dropout(0.7), conv)),
    ]
    pooled = [
        ("global", stax.serial(stax.Relu(), stax.GlobalAvgPool(), dense, stax.Erf())),
        ("pool", stax.serial(stax.Relu(), stax.AvgPool((2, 2)), conv, stax.GlobalSumPool())),
    ]
    for name, (_, _, kernel_fn) in tops + pooled:
        yield f"images {name} same", kernel_fn(body(IMAGES))
        yield f"images {name} cross", kernel_fn(body(IMAGES[:2], OTHERS))
    for name, (_, _, kernel_fn) in tops:
        yield f"diagonal {name}", kernel_fn(body(IMAGES[:2], OTHERS, diagonal_spatial=True))
    yield "pooled", stax.serial(stax.Relu(), dense)[2](
        stax.serial(conv, stax.Relu(), stax.GlobalAvgPool(), dense)[2](IMAGES)
    )
    yield "sliced", tops[0][1][2](body(IMAGES, OTHERS).slice(slice(0, 2), slice(1, 2)))


def methods(stax: Any) -> Named:
    """Methods of Kernel."""
    conv = stax.Conv(7, (3, 2), padding="SAME", W_std=1.2, b_std=0.3)
    layers = [conv, stax.Relu(), conv]  # two convolutions: neural-tangents reverses axes twice
    kernel_fn = stax.serial(*layers)[2]
    for name, kernel in (
        ("cross", kernel_fn(IMAGES[:2], OTHERS)),
        ("diagonal", kernel_fn(IMAGES[:2], OTHERS, diagonal_spatial=True)),
        ("vectors", stax.Dense(3, 1.2, 0.1)[2](VECTORS[1:], VECTORS[:1])),
    ):
        yield f"{name} slice", kernel.slice(slice(1, None), slice(0, 1))
        yield f"{name} times", kernel * 1.5
        yield f"{name} right", -2.0 * kernel
        yield f"{name} over", kernel / 3.0
        yield f"{name} plus", kernel + 0.5
        yield f"{name} minus", +(kernel - 0.5)
        yield f"{name} negative", -kernel
        yield f"{name} batch", kernel[:1]
        yield f"{name} ellipsis", kernel[1:, ...]
        if name != "vectors":
            yield f"{name} pixels", kernel[:, 1:3, ::2]
            yield f"{name} row", kernel[:, 1]
            yield f"{name} pixel", kernel[:2, -1, 2, :]
            yield f"{name} column", kernel[..., 3, :]
    yield "same slice", kernel_fn(IMAGES).slice(slice(0, 2), slice(0, 2))
    yield "replace", kernel_fn(IMAGES).replace(is_gaussian=False)


def products(stax: Any) -> Named:
    """Kernel.dot_general: axes contracted and side by side, from either side, of each input."""
    conv = stax.Conv(7, (3, 2), padding="SAME", W_std=1.2, b_std=0.3)
    kernel_fn = stax.serial(conv, stax.Relu(), conv)[2]
    kernel, same = kernel_fn(IMAGES[:2], OTHERS), kernel_fn(IMAGES)
    rng = np.random.default_rng(8)

    def arrays(*shape: int) -> list[np.ndarray]:
        return [rng.standard_normal(shape) for _ in range(2)]

    pairs = {
        "rows": (arrays(4), (((1,), (0,)), ((), ()))),
        "mixed": (arrays(5, 3), (((2,), (0,)), ((), ()))),
        "both": (arrays(4, 5, 2), (((1, 2), (0, 1)), ((), ()))),
        "own": (arrays(2, 4), (((1,), (1,)), ((0,), (0,)))),
        "own, mixed": (arrays(5, 2, 3), (((2,), (0,)), ((0,), (1,)))),
        "by columns": (arrays(5), (((), ()), ((2,), (0,)))),
        "outer": (arrays(2), (((), ()), ((), ()))),
    }
    for name, ((first, second), numbers) in pairs.items():
        turned = tuple(both[::-1] for both in numbers)
        for side, lhs, given in (("right", False, numbers), ("left", True, turned)):
            yield f"{name} {side}", kernel.dot_general(first, second, lhs, given)
            if name[:3] != "own":
                yield f"{name} {side} same", same.dot_general(first, first, lhs, given)
    diagonal = kernel_fn(IMAGES[:2], OTHERS, diagonal_spatial=True)
    (first, second), numbers = pairs["by columns"]
    yield "diagonal", diagonal.dot_general(first, second, False, numbers)
    yield "nothing", kernel.dot_general(None, None, False, numbers)
