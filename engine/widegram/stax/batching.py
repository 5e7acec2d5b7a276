"""neural-tangents' ``batch``, of which nothing is left to do: kernels are computed in tiles."""

from __future__ import annotations

from widegram.errors import WidegramError, shown
from widegram.stax.kernel_fn import KernelFn
from widegram.stax.making import integer


def batch(
    kernel_fn: KernelFn,
    batch_size: int = 0,
    device_count: int = -1,
    store_on_device: bool = True,
) -> KernelFn:
    """``kernel_fn`` itself, which computes any numbers of inputs in tiles on all cores already,
    whatever the other arguments are; :func:`widegram.gram` keeps what does not fit into memory.

    Raises :class:`WidegramError` for another function, and for sizes that are none.
    """
    if not isinstance(kernel_fn, KernelFn):
        raise WidegramError(
            f"batch: kernel_fn is a {type(kernel_fn).__name__}; it must be the third of what a "
            "layer of widegram.stax returns"
        )
    for name, value, least in (("batch_size", batch_size, 0), ("device_count", device_count, -1)):
        number = integer(value)
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise WidegramError(
                f"batch: {name} must be an integer >= {least}, found {shown(value)}"
            )
    return kernel_fn
