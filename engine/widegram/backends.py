"""Who computes tiles: the protocol of an evaluator, and the choice of one by device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from widegram.devices import cuda_numbers
from widegram.errors import WidegramError

if TYPE_CHECKING:
    from widegram.data import Source
    from widegram.network import Network

DEVICES = ("auto", "cpu", "cuda")
_KNOWN = (*DEVICES, "reference")


class Evaluator(Protocol):
    """Computes blocks of the kernel matrices of one network on one pair of data sets.

    One that knows the cost of an entry says so in an attribute ``entry_cost`` (element-layers),
    from which the default size of a tile follows. One that keeps images between tiles says in a
    method ``columns_kept(tile, rows)`` how many tile columns of them stay in its memory while tile
    rows pass in groups of ``rows``; the order of the tiles follows from that.
    For ``workers`` and ``prepare`` see :class:`widegram.ahead.Ahead`.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """Dataset paths: ``'nngp'``, ``'ntk'`` or ``'depth/<l>/nngp'``, ``'depth/<l>/ntk'``."""
        ...

    def tile(
        self,
        rows: range,
        cols: range,
        symmetric: bool,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Arrays (len(rows), len(cols)) of the run's dtype, one for each key.

        ``symmetric``: columns index x1 too; then a tile with ``rows == cols`` is exactly
        symmetric. ``progress`` is called with the number of entries finished since its last call.
        """
        ...


def resolve_device(device: str) -> str:
    """The device that a request stands for: 'auto' is the first card if it works, else the CPU.

    Raises :class:`WidegramError` for an unknown name, and for cards that are not there.
    """
    numbers = cuda_numbers(device)
    if numbers is None and device not in _KNOWN:
        raise WidegramError(
            f"device {device!r} is unknown; choose one of {', '.join(DEVICES)}, cuda:0,1"
        )
    if numbers is not None:
        from widegram.cuda.device import gpus

        gpus(numbers)
    if device == "auto":
        from widegram.cuda.trial import first_card_works

        return "cuda" if first_card_works() else "cpu"
    return device


def make_evaluator(
    device: str,
    network: Network,
    x1: Source,
    x2: Source | None,
    get: tuple[str, ...],
    depths: tuple[int, ...],
    dtype: str,
    threads: int | None,
    memory: int,
) -> Evaluator:
    """An evaluator of ``network`` on ``device``.

    ``device`` as for :func:`resolve_device`; several cards share the tiles. ``get`` is a subset of
    ('nngp', 'ntk'), ``depths`` empty or increasing, ``dtype`` 'float32' or 'float64', ``threads``
    of the CPU, None for all cores, ``memory`` in bytes. Device 'reference' is the dense float64
    one, for tests. Raises :class:`WidegramError` as :func:`resolve_device` does and where the
    backend cannot compute the network.
    """
    device = resolve_device(device)
    numbers = cuda_numbers(device)
    if numbers is not None:
        from widegram.cuda.device import gpus
        from widegram.cuda.evaluator import CudaEvaluator

        cards = gpus(numbers)
        return CudaEvaluator(network, x1, x2, get, depths, dtype, memory, cards, threads=threads)
    if device == "reference":
        from widegram.reference import ReferenceEvaluator

        return ReferenceEvaluator(network, x1, x2, get, depths or None, dtype)
    from widegram.cpu import CpuEvaluator

    return CpuEvaluator(network, x1, x2, get, depths, dtype, threads, memory)
