"""The networks that a card is measured with, and their goals."""

from __future__ import annotations

from dataclasses import dataclass

from widegram.network import Network
from widegram.network.layers import Repeat
from widegram_bench.networks import cnn, dense, preset


@dataclass(frozen=True)
class Case:
    """A network in one precision.

    * ``target``, ``ratio``: goals of the project, None without: microseconds an entry on an H100,
      and how many times faster than the peer
    * ``batches``: sizes of the peer's batches, the likely best first, because time may not reach
      for all; () without a peer
    * ``depths``: of a sweep
    """

    name: str
    network: Network
    dtype: str
    target: float | None = None
    ratio: float | None = None
    batches: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What names a case: network and precision."""
        return self.name, self.dtype


def cases() -> list[Case]:
    """What is measured, the most important first."""
    pooled = cnn(21, 32)
    conv, relu, *_, pool = pooled.layers
    sweep = Network(pooled.input_shape, (Repeat(21, (conv, relu)), pool))
    return [
        Case("cnn21-pool", pooled, "float32", 40.0, 20.0, (8, 16, 4, 1)),
        Case("cnn21-flatten", cnn(21, 32, pooled=False), "float32", None, 10.0, (256, 512, 64)),
        Case("myrtle10", preset("myrtle10"), "float32", 10.0, None, (8, 16, 4)),
        Case("cnn21-pool", pooled, "float64", 200.0, None, (8, 4, 1)),
        Case("myrtle5", preset("myrtle5"), "float32", None, None, (8, 16, 4)),
        Case("myrtle7", preset("myrtle7"), "float32"),
        Case("wide-resnet28", preset("wide-resnet"), "float32", None, None, (4, 8)),
        Case("fcn10", dense(10), "float32", None, None, (1024, 256)),
        Case("fcn1", dense(1), "float32"),
        Case("fcn100", dense(100), "float32"),
        Case("cnn21-pool-sweep", sweep, "float32", depths=tuple(range(1, 22))),
        Case("cnn21-pool-erf", cnn(21, 32, "Erf"), "float32"),
        Case("cnn21-pool-16", cnn(21, 16), "float32"),
        Case("cnn21-flatten", cnn(21, 32, pooled=False), "float64"),
        Case("myrtle10", preset("myrtle10"), "float64"),
    ]
