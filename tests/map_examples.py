"""Networks with two-sided maps between pixels, for any ``stax``.

:func:`run` takes the ``stax`` module, of neural-tangents or of widegram: the code between is the
same. Imports NumPy alone, so that neural-tangents' environment can run it too
(``golden_values.py``). Images are square where neural-tangents' layers do not know that a
convolution before them has exchanged rows and columns of its covariances.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]
# By name: the network, the shapes of x1 and x2, and what else kernel_fn is called with.
Networks = Iterator[tuple[str, Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]]


def transposed(stax: Any) -> Networks:
    """ConvTranspose: paddings, windows and strides of every order of size, images, sequences."""
    for padding in ("SAME", "VALID", "CIRCULAR"):
        for window, strides in (((3, 2), (2, 3)), ((2, 4), (3, 1)), ((5, 3), (2, 2))):
            layers = [stax.ConvTranspose(1, window, strides, padding, 1.3, 0.2), stax.Relu(),
                      stax.Conv(1, (2, 2), W_std=1.1, b_std=0.1), stax.Erf()]  # fmt: skip
            network = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))
            yield f"{padding} {window} {strides}", network, (2, 2, 3, 2), (2, 2, 3, 2), {}
        layers = [stax.Conv(1, (3,), (2,), "SAME", 1.2, 0.1), stax.Relu(),
                  stax.ConvTranspose(1, (4,), (2,), padding, 1.1), stax.Relu()]  # fmt: skip
        network = stax.serial(*layers, stax.Flatten(), stax.Dense(1, 1.2, 0.1))
        yield f"{padding} sequence", network, (2, 7, 2), (3, 7, 2), {}
    standard = {"parameterization": "standard", "padding": "SAME", "W_std": 1.2, "b_std": 0.3}
    layers = [stax.ConvTranspose(5, (3, 3), (2, 2), s=(1, 2), **standard), stax.Relu(),
              stax.Conv(4, (3, 3), s=(2, 1), **standard), stax.Relu()]  # fmt: skip
    network = stax.serial(*layers, stax.GlobalAvgPool())
    yield "standard", network, (2, 3, 3, 2), (2, 3, 3, 2), {}


def resized(stax: Any) -> Networks:
    """ImageResize: larger and smaller, both methods, with and without antialiasing."""
    for method in ("linear", "nearest"):
        for shape, antialias in (((7, 5), True), ((2, 3), True), ((2, 2), False), ((3, -1), True)):
            layers = [stax.Conv(1, (3, 3), padding="SAME", W_std=1.2, b_std=0.1), stax.Relu(),
                      stax.ImageResize((-1, *shape[:1] * 2, -1), method, antialias),
                      stax.Conv(1, (2, 2), W_std=1.1), stax.Relu()]  # fmt: skip
            network = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))
            yield f"{method} {shape[0]} {antialias}", network, (2, 4, 4, 2), (2, 4, 4, 2), {}
            first = stax.ImageResize((-1, *shape, -1), method, antialias)
            network = stax.serial(first, *layers[:2], stax.Flatten(), stax.Dense(1))
            name = f"first {method} {shape} {antialias}"
            yield name, network, (2, 4, 5, 2), (2, 4, 5, 2), {}
    layers = [stax.Conv(1, (3,), padding="SAME"), stax.Relu(), stax.ImageResize((-1, 9, -1),
              "bilinear"), stax.Dense(1), stax.Relu(), stax.GlobalAvgPool()]  # fmt: skip
    yield "sequence", stax.serial(*layers), (2, 6, 2), (2, 6, 2), {}


def dotted(stax: Any) -> Networks:
    """DotGeneral: numbers, contracted axes, axes side by side, from either side."""
    conv = stax.Conv(1, (3, 3), padding="SAME", W_std=1.2, b_std=0.1)
    relu, dense, end = stax.Relu(), stax.Dense(1, 1.1, 0.2), stax.GlobalAvgPool()
    for name, arguments in (("number", {"rhs": -1.5}), ("half", {"lhs": 0.5})):
        dot = stax.DotGeneral(**arguments)
        yield name, stax.serial(conv, dot, relu, dot, end, dense), (2, 3, 3, 2), (2, 3, 3, 2), {}
    rng = np.random.default_rng(5)
    difference = stax.DotGeneral(rhs=np.array([1.0, -1.0, 0.5]),
                                 dimension_numbers=(((1,), (0,)), ((), ())))  # fmt: skip
    layers = [difference, stax.Conv(1, (2,), W_std=1.2, b_std=0.1), relu, stax.GlobalAvgPool()]
    yield "contracted", stax.serial(*layers), (2, 3, 4, 2), (2, 3, 4, 2), {}
    layers = [conv, relu, difference, dense, relu, stax.Flatten()]
    yield "contracted, behind", stax.serial(*layers), (2, 3, 3, 2), (2, 3, 3, 2), {}
    mixed = stax.DotGeneral(rhs=rng.standard_normal((4, 2)),
                            dimension_numbers=(((1,), (0,)), ((), ())))  # fmt: skip
    later = [stax.Dense(1, 1.1, 0.2, channel_axis=1), relu, stax.GlobalAvgPool(channel_axis=1)]
    yield "a new axis", stax.serial(mixed, *later), (2, 4, 3), (2, 4, 3), {}
    both = stax.DotGeneral(rhs=rng.standard_normal((3, 4)),
                           dimension_numbers=(((1, 2), (0, 1)), ((), ())))  # fmt: skip
    yield "all pixels", stax.serial(both, dense, relu, dense), (2, 3, 4, 2), (2, 3, 4, 2), {}


def graphs(stax: Any) -> Networks:
    """Aggregate: weights and edges, some axes and all, decoded, first, twice, behind a pool."""
    dense, relu, end = stax.Dense(1, 1.2, 0.1), stax.Relu(), stax.GlobalAvgPool()
    rng = np.random.default_rng(9)

    def weights(*sizes: int) -> np.ndarray:
        found = rng.standard_normal((3, *sizes, *sizes)).round(1)
        return found * (rng.random(found.shape) < 0.6)

    shapes = (3, 5, 2), (3, 5, 2)
    pair = weights(5), weights(5)
    layers = [stax.Aggregate(), dense, relu, stax.Aggregate(), dense, relu]
    yield "nodes", stax.serial(*layers, end, dense), *shapes, {"pattern": pair}
    yield "nodes, flat", stax.serial(*layers, stax.Flatten()), *shapes, {"pattern": pair}
    yield "no pattern", stax.serial(*layers, end, dense), *shapes, {"pattern": (None, None)}

    def edges(*sizes: int) -> np.ndarray:
        """Edges of which some have no head."""
        ends = np.stack([rng.integers(0, n, (3, 7, 2)) for n in sizes], axis=2)
        ends[..., 1] -= rng.integers(0, 5, (3, 7, 1)) == 0
        return ends if len(sizes) > 1 else ends[:, :, 0]

    sparse = stax.Aggregate(implementation="SPARSE")
    layers = [dense, relu, sparse, dense, relu]
    yield "edges", stax.serial(*layers, end), *shapes, {"pattern": (edges(5), edges(5))}
    half = stax.Aggregate(to_dense=lambda p: 0.5 * p)
    yield "decoded", stax.serial(dense, half, relu, end), *shapes, {"pattern": pair}
    conv = stax.Conv(1, (3, 3), padding="SAME", W_std=1.2, b_std=0.1)
    for axis, sizes in (((1, 2), (3, 2)), (1, (3,)), (2, (2,))):
        layers = [dense, relu, stax.Aggregate(axis), conv, relu]
        pattern = weights(*sizes), weights(*sizes)
        network = stax.serial(*layers, end)
        yield f"image {axis}", network, (3, 3, 2, 2), (3, 3, 2, 2), {"pattern": pattern}
    pixels = edges(2, 2), edges(2, 2)
    layers = [stax.Aggregate((1, 2), implementation="SPARSE"), dense, relu, end]
    yield "edges, image", stax.serial(*layers), (3, 2, 2, 3), (3, 2, 2, 3), {"pattern": pixels}
    layers = [stax.Aggregate(2, channel_axis=1), stax.Dense(1, channel_axis=1), relu]
    network = stax.serial(*layers, stax.GlobalAvgPool(channel_axis=1))
    yield "channels first", network, (3, 2, 5), (3, 2, 5), {"pattern": pair}


def decays_of(stax: Any) -> dict[str, Any]:
    """Covariances of embeddings: a function of both, and an expression in widegram."""
    here = stax.__name__.startswith("widegram")
    return {
        "none": None,
        "exponential": "exp(-x / 2)" if here else lambda d: np.exp(-np.asarray(d) / 2),
        "power": lambda d: 1 / (1 + d),
    }


def attention_of(stax: Any, **options: Any) -> Any:
    """A GlobalSelfAttention with four standard deviations of its own."""
    return stax.GlobalSelfAttention(
        3, 1, 1, 1, W_key_std=1.3, W_value_std=0.9, W_query_std=0.8, W_out_std=1.2, **options
    )


def attention(stax: Any) -> Networks:
    """GlobalSelfAttention: mechanisms, embeddings of keys and of values, twice, with pixels."""
    conv = stax.Conv(1, (3, 3), padding="SAME", W_std=1.2, b_std=0.1)
    relu, dense, end = stax.Relu(), stax.Dense(1, 1.1, 0.2), stax.GlobalAvgPool()
    decays, attend = decays_of(stax), partial(attention_of, stax)
    images = (2, 3, 3, 2), (3, 3, 3, 2)
    for mechanism in ("SOFTMAX", "IDENTITY", "ABS", "RELU"):
        layers = [conv, relu, attend(attention_mechanism=mechanism, b_std=0.3), relu, end, dense]
        yield mechanism, stax.serial(*layers), *images, {}
    for kind in ("SUM", "CONCAT"):
        for values in (False, True):
            for name, decay in decays.items():
                embedded = attend(pos_emb_type=kind, pos_emb_decay_fn=decay, W_pos_emb_std=0.7,
                                  pos_emb_p_norm=1.0, val_pos_emb=values)  # fmt: skip
                layers = [conv, relu, embedded, relu, end, dense]
                yield f"{kind} {values} {name}", stax.serial(*layers), *images, {}
    layers = [attend(b_std=0.1), relu, dense, attend(pos_emb_type="SUM"), relu, stax.Flatten()]
    yield "sequence", stax.serial(*layers, dense), (2, 5, 3), (2, 5, 3), {}


def roots(stax: Any) -> Networks:
    """Attention scaled by the root of channels: embeddings of keys and of values, twice."""
    conv = stax.Conv(1, (3, 3), padding="SAME", W_std=1.2, b_std=0.1)
    relu, dense, end = stax.Relu(), stax.Dense(1, 1.1, 0.2), stax.GlobalAvgPool()
    attend = partial(
        attention_of, stax, linear_scaling=False, attention_mechanism="IDENTITY", b_std=0.3
    )
    images = (2, 3, 3, 2), (3, 3, 3, 2)
    for name, ending in (("pooled", end), ("flat", stax.Flatten())):
        layers = [conv, relu, attend(), relu, ending, dense]
        yield name, stax.serial(*layers), *images, {}
    for kind in ("SUM", "CONCAT"):
        for values in (False, True):
            for name, decay in decays_of(stax).items():
                embedded = attend(pos_emb_type=kind, pos_emb_decay_fn=decay, W_pos_emb_std=0.7,
                                  pos_emb_p_norm=1.5, val_pos_emb=values)  # fmt: skip
                layers = [conv, relu, embedded, relu, end, dense]
                yield f"{kind} {values} {name}", stax.serial(*layers), *images, {}
    layers = [attend(), relu, dense, attend(pos_emb_type="SUM"), relu, stax.Flatten()]
    yield "sequence", stax.serial(*layers, dense), (2, 5, 3), (2, 5, 3), {}


def channels(stax: Any) -> Networks:
    """Embeddings with channels of their own beside those of inputs, of layers, of attention."""
    conv = stax.Conv(4, (3, 3), padding="SAME", W_std=1.2, b_std=0.1)
    relu, dense, end = stax.Relu(), stax.Dense(6, 1.1, 0.2), stax.GlobalAvgPool()
    images = (2, 3, 3, 2), (3, 3, 3, 2)
    for mechanism, linear in (("SOFTMAX", True), ("RELU", True), ("IDENTITY", False)):
        for values in (False, True):
            attend = partial(
                attention_of, stax, attention_mechanism=mechanism, linear_scaling=linear,
                pos_emb_type="CONCAT", val_pos_emb=values, b_std=0.2, W_pos_emb_std=0.7,
                pos_emb_decay_fn=decays_of(stax)["exponential"],
            )  # fmt: skip
            layers = [conv, relu, attend(n_chan_pos_emb=3), relu, dense, relu,
                      attend(n_chan_pos_emb=5), relu, attend(n_chan_pos_emb=1), end]  # fmt: skip
            yield f"{mechanism} {values}", stax.serial(*layers), *images, {}
            layers = [attend(n_chan_pos_emb=3), relu, dense, relu, stax.Flatten(), dense]
            yield f"first {mechanism} {values}", stax.serial(*layers), *images, {}
    standard = stax.Dense(5, 1.1, 0.2, parameterization="standard")
    layers = [conv, relu, attention_of(stax), relu, standard, relu, end]
    yield "behind", stax.serial(*layers), *images, {}


FAMILIES = {"transposed": transposed, "resized": resized, "dotted": dotted, "graphs": graphs,
            "attention": attention, "roots": roots, "channels": channels}  # fmt: skip


def inputs(name: str, which: int, shape: tuple[int, ...]) -> np.ndarray:
    """x1 (``which`` 0) or x2 of a network, of ``shape``."""
    seed = sum(name.encode()) + 1000 * which
    return np.random.default_rng(seed).standard_normal(shape)


def run(stax: Any, families: Any = FAMILIES) -> Values:
    """nngp, ntk, cov1, cov2 of every network, by name, float64."""
    found: Values = {}
    for family in families:
        for name, (_, _, kernel_fn), first, second, options in FAMILIES[family](stax):
            x1, x2 = inputs(name, 0, first), inputs(name, 1, second)
            kernel = kernel_fn(x1, x2, **options)
            for field in ("nngp", "ntk", "cov1", "cov2"):
                value = np.asarray(getattr(kernel, field))
                # neural-tangents' may be of all pairs of inputs.
                own = field.startswith("cov") and value.ndim == 2
                found[f"{family}/{name}/{field}"] = np.diagonal(value) if own else value
    return found
