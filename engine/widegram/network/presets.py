"""Networks by name for the shell: ``fcn:depth=3,act=erf,w_var=1.5,b_var=0.05``.

Each preset is one small function from its options to layers. Every Dense and Conv has the weight
variance ``w_var`` and the bias variance ``b_var`` (He initialisation by default); ``act`` takes the
parameters of its activation as further options: ``cnn-f:act=leaky_relu,alpha=0.1``. ``fixed_first``
and ``fixed_last`` are how many layers with weights are not trained at either end; all have
``parameterization``, ``width`` and ``b_grad`` as in a specification. ``augment`` is ``flip-lr``,
``flip-ud`` or ``flip-lr+flip-ud``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from widegram import activations
from widegram.errors import WidegramError, shown
from widegram.network.checks import nearest
from widegram.network.fixed import count_weights, with_fixed
from widegram.network.layers import (
    Activation,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    Layer,
    Padding,
    Pool,
    Repeat,
    Residual,
)
from widegram.network.model import Network
from widegram.network.spec import parse_layers
from widegram.validation import bounds

# The smallest value of options that count something.
_LEAST = {"depth": 1, "filter": 1, "c": 0, "fixed_first": 0, "fixed_last": 0}
# Of a type where nothing is given by default.
_TRAINED = {"parameterization": "ntk", "width": int, "b_grad": float}
_COMMON = {
    "act": "Relu", "w_var": 2.0, "b_var": 0.0, "input": "", "augment": "", "fixed_first": 0,
    "fixed_last": 0, **_TRAINED,
}  # fmt: skip
_CNN = {"depth": 3, **_COMMON, "filter": 3, "padding": "CIRCULAR"}


@dataclass(frozen=True)
class _Given:
    """The options of a preset after parsing, and the layers that most presets share; ``axes``: of
    an input, 2 of an image."""

    values: Mapping[str, Any]
    activation: Activation
    axes: int
    conv_padding: Padding = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "conv_padding", self.values.get("padding", "SAME"))

    @property
    def depth(self) -> int:
        return int(self.values["depth"])

    @property
    def _weights(self) -> dict[str, Any]:
        return {
            "W_std": math.sqrt(self.values["w_var"]),
            "b_std": math.sqrt(self.values["b_var"]),
            **{option: self.values[option] for option in _TRAINED},
        }

    def dense(self) -> Dense:
        return Dense(**self._weights)

    def conv(self, stride: int = 1) -> Conv:
        size = int(self.values.get("filter", 3))
        window, strides = (size,) * self.axes, (stride,) * self.axes
        return Conv(window, strides, self.conv_padding, **self._weights)


def _fcn(o: _Given) -> list[Layer]:
    return [Repeat(o.depth, (o.dense(), o.activation)), o.dense()]


def _cnn_f(o: _Given) -> list[Layer]:
    return [Repeat(o.depth, (o.conv(), o.activation)), Flatten(), o.dense()]


def _cnn_p(o: _Given) -> list[Layer]:
    return [Repeat(o.depth, (o.conv(), o.activation)), GlobalPool("avg"), o.dense()]


def _cnn_lap(o: _Given) -> list[Layer]:
    """Li et al. 2019 (arXiv:1911.00809): every pixel becomes the mean over those at most ``c`` rows
    and columns away, zeros outside of the image; ``c`` = 0 has no pool."""
    side = 2 * int(o.values["c"]) + 1
    pool: list[Layer] = []
    if side > 1:
        pool = [Pool("avg", (side,) * o.axes, (1,) * o.axes, "SAME")]
    return [Repeat(o.depth, (o.conv(), o.activation)), *pool, Flatten(), o.dense()]


def _myrtle(*convs: int) -> Callable[[_Given], list[Layer]]:
    """Shankar et al. 2020, "Neural kernels without tangents", figure 1.

    The last pools there go down to one pixel with nothing in between: a global average.
    """

    def build(o: _Given) -> list[Layer]:
        layers: list[Layer] = []
        for count in convs:
            for _ in range(count):
                layers += [o.conv(), o.activation]
            layers.append(Pool("avg", (2,) * o.axes, (2,) * o.axes))
        return [*layers[:-1], GlobalPool("avg"), o.dense()]

    return build


def _wide_resnet(o: _Given) -> list[Layer]:
    """Zagoruyko and Komodakis 2016: three groups of pre-activation blocks, depth = 6 n + 4."""
    blocks, rest = divmod(o.depth - 4, 6)
    if rest or blocks < 1:
        raise WidegramError(
            f"preset wide-resnet: depth must be 6 n + 4 (10, 16, 22, 28, ...), found {o.depth}"
        )
    layers: list[Layer] = [o.conv()]
    for stride in (1, 2, 2):
        branch = (o.activation, o.conv(stride), o.activation, o.conv())
        layers.append(Residual(branch, (o.conv(stride),)))
        plain = (o.activation, o.conv(), o.activation, o.conv())
        layers.extend([Residual(plain)] * (blocks - 1))
    return [*layers, GlobalPool("avg"), o.dense()]


@dataclass(frozen=True)
class _Preset:
    """Options with their defaults (whose types the values must have), and the builder."""

    options: Mapping[str, Any]
    build: Callable[[_Given], list[Layer]]
    image: bool = True


PRESETS: Mapping[str, _Preset] = {
    "fcn": _Preset({"depth": 3, **_COMMON}, _fcn, image=False),
    "cnn-f": _Preset(_CNN, _cnn_f),
    "cnn-p": _Preset(_CNN, _cnn_p),
    "cnn-lap": _Preset({**_CNN, "padding": "SAME", "c": 4}, _cnn_lap),
    "myrtle5": _Preset(_COMMON, _myrtle(2, 1, 1)),
    "myrtle7": _Preset(_COMMON, _myrtle(2, 2, 2)),
    "myrtle10": _Preset(_COMMON, _myrtle(3, 3, 3)),
    "wide-resnet": _Preset({"depth": 28, **_COMMON}, _wide_resnet),
}


def preset(text: str, input_shape: tuple[int, ...] | None = None) -> Network:
    """Return the network of ``NAME`` or ``NAME:option=value,...``.

    ``input_shape`` comes from the data, or from the option ``input=32x32x3`` where there is none.

    Raises WidegramError for an unknown name or option, naming the nearest, for a bad value, and
    without an input shape.
    """
    return build(text, input_shape)


def build(
    text: str, input_shape: tuple[int, ...] | None = None, act: str | None = None, **more: float
) -> Network:
    """As :func:`preset`, with options that are values already.

    ``act`` may carry parameters, ``leakyrelu:alpha=0.1``. Raises WidegramError for an option that
    the text gives, too.
    """
    name, _, rest = text.strip().partition(":")
    if name not in PRESETS:
        raise WidegramError(
            f"unknown network {name!r}{nearest(name, PRESETS)} (or give a .json or .toml file)"
        )
    given = _unique(_split(rest, name), name)
    beside = [(key, repr(value)) for key, value in more.items()]
    if act is not None:
        beside += _split("act=" + act.replace(":", ",", 1), name)
    for key in sorted(given.keys() & _unique(beside, name)):
        raise WidegramError(
            f"preset {name}: option {key!r} is given twice, in {shown(text)} and beside it; leave "
            "one of them out"
        )
    return _built(PRESETS[name], name, input_shape, given | dict(beside))


def options_of(text: str) -> frozenset[str]:
    """Names of the options that the text of a preset gives; none of what is no preset."""
    name, _, rest = text.strip().partition(":")
    return frozenset(key for key, _ in _split(rest, name)) if name in PRESETS else frozenset()


def _built(
    entry: _Preset, name: str, input_shape: tuple[int, ...] | None, given: dict[str, str]
) -> Network:
    activation = _activation(given.pop("act", entry.options["act"]), given, entry.options, name)
    values: dict[str, Any] = {
        option: None if isinstance(default, type) else default
        for option, default in entry.options.items()
    }
    values |= {k: _value(k, v, entry.options, name) for k, v in given.items()}
    shape = _input_shape(values["input"], input_shape, name)
    axes = len(shape) - 1
    if entry.image and axes != 2 and not (axes == 1 and values["input"]):
        # (H, W) may be images without an axis of channels: sequences are asked for.
        said = "; reshape images to ({0}, {1}, 1), or add input={0}x{1} for sequences (L, C)"
        said = said.format(*shape) if axes == 1 else "; preset fcn takes vectors"
        raise WidegramError(
            f"preset {name} needs images (H, W, C), the input has shape {shape}{said}"
        )
    layers = _fixed(entry.build(_Given(values, activation, axes)), values, name)
    if not entry.image and axes:
        layers.insert(0, Flatten())
    augment = tuple(filter(None, values["augment"].split("+")))
    return Network(shape, tuple(layers), augment)


def _fixed(layers: list[Layer], values: Mapping[str, Any], name: str) -> list[Layer]:
    first, last = values["fixed_first"], values["fixed_last"]
    count = count_weights(layers)
    if first + last >= count:
        raise WidegramError(
            f"preset {name}: fixed_first and fixed_last leave none of its {count} layers with "
            "weights to train; make them smaller"
        )
    return list(with_fixed(tuple(layers), first, last)) if first or last else layers


def _split(text: str, name: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not key or not value:
            raise WidegramError(f"preset {name}: expected option=value, found {part!r}")
        yield key, value


def _unique(options: Iterable[tuple[str, str]], name: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for key, value in options:
        if key in given:
            raise WidegramError(f"preset {name}: option {key!r} is given twice")
        given[key] = value
    return given


def _activation(
    act: str, given: dict[str, str], options: Mapping[str, Any], name: str
) -> Activation:
    """Look up ``act`` whatever its case and underscores, taking its parameters out of ``given``."""
    known = {k.lower(): k for k in activations.DEFAULTS}
    key = act.lower().replace("_", "").replace("-", "")
    if key not in known:
        raise WidegramError(
            f"preset {name}: unknown activation {act!r}{nearest(act, activations.DEFAULTS)}"
        )
    parameters = activations.DEFAULTS[known[key]]
    for option in given:
        if option not in options and option not in parameters:
            hint = nearest(option, [*options, *parameters])
            raise WidegramError(f"preset {name}: unknown option {option!r}{hint}")
    spec: dict[str, Any] = {"layer": known[key]}
    for parameter in parameters:
        if parameter in given:
            text = given.pop(parameter)
            default = parameters[parameter]
            to = type(default) if isinstance(default, (int, str)) else float
            spec[parameter] = _convert(text, int if to is bool else to, parameter, name)
    try:
        (layer,) = parse_layers([spec])
    except WidegramError as error:
        raise WidegramError(str(error).replace("layers[0]", f"preset {name}:", 1)) from None
    assert isinstance(layer, Activation)
    return layer


def _convert(text: str, to: type, option: str, name: str) -> Any:
    try:
        value = to(text)
    except ValueError:
        kind = "an integer" if to is int else "a number"
        found = shown(text)
        raise WidegramError(f"preset {name}: {option} must be {kind}, found {found}") from None
    return value


def _value(option: str, text: str, options: Mapping[str, Any], name: str) -> Any:
    default = options[option]
    to = default if isinstance(default, type) else type(default)
    value = _convert(text, to, option, name)
    if option in _LEAST and value < _LEAST[option]:
        least = _LEAST[option]
        raise WidegramError(f"preset {name}: {option} must be >= {least}, found {shown(value)}")
    if option in _LEAST and value > bounds.LAYERS:
        raise WidegramError(
            f"preset {name}: {option} must be at most {bounds.LAYERS:,}, found {shown(value)}"
        )
    if option in ("w_var", "b_var") and not 0 <= value < math.inf:
        raise WidegramError(f"preset {name}: {option} must be finite and >= 0, found {value}")
    if option == "padding":
        value = value.upper()
        if value not in ("SAME", "CIRCULAR"):
            raise WidegramError(f"preset {name}: padding must be SAME or CIRCULAR, found {text}")
    return value


def _input_shape(text: str, given: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
    if not text:
        if given is None:
            raise WidegramError(
                f"preset {name} takes its input shape from the data; without data add "
                "input=32x32x3 to its options"
            )
        return tuple(given)
    shape = tuple(_convert(part, int, "input", name) for part in text.lower().split("x"))
    if given is not None and shape != tuple(given):
        raise WidegramError(f"preset {name}: input={text}, but the data has shape {tuple(given)}")
    return shape
