"""One pass through a network, whatever the state that is carried.

The states are :class:`~widegram.meanfield.recursion.deviations.Deviations` and the two of
:mod:`~widegram.meanfield.recursion.unequal_norms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from widegram.errors import WidegramError
from widegram.meanfield.recursion.deviations import Deviations, LayerState
from widegram.meanfield.recursion.slope_series import Slopes
from widegram.meanfield.theory.one_layer import layer_maps
from widegram.network import Network
from widegram.network import layers as kinds
from widegram.network.contribution import bias_variance, trained_by
from widegram.network.kinds import layer_name


def walk(
    network: Network, start: LayerState, depths: Sequence[int]
) -> Iterator[tuple[int, Deviations]]:
    """Yield (l, readout behind the suffix) for the ascending ``depths``, ``start`` at the input."""
    prefix, body, _, suffix = network.sweep()
    walker = Walker()
    state = walker.run(prefix, start)
    wanted = sorted(set(depths))
    smooth = not any(walker.kinked(layer) for layer in all_layers(body))
    for depth in range(1, wanted[-1] + 1):
        state = walker.run(body, state)
        if smooth:
            state = state.settled()
        if depth in wanted:
            yield depth, walker.run(suffix, state).readout()


class Walker:
    """Applies layers to a state; keeps the slopes of every activation it has met."""

    def __init__(self) -> None:
        self._slopes: dict[kinds.Activation, Slopes] = {}

    def run(self, layers: Sequence[kinds.Layer], state: LayerState) -> LayerState:
        """The state behind ``layers``, one after the other."""
        for layer in layers:
            state = self._apply(layer, state)
        return state

    def kinked(self, layer: kinds.Layer) -> bool:
        """Whether this is an activation whose derivative jumps."""
        return isinstance(layer, kinds.Activation) and self._slopes_of(layer).kinked

    def _apply(self, layer: kinds.Layer, state: LayerState) -> LayerState:
        match layer:
            case kinds.Conv():
                rows, cols = layer.filter_shape
                return state.affine(layer.W_std**2, bias_variance(layer), (rows, cols))
            case kinds.Dense():
                return state.affine(layer.W_std**2, bias_variance(layer), (1, 1))
            case kinds.Activation():
                return state.activate(self._slopes_of(layer))
            case kinds.Flatten() | kinds.GlobalPool():
                return state.pooled()
            case kinds.LayerNorm(eps=eps):
                return state.layer_normed(eps)
            case kinds.Residual():
                return self.run(layer.branch, state).plus(self.run(layer.shortcut, state))
            case kinds.Repeat():
                for _ in range(layer.times):
                    state = self.run(layer.body, state)
                return state
        raise WidegramError(f"{type(layer).__name__} has no recursion in deviations")

    def _slopes_of(self, layer: kinds.Activation) -> Slopes:
        if layer not in self._slopes:
            maps = layer_maps(layer)
            slopes = Slopes(maps)
            if slopes.kinked and maps.dual.code == "series":
                raise WidegramError(
                    f"{layer.name}: its derivative jumps and only a Hermite series is known, which "
                    "ends before the kink; use --method engine"
                )
            self._slopes[layer] = slopes
        return self._slopes[layer]


def trained_apart(network: Network) -> str | None:
    """Which layer has a T of its own, not the theory's K + W_std^2 A[T], and why; None where none
    has."""
    for layer in all_layers(network.layers):
        parameter = trained_by(layer) if isinstance(layer, kinds.Convolution | kinds.Dense) else ""
        if parameter:
            return f"{layer_name(layer)} with {parameter!r} has no mean field theory"
    return None


def refusal_of_sequences(network: Network) -> str | None:
    """The reason why no recursion here runs the network, where its inputs are sequences."""
    prefix = network.sweep()[0]
    if len(network.input_shape) != 2 or (prefix and isinstance(prefix[0], kinds.Flatten)):
        return None
    return "sequences have no recursion in deviations; write them as images (L, 1, C)"


def all_layers(layers: Sequence[kinds.Layer]) -> Iterator[kinds.Layer]:
    """Every layer, those inside of compositions too."""
    for layer in layers:
        yield layer
        for inner in kinds.lists_inside(layer):
            yield from all_layers(inner)
