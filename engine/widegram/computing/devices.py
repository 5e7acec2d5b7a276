"""Names of devices, and what they stand for on this machine.

'cpu', 'cuda', 'cuda:0,1', and 'cuda,cpu' for a file that two have filled.
"""

from __future__ import annotations

import re

from widegram.errors import WidegramError, shown
from widegram.machine.log import logger
from widegram.network import Network
from widegram.plan.graph import build_graph, first_map
from widegram.validation.choices import DEVICES

_KNOWN = (*DEVICES, "reference")
_CUDA = re.compile(r"cuda(?::(\d+(?:,\d+)*))?")


def cuda_numbers(device: str) -> tuple[int, ...] | None:
    """The cards that 'cuda:0,1' names, () for 'cuda' (the first one); None for other devices.

    Raises :class:`WidegramError` where a card is named twice.
    """
    if not isinstance(device, str):
        raise WidegramError(f"device is {shown(device)}; it must be a name such as 'cpu' or 'cuda'")
    found = _CUDA.fullmatch(device)
    if found is None:
        return None
    numbers = tuple(int(n) for n in (found[1] or "").split(",") if n)
    if len(set(numbers)) < len(numbers):
        raise WidegramError(f"device {device!r} names a card twice")
    return numbers


def known(device: str) -> tuple[int, ...] | None:
    """The cards that a device names, as :func:`cuda_numbers`; raises :class:`WidegramError` for an
    unknown name."""
    numbers = cuda_numbers(device)
    if numbers is None and device not in _KNOWN:
        raise WidegramError(
            f"device {device!r} is unknown; choose one of {', '.join(DEVICES)}, cuda:0,1"
        )
    return numbers


def resolve_device(device: str) -> str:
    """The device that a request stands for: 'auto' is the first card if it works, else the CPU.

    Raises :class:`WidegramError` for an unknown name, and for cards that are not there.
    """
    numbers = known(device)
    if numbers is not None:
        from widegram.cuda.device import gpus

        gpus(numbers)
    if device == "auto":
        from widegram.cuda.trial import first_card_works

        return "cuda" if first_card_works() else "cpu"
    return device


def device_for(device: str, network: Network) -> str:
    """As :func:`resolve_device`, but that 'auto' is the CPU for what no other backend computes,
    which is said where there is a card."""
    layer = _without_kernels(network) if device == "auto" else ""
    if not layer:
        return resolve_device(device)
    from widegram.cuda.trial import first_card_works

    if first_card_works():
        logger.info("device auto means the CPU: %s has no CUDA kernels", layer)
    return "cpu"


def _without_kernels(network: Network) -> str:
    """The first layer that CUDA has no kernels for; empty without."""
    if network.inputs:
        return f"layers[0] {type(network.layers[0]).__name__}, which joins several inputs,"
    return first_map(build_graph(network.plain))


def kind_of(device: str) -> str:
    """'cuda' for 'cuda:0,1': what decides the values."""
    return "cuda" if cuda_numbers(device) is not None else device


def continues(file: str, device: str) -> bool:
    """Whether ``device`` may go on with a file that ``file`` (one device or several) has filled.

    The CPU may finish what a GPU began: the values then differ within the tolerance of the dtype.
    """
    parts = file.split(",")
    return kind_of(device) in parts or (device == "cpu" and "cuda" in parts)


def joined(file: str, device: str) -> str:
    """The attribute ``device`` of a file, so far ``file``, that ``device``, one or several, goes on
    with."""
    return ",".join(dict.fromkeys([*file.split(","), *kind_of(device).split(",")]))


def available(file: str) -> str:
    """A device that can recompute values of a file: its own, or the CPU for want of a card."""
    for device in file.split(","):
        try:
            return resolve_device(device)
        except WidegramError:
            continue
    return "cpu"
