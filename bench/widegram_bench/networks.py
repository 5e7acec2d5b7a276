"""The networks that are benchmarked, by name and by suite."""

from __future__ import annotations

from dataclasses import dataclass

from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.network.layers import Activation, Conv, Dense, Flatten, GlobalPool, Layer, Repeat

IMAGE = (32, 32, 3)
VECTOR = (3072,)


@dataclass(frozen=True)
class Benchmark:
    """One network of the comparison.

    ``kind``: what its target is about, 'pooled', 'flat' or 'dense'. ``batches``: sizes b of the
    b x b batches that the peer is tried with, ascending.
    """

    name: str
    label: str
    network: Network
    kind: str
    batches: tuple[int, ...]


def cnn(depth: int, size: int, act: str = "Relu", pooled: bool = True) -> Network:
    """``depth`` layers of 3 x 3 Conv and an activation on (size, size, 3), then the readout.

    W_std is 1, b_std 0, as in the README of neural-tangents.
    """
    (conv,) = load_network(
        {
            "input_shape": [size, size, 3],
            "layers": [
                {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"},
                {"layer": "Flatten"},
            ],
        }
    ).layers[:1]
    assert isinstance(conv, Conv)
    block: tuple[Layer, ...] = (conv, Activation(act))
    readout: Layer = GlobalPool("avg") if pooled else Flatten()
    return Network((size, size, 3), (*block * depth, readout))


def dense(depth: int, inputs: tuple[int, ...] = VECTOR, act: str = "Relu") -> Network:
    """``depth`` layers of Dense(W_std = sqrt 2) and an activation, then Dense."""
    return Network(inputs, (Repeat(depth, (Dense(2**0.5, 0.1), Activation(act))), Dense()))


def _pooled(name: str, label: str, network: Network) -> Benchmark:
    return Benchmark(name, label, network, "pooled", (1, 2, 4, 8))


def _dense(depth: int) -> Benchmark:
    label = f"fully connected, {depth} layer" + ("s" if depth > 1 else "")
    return Benchmark(f"fcn{depth}", label, dense(depth), "dense", (64, 256, 1024))


def _readme() -> list[Benchmark]:
    flat = Benchmark(
        "cnn21-flatten", "21-layer CNN, Flatten", cnn(21, 32, pooled=False), "flat", (8, 16, 32, 64)
    )
    return [
        _pooled("cnn21-pool", "21-layer CNN, global pooling", cnn(21, 32)),
        flat,
        _pooled("wide-resnet28", "wide residual network, 28 layers", preset("wide-resnet")),
    ]


def _full() -> list[Benchmark]:
    myrtles = [_pooled(f"myrtle{n}", f"Myrtle-{n}", preset(f"myrtle{n}")) for n in (5, 10)]
    return [*_readme(), *myrtles, *(_dense(depth) for depth in (1, 10, 100))]


def _quick() -> list[Benchmark]:
    return [
        Benchmark("cnn2-pool", "2-layer CNN, 6 x 6, pooling", cnn(2, 6), "pooled", (1, 2)),
        Benchmark("cnn2-flatten", "2-layer CNN, 6 x 6", cnn(2, 6, pooled=False), "flat", (2, 4)),
        Benchmark("fcn2", "fully connected, 2 layers", dense(2, (12,)), "dense", (4, 8)),
    ]


def preset(text: str) -> Network:
    """A preset of ``widegram net`` on 32 x 32 x 3 images."""
    return load_network(text, IMAGE)


_SUITES = {"readme": _readme, "full": _full, "quick": _quick}
SUITES = tuple(_SUITES)


def suite(name: str) -> list[Benchmark]:
    """The cases of a suite: 'readme', 'full' or 'quick' (tiny networks, for trying things out).

    Raises :class:`WidegramError` for any other name.
    """
    if name not in _SUITES:
        raise WidegramError(f"suite {name!r} is unknown; choose {', '.join(SUITES)}")
    return _SUITES[name]()
