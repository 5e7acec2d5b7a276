"""Whether this machine's first card can be used: what ``--device auto`` asks before it takes it."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from widegram.cuda import device as devices
from widegram.errors import WidegramError
from widegram.machine.log import logger


@cache
def first_card_works() -> bool:
    """Compile a kernel and run it on the first card, once in a process.

    Nothing is said where numba-cuda, the driver or a card is missing; a card that is there and
    fails is named in a message.
    """
    if not (has_driver() and devices.has_numba_cuda()):
        return False
    try:
        card = devices.gpus(())[0]
    except WidegramError:
        return False
    try:
        product = multiply(card)
    except WidegramError as error:
        # Without the advice for a run that has begun.
        logger.info("device auto means the CPU: %s", str(error).partition(";")[0])
        return False
    if product != 6.0:
        logger.info("device auto means the CPU: %s computes 2 x 3 = %g", card.name, product)
    return product == 6.0


def has_driver() -> bool:
    """Whether NVIDIA's driver library can be loaded: asked first, because it costs nothing."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def multiply(card: devices.Device) -> float:
    """2 x 3 by the kernel of inner products.

    Raises :class:`WidegramError` where the card, its driver or the compiler fails.
    """
    from widegram.cuda.point import product_kernel

    kernel = product_kernel("float32")
    with card.entered():
        stream = card.stream()
        two, three = (card.put(np.array([v], dtype=np.float32), stream) for v in (2, 3))
        out = card.empty(1, np.float32, stream)
        compiled = card.compiled(kernel, "float32")
        card.launch(compiled, (1, 1), kernel.threads, stream, (1, 1, 1, two, three, out))
        found = card.pinned(1, np.float32)
        card.get(out, found, stream)
        card.wait(stream)
    return float(found[0])
