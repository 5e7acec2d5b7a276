"""``kernel_fn``: from arrays, or a kernel computed before, to kernels."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from widegram.errors import WidegramError, shown
from widegram.network import Network
from widegram.network.inputs import Shape, is_list, parse_shapes
from widegram.network.masking import Mask, parse_mask
from widegram.network.model import network_of
from widegram.network.piece import Piece
from widegram.network.shapes import Ending, follow_list
from widegram.stax.axes import arranged, going_on, with_axes
from widegram.stax.branches import Item, close
from widegram.stax.decays import tabulated
from widegram.stax.dense import (
    described,
    ended,
    from_inputs,
    go_on,
    kept_diagonal,
    refuse_pools,
)
from widegram.stax.engine_arrays import vectors
from widegram.stax.kernel import ARRAYS, FIELDS, Kernel
from widegram.stax.masked import marked, marked_list, masks, widened
from widegram.stax.patterns import Patterns, patterns_of, without_aggregates
from widegram.stax.several import (
    acts_on_several,
    check_lists,
    check_rows,
    kernel_of_several,
    layers_of_several,
)
from widegram.validation.arrays import real
from widegram.validation.kernel_names import Get, named

Array = NDArray[Any]

class KernelFn:
    """The kernel of the layers it was made from; call it, or ask for its :meth:`network`."""

    def __init__(self, items: tuple[Item, ...]) -> None:
        self.items = items

    def network(
        self,
        input_shape: Sequence[Any],
        channels_last: bool = False,
        mask_constant: Any = None,
    ) -> Network:
        """The same network as data, for inputs (D,), (L, C) or (H, W, C), or for a list of such
        shapes where it begins with ``parallel``: for ``widegram.gram``.

        ``mask_constant`` as of :meth:`__call__`. ``channels_last`` says that inputs will be of such
        shapes where the layers take others.
        Raises :class:`WidegramError` where it has no exact kernel.
        """
        if is_list(input_shape):
            return self._network_of_several(parse_shapes(input_shape), mask_constant)
        shape = tuple(int(size) for size in input_shape)
        items, entrance, _ = arranged(self.items, len(shape) + 1)
        if entrance.rows:
            raise WidegramError("stax.Index: takes part of the batch; index the inputs instead")
        if not entrance.plain and not channels_last:
            raise WidegramError(
                "kernel_fn: its layers take inputs with other axes than a network as data, which "
                "has the batch first and channels last: transpose the inputs (axes "
                f"{entrance.order}), and call network(input_shape, channels_last=True)"
            )
        return Network(shape, tabulated(close(items), shape), mask=mask_constant)

    def _network_of_several(self, shapes: tuple[Shape, ...], mask: Any) -> Network:
        layers = layers_of_several(self.items) if acts_on_several(self.items) else None
        if layers is None:
            raise WidegramError(
                "kernel_fn: a network as data takes a list of inputs where it begins with "
                "stax.parallel on several, batch first and channels last, without functions in "
                "attention"
            )
        return network_of(shapes, layers, mask=mask)

    def __call__(
        self,
        x1_or_kernel: Any,
        x2: Any = None,
        get: Get = None,
        *,
        pattern: Any = None,
        mask_constant: Any = None,
        diagonal_batch: bool | None = None,
        diagonal_spatial: bool | None = None,
        accept_series_error: float | None = None,
    ) -> Any:
        """Kernels of two batches of inputs.

        * ``x1_or_kernel``: x1, (n1, D), (n1, L, C) or (n1, H, W, C), or with the axes that the
          layers name; or one :class:`Kernel` that an earlier kernel_fn returned, from whose arrays
          this one goes on. Layers that begin with ``parallel`` take a list of inputs
        * ``x2``: as x1 with n2 rows, None for x1 itself
        * ``get``: a field of :class:`Kernel`, such as 'ntk'; a tuple of them, for a named tuple
          ``AnalyticKernel``; None for a :class:`Kernel`
        * ``pattern``: (pattern1, pattern2), of the graphs that
          :func:`~widegram.stax.graphs.Aggregate` takes, a row for each input; None, and Aggregate
          does nothing
        * ``mask_constant``: numbers of inputs that equal it are masked
          (:mod:`widegram.network.masking`), NaN and the infinities too; of a list of inputs it may
          be a list with that of each; a Kernel has masks of its own, whatever it is then
        * ``accept_series_error``: as in :func:`widegram.kernel`

        Arrays are float32 where all inputs are float32 or narrower, float64 otherwise.

        A network whose output is an image has kernels between all pairs of pixels, or between
        equal pixels alone with ``diagonal_spatial=True``. They, and what goes on from a Kernel,
        are computed densely on one core; where a kernel goes on, inputs that nearly coincide have
        the digits that its arrays have (rounding of K becomes its root in the NTK).

        Raises :class:`WidegramError` for bad inputs, networks without an exact kernel, and
        options of neural-tangents that have no meaning here.
        """
        _refuse_options(diagonal_batch, diagonal_spatial)
        several = acts_on_several(self.items)
        mask = None if several else parse_mask(mask_constant)
        single = x2 is None and not isinstance(x1_or_kernel, Kernel)
        patterns = patterns_of(self.items, pattern, single)
        names = _names(get)
        if several:
            found = self._of_lists(
                x1_or_kernel, x2, names, mask_constant, patterns, pattern=pattern,
                diagonal_spatial=diagonal_spatial, accept_series_error=accept_series_error,
            )  # fmt: skip
        elif isinstance(x1_or_kernel, Kernel):
            if x2 is not None:
                raise WidegramError("kernel_fn: takes a Kernel alone, without x2")
            found = self._behind(x1_or_kernel, diagonal_spatial, accept_series_error, patterns)
            if found.ntk is None and "ntk" in names and get is not None:
                raise WidegramError("kernel_fn: the Kernel it is given was made without ntk")
        else:
            masked = mask is not None
            x1 = _array(x1_or_kernel, "x1", masked)
            x2 = None if x2 is None else _array(x2, "x2", masked)
            if patterns and x2 is None and not np.array_equal(*patterns):
                x2 = x1
            diagonal = bool(diagonal_spatial)
            found = self._compute(x1, x2, names, diagonal, accept_series_error, mask, patterns)
        if get is None:
            return found
        if isinstance(get, str):
            return getattr(found, names[0])
        return _named(names)(*(getattr(found, name) for name in names))

    def _compute(
        self,
        x1: Array,
        x2: Array | None,
        names: tuple[str, ...],
        diagonal: bool,
        accept: float | None,
        mask: Mask,
        patterns: Patterns | None,
    ) -> Kernel:
        items, entrance, after = arranged(self.items, x1.ndim)
        if x2 is not None and x2.ndim == x1.ndim:
            x2 = entrance.through(x2)
        x1 = entrance.through(x1)
        layers = close(items) if patterns else without_aggregates(close(items))
        layers = tabulated(layers, tuple(x1.shape[1:]))
        if x2 is not None and x2.shape[1:] != x1.shape[1:]:
            raise WidegramError(
                f"kernel_fn: x1 has shape {x1.shape} and x2 {x2.shape}; rows must have one shape"
            )
        piece = Piece(tuple(x1.shape[1:]), layers, mask=mask)
        if diagonal:
            refuse_pools(piece)
        same = x2 is None or (_same(x1, x2) and (not patterns or np.array_equal(*patterns)))
        first, second = x1, x2
        if mask is not None:
            first, second = marked(x1, mask), None if x2 is None else marked(x2, mask)
        if piece.layers and not piece.end.shape:
            network = Network(x1.shape[1:], layers, mask=mask)
            arrays = vectors(network, first, second, same, names, accept, patterns)
            if mask is not None:
                arrays["mask1"] = masks(layers, first)
                arrays["mask2"] = None if second is None else masks(layers, second)
        else:
            arrays = from_inputs(
                piece, first, None if same else second, "ntk" in names, diagonal, accept, patterns
            )
            if same and x2 is not None:
                arrays |= {"cov2": arrays["cov1"], "mask2": arrays["mask1"]}
        end, diagonal = piece.end, kept_diagonal(piece, diagonal)
        shapes = (ended(end, x1.shape), ended(end, (x1 if x2 is None else x2).shape))
        return with_axes(described(end, arrays, same, diagonal, shapes), after)

    def _behind(
        self,
        given: Kernel,
        diagonal: bool | None,
        accept: float | None,
        patterns: Patterns | None,
    ) -> Kernel:
        """The Kernel behind these layers, from the arrays of the one in front of them."""
        items, kernel, after = going_on(self.items, given)
        layers = close(items) if patterns else without_aggregates(close(items))
        return with_axes(go_on(layers, kernel, diagonal, accept, patterns), after)

    def _of_lists(
        self, x1: Any, x2: Any, names: tuple[str, ...], mask: Any, patterns: Patterns | None,
        **options: Any,
    ) -> Kernel:  # fmt: skip
        """The Kernel of a list of inputs for each of x1 and x2, by the engine where it can;
        ``options``: others of :meth:`__call__`."""
        check_lists(self.items, x1, x2)
        if not options["diagonal_spatial"] and not patterns:
            planned = self._planned(x1, mask)
            if planned is not None:
                return self._engine(planned, x1, x2, names, options["accept_series_error"])
        if patterns and x2 is None and not np.array_equal(*patterns):
            x2 = x1
        return self._of_several(x1, x2, mask, **options)

    def _planned(self, x1: Sequence[Any], mask: Any) -> tuple[Network, Ending] | None:
        """The network that takes a list of inputs and what it ends with, where the engine computes
        it: its output is a vector."""
        layers = layers_of_several(self.items)
        if layers is None or any(isinstance(x, Kernel) for x in x1):
            return None
        layers = without_aggregates(layers)  # there are no patterns
        shapes = tuple(_array(x, "x1", True).shape[1:] for x in x1)
        end = follow_list(shapes, layers)
        return None if end.shape else (network_of(shapes, layers, mask=mask), end)

    def _engine(
        self, planned: tuple[Network, Ending], x1: Sequence[Any], x2: Any,
        names: tuple[str, ...], accept: float | None,
    ) -> Kernel:  # fmt: skip
        """The Kernel of a list of inputs for each of x1 and x2."""
        network, end = planned
        masked = network.mask is not None
        first = [_array(x, "x1", masked) for x in x1]
        second = None if x2 is None else [_array(x, "x2", masked) for x in x2]
        for name, batch in (("x1", first), ("x2", second)):
            check_rows([len(x) for x in batch or ()], name)
        same = second is None or all(map(_same, first, second))
        if masked:
            first = marked_list(first, network)
            second = None if second is None else marked_list(second, network)
        arrays = vectors(network, first, second, same, names, accept, None)
        if masked:
            arrays["mask1"] = masks(network.layers, first)
            arrays["mask2"] = None if second is None else masks(network.layers, second)
        rows = len(first[0]), len((second or first)[0])
        return described(end, arrays, same, False, (ended(end, rows[:1]), ended(end, rows[1:])))

    def _of_several(self, x1: Any, x2: Any, mask: Any, **options: Any) -> Kernel:
        """The Kernel of a list of inputs for each of x1 and x2, computed in float64; lists may
        have lists in them, of branches that begin with ``parallel``. ``mask``: the mask constant,
        or a list with that of each input; ``options``: others of :meth:`__call__`."""
        narrow: list[bool] = []

        def wide(x: Any, mask: Any) -> Any:
            if isinstance(x, list | tuple):
                each = mask if isinstance(mask, list | tuple) else [mask] * len(x)
                return [wide(one, its) for one, its in zip_longest(x, each)]
            if x is None or isinstance(x, Kernel):
                narrow.extend([] if x is None else [x.nngp.dtype == np.float32])
                return x
            array = _array(x, "an input of a list", mask is not None)
            narrow.append(array.dtype.kind == "f" and array.dtype.itemsize <= 4)
            return array.astype(np.float64) if mask is None else widened(array, mask)

        def branch(items: tuple[Item, ...], first: Any, second: Any, mask: Any) -> Kernel:
            both = wide(first, mask), wide(second, mask)
            found = KernelFn(items)(*both, mask_constant=mask, **options)
            assert isinstance(found, Kernel)
            return found

        found, rest = kernel_of_several(self.items, x1, x2, mask, branch)
        if rest:
            found = KernelFn(rest)(found, **options)
        if not narrow or not all(narrow):
            return found
        arrays = {name: getattr(found, name) for name in ARRAYS}
        return found.replace(
            **{n: None if a is None else a.astype(np.float32) for n, a in arrays.items()}
        )

    def __repr__(self) -> str:
        return f"KernelFn({self.items!r})"


Triple = tuple[Callable[..., Any], Callable[..., Any], KernelFn]


def triple(*items: Item) -> Triple:
    """``(init_fn, apply_fn, kernel_fn)`` of layers."""
    return init_fn, apply_fn, KernelFn(items)


def init_fn(*args: Any, **kwargs: Any) -> NoReturn:
    """Networks here are infinite, so there are no parameters: always raises."""
    raise WidegramError(
        "init_fn: widegram's networks are infinitely wide and have no parameters; for a finite "
        "network use neural_tangents.stax, for the kernels of this one its kernel_fn"
    )


def apply_fn(*args: Any, **kwargs: Any) -> NoReturn:
    """Networks here are infinite, so there are no outputs of one network: always raises."""
    raise WidegramError(
        "apply_fn: widegram's networks are infinitely wide; for a finite network use "
        "neural_tangents.stax, for the predictions of this one widegram.predict"
    )


def _array(x: Any, name: str, masked: bool) -> Array:
    """An input as a float32 or float64 array (of any kind that NumPy reads without copying);
    ``masked``: as it is where it is narrower, for a mask to be compared with."""
    if isinstance(x, (list, tuple)) or not hasattr(x, "__array__"):
        raise WidegramError(
            f"kernel_fn: {name} is a {type(x).__name__}; it must be an array (n, D), (n, L, C) or "
            "(n, H, W, C)"
        )
    array = real(x, f"kernel_fn: {name}")
    if array.ndim not in (2, 3, 4):
        raise WidegramError(
            f"kernel_fn: {name} has shape {array.shape}; it must be (n, D), (n, L, C) or "
            "(n, H, W, C)"
        )
    if not array.size:
        raise WidegramError(f"kernel_fn: {name} is empty, its shape is {array.shape}")
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    if narrow and masked:
        return array
    return array.astype(np.float32 if narrow else np.float64, copy=False)


def _same(x1: Array, x2: Array) -> bool:
    """Whether both are one array or equal in every number (neural-tangents lets 1e-12 pass)."""
    # NaN is not equal to itself: that is refused, or masked.
    return x1 is x2 or np.array_equal(x1, x2, equal_nan=True)


def _names(get: Get) -> tuple[str, ...]:
    names = FIELDS if get is None else named(get, "kernel_fn: ")
    unknown = [name for name in names if name not in FIELDS]
    if unknown:
        raise WidegramError(
            f"kernel_fn: get={unknown[0]!r} is not supported; known: {', '.join(FIELDS)}"
        )
    return names


@cache
def _named(names: tuple[str, ...]) -> Callable[..., Any]:
    return namedtuple("AnalyticKernel", names)


def _refuse_options(diagonal_batch: bool | None, diagonal_spatial: bool | None) -> None:
    for name, value in (("batch", diagonal_batch), ("spatial", diagonal_spatial)):
        if not (value is None or isinstance(value, bool | np.bool_)):
            raise WidegramError(
                f"kernel_fn: diagonal_{name} must be True, False or None, found {shown(value)}"
            )
    if diagonal_batch is False:
        raise WidegramError(
            "kernel_fn: diagonal_batch=False is not supported: cov1 and cov2 are diagonals; "
            "kernel_fn(x1, None, 'nngp') is the whole matrix"
        )
