"""Layers with random weights, pools and normalisations, with neural-tangents' signatures.

The networks are infinitely wide: widths count in the 'standard' parameterization alone, where a
layer's NTK depends on the channels of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from widegram.errors import WidegramError
from widegram.network.layers import EPSILON
from widegram.stax.kernel_fn import Triple
from widegram.stax.making import integers, make, number, require_axes, trained

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class Padding(Enum):
    """Padding of convolutions and pools; the name may be given as text."""

    CIRCULAR = "CIRCULAR"
    SAME = "SAME"
    VALID = "VALID"


def Dense(
    out_dim: int,
    W_std: float = 1.0,
    b_std: float | None = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
    *,
    W_rate: float = 1.0,
    b_rate: float = 1.0,
    b_grad: float | None = None,
) -> Triple:
    """Matrix product on the channels; 'standard' reads ``out_dim`` and ``s``, 'ntk' does not.

    ``W_rate``, ``b_rate``, ``b_grad``: learning rates of its own, as in a network specification.
    """
    require_axes("Dense", batch_axis, channel_axis)
    rates = {"W_rate": W_rate, "b_rate": b_rate, "b_grad": b_grad}
    return make("Dense", **trained(out_dim, W_std, b_std, parameterization, s), **rates)


def Conv(  # noqa: PLR0913  (neural-tangents', and learning rates)
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Padding = "VALID",
    W_std: float = 1.0,
    b_std: float | None = None,
    dimension_numbers: tuple[str, str, str] | None = None,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
    *,
    W_rate: float = 1.0,
    b_rate: float = 1.0,
    b_grad: float | None = None,
) -> Triple:
    """Convolution of images (batch, H, W, channels); ``out_chan``, ``s`` and rates as of Dense."""
    rates = {"W_rate": W_rate, "b_rate": b_rate, "b_grad": b_grad}
    weights = trained(out_chan, W_std, b_std, parameterization, s) | rates
    return _conv("Conv", filter_shape, strides, padding, dimension_numbers, weights)


def ConvLocal(  # noqa: PLR0913  (neural-tangents', and learning rates)
    out_chan: int,
    filter_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Padding = "VALID",
    W_std: float = 1.0,
    b_std: float | None = None,
    dimension_numbers: tuple[str, str, str] | None = None,
    parameterization: str = "ntk",
    s: tuple[int, int] = (1, 1),
    *,
    W_rate: float = 1.0,
    b_rate: float = 1.0,
    b_grad: float | None = None,
) -> Triple:
    """Convolution with filters and biases of its own at every location; as :func:`Conv`."""
    rates = {"W_rate": W_rate, "b_rate": b_rate, "b_grad": b_grad}
    weights = trained(out_chan, W_std, b_std, parameterization, s) | rates
    return _conv("ConvLocal", filter_shape, strides, padding, dimension_numbers, weights)


def AvgPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Padding = "VALID",
    normalize_edges: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Mean over windows; the default stride is (1, 1). ``normalize_edges``: with padding SAME, over
    the pixels of windows that lie in the image."""
    edges = {"normalize_edges": True} if normalize_edges and _padding(padding) == "SAME" else {}
    return _pool("AvgPool", window_shape, strides, padding, batch_axis, channel_axis, **edges)


def SumPool(
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Padding = "VALID",
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Sum over windows; the default stride is (1, 1)."""
    return _pool("SumPool", window_shape, strides, padding, batch_axis, channel_axis)


def GlobalAvgPool(batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """Mean over all pixels."""
    require_axes("GlobalAvgPool", batch_axis, channel_axis)
    return make("GlobalAvgPool")


def GlobalSumPool(batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """Sum over all pixels."""
    require_axes("GlobalSumPool", batch_axis, channel_axis)
    return make("GlobalSumPool")


def Flatten(batch_axis: int = 0, batch_axis_out: int = 0) -> Triple:
    """All pixels and channels as one vector."""
    require_axes("Flatten", batch_axis, -1)
    if batch_axis_out not in (0, -2):
        raise WidegramError(f"stax.Flatten: batch_axis_out={batch_axis_out!r} is not supported")
    return make("Flatten")


def Identity() -> Triple:
    """Nothing: the shortcut of a residual block."""
    return make("Identity")


def LayerNorm(
    axis: int | Sequence[int] = -1,
    eps: float = EPSILON,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """Division by the standard deviation over ``axis``, which holds the channels; ``eps`` is added
    to the variances."""
    require_axes("LayerNorm", batch_axis, channel_axis)
    return make("LayerNorm", axis=integers(axis), eps=number(eps))


def Dropout(rate: float, mode: str = "train") -> Triple:
    """Dropout that keeps a unit with probability ``rate``; nothing in ``mode='test'``."""
    if mode not in ("train", "test"):
        raise WidegramError(f"stax.Dropout: mode must be 'train' or 'test', found {mode!r}")
    made = make("Dropout", rate=number(rate))
    return made if mode == "train" else Identity()


def _conv(
    name: str, filter_shape: Any, strides: Any, padding: Any,
    dimension_numbers: tuple[str, str, str] | None, weights: dict[str, Any],
) -> Triple:  # fmt: skip
    if dimension_numbers is not None and tuple(dimension_numbers) != _DIMENSIONS:
        raise WidegramError(
            f"stax.{name}: dimension_numbers={dimension_numbers!r} is not supported; "
            f"transpose the inputs to {_DIMENSIONS[0]}, and leave it out"
        )
    return make(
        name,
        filter_shape=_window(name, "filter_shape", filter_shape),
        strides=None if strides is None else integers(strides),
        padding=_padding(padding),
        **weights,
    )


def _pool(
    name: str, window: Any, strides: Any, padding: Any, batch_axis: int, channel_axis: int,
    **more: Any,
) -> Triple:  # fmt: skip
    require_axes(name, batch_axis, channel_axis)
    return make(
        name,
        window_shape=_window(name, "window_shape", window),
        strides=None if strides is None else integers(strides),
        padding=_padding(padding),
        **more,
    )


def _padding(padding: str | Padding) -> str:
    return padding.value if isinstance(padding, Padding) else padding


def _window(name: str, parameter: str, value: Any) -> Any:
    found = integers(value)
    if isinstance(found, tuple) and len(found) in (1, 3):
        raise WidegramError(
            f"stax.{name}: {parameter}={found} is for {len(found)}-dimensional inputs; widegram "
            "takes images with two (write signals (n, L, C) as (n, L, 1, C) with windows (k, 1))"
        )
    return found
