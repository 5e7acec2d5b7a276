"""Who computes tiles: the protocol of an evaluator, and the choice of one by device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from widegram.backends.devices import cuda_numbers
from widegram.errors import WidegramError
from widegram.machine.dtypes import FLOOR
from widegram.machine.log import logger
from widegram.plan.precision import SERIES_ACCEPTED, DoubleNeeded
from widegram.validation.choices import DEVICES

if TYPE_CHECKING:
    from widegram.data import Source
    from widegram.network import Network

    _Depths = tuple[int, ...]
    _Arguments = tuple[Network, Source, Source | None, tuple[str, ...], _Depths, str]

_KNOWN = (*DEVICES, "reference")


class Evaluator(Protocol):
    """Computes blocks of the kernel matrices of one network on one pair of data sets.

    One that knows the cost of an entry says so in an attribute ``entry_cost`` (element-layers),
    from which the default size of a tile follows. One that keeps images between tiles says in a
    method ``columns_kept(tile, rows)`` how many tile columns of them stay in its memory while tile
    rows pass in groups of ``rows``; the order of the tiles follows from that.
    For ``workers`` and ``prepare`` see :class:`widegram.computing.ahead.Ahead`.
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
    accept: float = SERIES_ACCEPTED,
) -> Evaluator:
    """An evaluator of ``network`` on ``device``.

    ``device`` as for :func:`resolve_device`; several cards share the tiles. ``get`` is a subset of
    ('nngp', 'ntk'), ``depths`` empty or increasing, ``dtype`` 'float32' or 'float64', ``threads``
    of the CPU, None for all cores, ``memory`` in bytes, ``accept`` the relative error of a Hermite
    series that is accepted. Where float32 cannot hold an activation's values at the variances of
    these inputs, the evaluator computes in float64 and rounds its tiles. Device 'reference' is the
    dense float64 one, for tests. Raises :class:`WidegramError` as :func:`resolve_device` does and
    where the backend cannot compute the network.
    """
    device = resolve_device(device)

    def made(precision: str) -> Evaluator:
        arguments = network, x1, x2, get, depths, precision
        return _on_device(device, arguments, threads, memory, accept)

    try:
        return made(dtype)
    except DoubleNeeded as reason:
        from widegram.backends.rounded import Rounded

        logger.info("computed in float64 and rounded: %s", str(reason).partition(";")[0])
        return Rounded(made("float64"), dtype)


def _on_device(
    device: str, arguments: _Arguments, threads: int | None, memory: int, accept: float
) -> Evaluator:
    """``arguments``: network, x1, x2, get, depths and the dtype computed in."""
    numbers = cuda_numbers(device)
    if numbers is not None:
        from widegram.cuda.device import gpus
        from widegram.cuda.evaluator import CudaEvaluator

        cards = gpus(numbers)
        return CudaEvaluator(*arguments, memory, cards, threads=threads, accept=accept)
    if device == "reference":
        from widegram.reference import ReferenceEvaluator

        network, x1, x2, get, depths, dtype = arguments
        # Somewhat more than the floor of variances.
        least = 1e8 * FLOOR["float64"] ** 2
        return ReferenceEvaluator(network, x1, x2, get, depths or None, dtype, least)
    from widegram.cpu import CpuEvaluator

    return CpuEvaluator(*arguments, threads, memory, accept)
