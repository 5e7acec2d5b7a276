"""Window arithmetic of convolutions and pools, the same for every backend."""

from __future__ import annotations

from widegram.errors import WidegramError
from widegram.network.layers import Padding


def padding(size: int, window: int, stride: int, mode: Padding) -> tuple[int, int, int]:
    """Return ``(out, lo, hi)``: output length, and padding before and after, along one axis.

    Output position p reads the inputs s p + t - lo for t in 0..window-1. SAME puts the smaller
    half of its padding in front; CIRCULAR has SAME's widths, filled by wrapping around.

    Raises WidegramError where the window exceeds the axis and ``mode`` is VALID.
    """
    if mode == "VALID":
        if window > size:
            raise WidegramError(
                f"a window of {window} does not fit into an image axis of {size}; "
                "use a smaller window or padding SAME or CIRCULAR"
            )
        return (size - window) // stride + 1, 0, 0
    out = -(-size // stride)
    total = max((out - 1) * stride + window - size, 0)
    return out, total // 2, total - total // 2


def centres(size: int, window: int, stride: int, mode: Padding) -> slice:
    """The inputs in the middle of every window along an axis, of an even one the first of both;
    CIRCULAR has SAME's.

    An output is masked where the middle of its window is (neural-tangents' ``_pool_mask``).
    """
    out, lo, _ = padding(size, window, stride, mode)
    first = (window - 1) // 2 - lo
    return slice(first, first + stride * (out - 1) + 1, stride)


def inside(size: int, window: int, stride: int) -> list[int]:
    """How many inputs of its window padding SAME did not add, for every output position along an
    axis."""
    out, lo, _ = padding(size, window, stride, "SAME")
    first = (stride * p - lo for p in range(out))
    return [min(at + window, size) - max(at, 0) for at in first]
