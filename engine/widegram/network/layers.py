"""The layers of a network as plain data.

Names, parameters and defaults are those of neural-tangents' ``stax``. A layer holds no shapes:
:mod:`widegram.network.shapes` infers them. Every sequence field is a tuple, so that layers compare
and hash by value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from widegram.network.selection import Idx

Padding = Literal["SAME", "VALID", "CIRCULAR"]
EPSILON = 1e-12  # neural-tangents' default of LayerNorm
Parameterization = Literal["ntk", "standard"]
Axes = tuple[int, ...]
DimensionNumbers = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How weights and biases are drawn and trained: what a layer itself adds to T
    (:mod:`widegram.network.contribution`).

    * ``parameterization``: 'ntk' or 'standard' (Sohl-Dickstein et al. 2020, arXiv:2001.07301).
    * ``width``: the layer's output channels, divided by ``s[1]``; needed where a layer of the
      'standard' parameterization reads them, dropped from networks without one.
    * ``s``: how many times wider than ``width`` the layers before and behind are ('standard').
    * ``W_rate``, ``b_rate``: learning rates of weights and biases, relative to the others'; 0 is
      frozen.
    * ``b_grad``: what the biases add to T, whatever their variance.

    Subclasses have ``W_std`` and ``b_std``. In 'ntk' no biases (``b_std`` None) are biases of
    variance 0, and ``s`` is not read: such layers are equal.
    """

    parameterization: Parameterization = "ntk"
    width: int | None = None
    s: tuple[int, int] = (1, 1)
    W_rate: float = 1.0
    b_rate: float = 1.0
    b_grad: float | None = None

    def __post_init__(self) -> None:
        if self.parameterization == "ntk":
            b_std = getattr(self, "b_std", None)
            object.__setattr__(self, "b_std", 0.0 if b_std is None else b_std)
            object.__setattr__(self, "s", (1, 1))


@dataclass(frozen=True)
class Convolution(Trained):
    """What convolutions have in common: filters that move over an image or a sequence, weights and
    biases. ``filter_shape`` and ``strides`` have a number for each axis of it."""

    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    padding: Padding = "VALID"
    W_std: float = 1.0
    b_std: float | None = None


@dataclass(frozen=True)
class Conv(Convolution):
    """K <- W_std^2 A[K] + b_std^2, A the mean over the filter's taps (the same in both images)."""


@dataclass(frozen=True)
class ConvLocal(Convolution):
    """A convolution with filters and biases of its own at every location: as Conv between equal
    locations, K = T = 0 between different ones."""


@dataclass(frozen=True)
class ConvTranspose(Convolution):
    """A transposed convolution: pixels are set ``strides`` apart, with zeros between them, and a
    Conv of stride 1 follows."""


@dataclass(frozen=True)
class Dense(Trained):
    """The same with a single tap; on an image it acts on the channels of every pixel."""

    W_std: float = 1.0
    b_std: float | None = None


@dataclass(frozen=True)
class Activation:
    """A pointwise nonlinearity, by its name in :mod:`widegram.activations`.

    ``params`` holds every parameter, sorted by name: numbers, flags, tuples of numbers. (Of one
    that had none at first, nothing where all have their defaults.)
    """

    name: str
    params: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Pool:
    """AvgPool (kind 'avg') or SumPool ('sum') over windows of both images independently.

    ``normalize_edges``: an AvgPool with padding SAME divides by the number of pixels of its window
    that lie in the image, not by all of the window.
    """

    kind: Literal["avg", "sum"]
    window_shape: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    padding: Padding = "VALID"
    normalize_edges: bool = False


@dataclass(frozen=True)
class GlobalPool:
    """GlobalAvgPool ('avg') or GlobalSumPool ('sum') over all pairs of pixels."""

    kind: Literal["avg", "sum"]


@dataclass(frozen=True)
class Flatten:
    """Mean over pairs of equal pixels."""


@dataclass(frozen=True)
class LayerNorm:
    """Division by the standard deviation over ``axis`` (axes of the batch array, 0 is the batch).

    ``(-1,)`` normalises over channels alone; of images ``(1, 2, 3)`` over height, width and
    channels. ``eps`` is added to every variance.
    """

    axis: tuple[int, ...] = (-1,)
    eps: float = EPSILON


@dataclass(frozen=True)
class Dropout:
    """Dropout that keeps a unit with probability ``rate``."""

    rate: float


@dataclass(frozen=True)
class Index:
    """Part of an image or a sequence: ``idx`` has an entry for each axis of the batch array, as
    :mod:`widegram.network.selection` reads them; integers remove their axis."""

    idx: Idx


@dataclass(frozen=True)
class ImageResize:
    """As jax.image.resize: ``shape`` has a size for each axis of the batch array, -1 where it
    stays; ``method`` is 'nearest' or 'linear', by any of its names."""

    shape: tuple[int, ...]
    method: str
    antialias: bool = True


@dataclass(frozen=True)
class DotGeneral:
    """jax.lax.dot_general of the input and a constant array, which stands on the left (``lhs``) or
    on the right (``rhs``): a number, or nested tuples of numbers.

    ``dimension_numbers``: ((contracted axes of the left one, of the right one), (axes that go side
    by side, of both)). Behind it the batch is first and channels are last wherever they come out.
    """

    lhs: Any = None
    rhs: Any = None
    dimension_numbers: DimensionNumbers = (((), ()), ((), ()))


@dataclass(frozen=True)
class Aggregate:
    """A graph's vertices, the pixels of an input, become weighted sums of those that send to them,
    by the pattern of each input (:mod:`widegram.network.patterns`).

    * ``aggregate_axis``: axes of the batch array that hold the vertices, sorted; None for all of
      an image or a sequence.
    * ``implementation``: 'DENSE', patterns are weights (n, sizes, sizes) from each vertex to
      each; 'SPARSE', they are integers (n, edges, axes, 2), tail and head of each edge, which does
      not count where its head is negative.
    """

    aggregate_axis: tuple[int, ...] | None = None
    implementation: Literal["DENSE", "SPARSE"] = "DENSE"

    def axes(self, spatial: int) -> tuple[int, ...]:
        """The aggregated axes of an image with so many axes, from 0 on."""
        if self.aggregate_axis is None:
            return tuple(range(spatial))
        return tuple(sorted(axis % (spatial + 2) - 1 for axis in self.aggregate_axis))


@dataclass(frozen=True)
class GlobalSelfAttention:
    """Self-attention between all pixels, of infinitely many heads
    (:mod:`widegram.network.attention`), with neural-tangents' parameters.

    * ``pos_emb_decay_fn``: an expression in x, the distance of two pixels, or a table of (distance,
      value); in ``stax`` a function, until the shape of inputs is known.
    * ``width``: the layer's output channels, as of :class:`Trained`.
    """

    linear_scaling: bool = True
    W_key_std: float = 1.0
    W_value_std: float = 1.0
    W_query_std: float = 1.0
    W_out_std: float = 1.0
    b_std: float | None = None
    attention_mechanism: str = "SOFTMAX"
    pos_emb_type: str = "NONE"
    pos_emb_p_norm: float = 2.0
    pos_emb_decay_fn: Any = None
    n_chan_pos_emb: int | None = None
    W_pos_emb_std: float = 1.0
    val_pos_emb: bool = False
    width: int | None = None


@dataclass(frozen=True)
class Residual:
    """FanOut -> (branch, shortcut) -> FanInSum; an empty shortcut is the identity."""

    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class FanIn:
    """FanOut -> parallel(branches) -> a layer that joins what they make; an empty branch is the
    identity. Branches count as independent, as in neural-tangents: one of them at most should have
    no weights of its own.

    ``parallel``: without the FanOut; it is the first layer of a network whose input is a list, and
    branch n acts on the n-th of these.
    """

    branches: tuple[tuple[Layer, ...], ...]
    parallel: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class FanInSum(FanIn):
    """Their sum: K and T are the sums of theirs."""


@dataclass(frozen=True)
class FanInProd(FanIn):
    """Their product, number by number: K is the product of theirs, T the sum of each branch's T
    times the others' K."""


@dataclass(frozen=True)
class FanInConcat(FanIn):
    """Their concatenation along ``axis`` of the batch array: along channels the mean of K and of T
    over all channels, along an axis of images these side by side."""

    axis: int = -1


@dataclass(frozen=True)
class Repeat:
    """``body`` applied ``times`` times."""

    times: int
    body: tuple[Layer, ...]


@dataclass(frozen=True)
class Readouts:
    """The last layer of a network with several ends: each of ``heads``, (name, layers) sorted by
    name, goes on from what lies before it."""

    heads: tuple[tuple[str, tuple[Layer, ...]], ...]


Layer = (
    Conv
    | ConvLocal
    | ConvTranspose
    | Dense
    | Activation
    | Pool
    | GlobalPool
    | Flatten
    | LayerNorm
    | Dropout
    | Index
    | ImageResize
    | DotGeneral
    | Aggregate
    | GlobalSelfAttention
    | Residual
    | FanIn
    | Repeat
    | Readouts
)


def named_lists(layer: Layer) -> tuple[tuple[str, tuple[Layer, ...]], ...]:
    """The lists of layers that a composition is made of, in the order of a specification, each with
    its name there; none of other layers."""
    match layer:
        case Residual(branch, shortcut):
            return ("branch", branch), ("shortcut", shortcut)
        case FanIn(branches=branches):
            return tuple((f"branches[{n}]", branch) for n, branch in enumerate(branches))
        case Repeat(body=body):
            return (("body", body),)
        case Readouts(heads):
            return tuple((f"heads.{name}", layers) for name, layers in heads)
    return ()


def lists_inside(layer: Layer) -> tuple[tuple[Layer, ...], ...]:
    """The lists of layers that a composition is made of."""
    return tuple(layers for _, layers in named_lists(layer))


def with_lists(
    layer: Layer, made: Callable[[tuple[Layer, ...]], tuple[Layer, ...]]
) -> Layer:
    """The composition of what ``made`` makes of each list inside it; other layers as they are."""
    match layer:
        case Residual(branch, shortcut):
            return Residual(made(branch), made(shortcut))
        case FanIn(branches=branches):
            return replace(layer, branches=tuple(made(branch) for branch in branches))
        case Repeat(times, body):
            return Repeat(times, made(body))
        case Readouts(heads):
            return Readouts(tuple((name, made(layers)) for name, layers in heads))
    return layer
