"""Layers with random weights, pools and normalisations, with neural-tangents' signatures.

Each returns ``(init_fn, apply_fn, kernel_fn)``, for inputs (n, D), (n, L, C) or (n, H, W, C), or
with the axes that its arguments name. Networks are infinitely wide: widths count in the 'standard'
parameterization alone, where a layer's NTK depends on the channels of its input (Sohl-Dickstein et
al., arXiv:2001.07301). WidegramError, naming the function, is raised for a parameter that makes no
sense, when it is called; for inputs that do not fit, by kernel_fn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import numpy as np

from widegram.errors import WidegramError, shown
from widegram.network.layers import EPSILON
from widegram.stax.kernel_fn import Triple
from widegram.stax.making import integers, make, number, trained
from widegram.stax.places import axes_of, dimensions, ordered, placed
from widegram.validation.arrays import choice


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
    """Matrix product on the channels: W_std / sqrt(C) W x + b_std b, W and b standard normal.

    * ``out_dim``, ``s``: read in the 'standard' ``parameterization``, not in 'ntk'
    * ``W_std``, ``b_std``: standard deviations; None for no bias
    * ``W_rate``, ``b_rate``, ``b_grad``: learning rates of its own, as in a network specification
    """
    places = axes_of("Dense", batch_axis, channel_axis)
    weights = trained(out_dim, W_std, b_std, parameterization, s, W_rate, b_rate, b_grad)
    return placed(make("Dense", **weights), places)


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
    """Convolution of images or sequences; ``out_chan``, ``s`` and rates as of :func:`Dense`.

    ``dimension_numbers`` are the axes of inputs, filters and outputs, such as
    ``('NCHW', 'OIHW', 'NCHW')``; without them inputs are (batch, ..., channels).
    """
    weights = trained(out_chan, W_std, b_std, parameterization, s, W_rate, b_rate, b_grad)
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
    weights = trained(out_chan, W_std, b_std, parameterization, s, W_rate, b_rate, b_grad)
    return _conv("ConvLocal", filter_shape, strides, padding, dimension_numbers, weights)


def ConvTranspose(  # noqa: PLR0913  (neural-tangents', and learning rates)
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
    """Transposed convolution, which makes images ``strides`` times as large; as :func:`Conv`."""
    weights = trained(out_chan, W_std, b_std, parameterization, s, W_rate, b_rate, b_grad)
    return _conv("ConvTranspose", filter_shape, strides, padding, dimension_numbers, weights)


def ImageResize(
    shape: Sequence[int],
    method: Any,
    antialias: bool = True,
    precision: Any = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """jax.image.resize to ``shape``, which has an entry for each axis, -1 where it stays, with
    ``method`` 'nearest' or 'linear'; ``precision`` changes nothing."""
    places = axes_of("ImageResize", batch_axis, channel_axis)
    name = getattr(method, "name", method)
    return placed(
        make("ImageResize", shape=integers(shape), method=name, antialias=antialias), places
    )


def DotGeneral(
    *,
    lhs: Any = None,
    rhs: Any = None,
    dimension_numbers: Any = (((), ()), ((), ())),
    precision: Any = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
) -> Triple:
    """jax.lax.dot_general of the input and a constant array, on its left or right; the axes of the
    output are that function's, for the layers behind to name. ``precision`` changes nothing."""
    places = axes_of("DotGeneral", batch_axis, channel_axis)
    made = make("DotGeneral", lhs=lhs, rhs=rhs, dimension_numbers=dimension_numbers)
    return placed(made, places, always=np.ndim(rhs if lhs is None else lhs) > 0)


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
    edges = {"normalize_edges": normalize_edges} if _padding(padding) == "SAME" else {}
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
    places = axes_of("GlobalAvgPool", batch_axis, channel_axis)
    return placed(make("GlobalAvgPool"), places)


def GlobalSumPool(batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """Sum over all pixels."""
    places = axes_of("GlobalSumPool", batch_axis, channel_axis)
    return placed(make("GlobalSumPool"), places)


def Flatten(batch_axis: int = 0, batch_axis_out: int = 0) -> Triple:
    """All pixels and channels as one vector; the output (batch, features), or (features, batch).

    Raises WidegramError for a ``batch_axis_out`` that is neither.
    """
    places = replace(axes_of("Flatten", batch_axis, -1), channel=None)
    if np.ndim(batch_axis_out) or batch_axis_out not in (0, 1, -1, -2):
        raise WidegramError(
            f"stax.Flatten: batch_axis_out must be 0 or 1, found {shown(batch_axis_out)}"
        )
    if batch_axis_out in (1, -1):
        places = replace(places, out=(1, 0))
    return placed(make("Flatten"), places)


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
    places = axes_of("LayerNorm", batch_axis, channel_axis)
    return placed(make("LayerNorm", axis=integers(axis), eps=number(eps)), places)


class _Slice:
    def __getitem__(self, idx: Any) -> Any:
        return idx


Slice = _Slice()
"""``Slice[1, :, 2:8:3]`` is the ``idx`` of :func:`Index`."""


def Index(idx: Any, batch_axis: int = 0, channel_axis: int = -1) -> Triple:
    """``x[idx]`` as in NumPy, of integers, slices and ``...``: integers remove their axis. The
    batch keeps its axis, the channels all of theirs."""
    places = axes_of("Index", batch_axis, channel_axis)
    return placed(make("Index", idx=idx), places, always=True)


def Dropout(rate: float, mode: str = "train") -> Triple:
    """Dropout that keeps a unit with probability ``rate``; nothing in ``mode='test'``."""
    choice(mode, "stax.Dropout: mode", ("train", "test"))
    made = make("Dropout", rate=number(rate))
    return made if mode == "train" else Identity()


def _conv(
    name: str, filter_shape: Any, strides: Any, padding: Any,
    dimension_numbers: tuple[str, str, str] | None, weights: dict[str, Any],
) -> Triple:  # fmt: skip
    window = _window(name, "filter_shape", filter_shape)
    strides = None if strides is None else integers(strides)
    places, order = dimensions(name, dimension_numbers)
    made = make(
        name,
        filter_shape=ordered(window, order),
        strides=ordered(strides, order),
        padding=_padding(padding),
        **weights,
    )
    return placed(made, places)


def _pool(
    name: str, window: Any, strides: Any, padding: Any, batch_axis: int, channel_axis: int,
    **more: Any,
) -> Triple:  # fmt: skip
    places = axes_of(name, batch_axis, channel_axis)
    made = make(
        name,
        window_shape=_window(name, "window_shape", window),
        strides=None if strides is None else integers(strides),
        padding=_padding(padding),
        **more,
    )
    return placed(made, places)


def _padding(padding: str | Padding) -> str:
    if not isinstance(padding, str | Padding):
        raise WidegramError(f"stax: padding must be a name, such as SAME, found {shown(padding)}")
    return padding.value if isinstance(padding, Padding) else padding


def _window(name: str, parameter: str, value: Any) -> Any:
    found = integers(value)
    if isinstance(found, tuple) and len(found) > 2:
        raise WidegramError(
            f"stax.{name}: {parameter}={found} is for {len(found)}-dimensional inputs; widegram "
            "takes sequences with one axis and images with two"
        )
    return found
