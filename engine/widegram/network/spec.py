"""Network specification (plain dicts and lists) to and from layers, with every value checked.

One table, :data:`widegram.network.kinds.LAYERS`, lists the names, parameters and defaults;
activations come from :data:`widegram.activations.DEFAULTS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args

from widegram import activations
from widegram.activations.table import SERIES
from widegram.errors import WidegramError, shown
from widegram.network import checks, trained
from widegram.network.kinds import FAN_IN, LAYERS, REQUIRED, LayerKind, Parameter, layer_name
from widegram.network.layers import (
    Activation,
    FanIn,
    Layer,
    Readouts,
    Repeat,
    Residual,
    lists_inside,
)
from widegram.network.selection import written
from widegram.validation import bounds
from widegram.validation.choices import FLIPS

_COMPOSITE = {
    "Residual": ("branch", "shortcut"),
    **{name: ("branches", *kind.parameters) for name, kind in FAN_IN.items()},
    "Repeat": ("times", "body"),
    "Readouts": ("heads",),
}
# Names of heads are parts of the names of datasets.
_HEAD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,63}")
_WIDTHS = {"out_dim", "out_chan", "channels", "width", "features"}


def parse_input_shape(value: Any) -> tuple[int, ...]:
    """Return a checked input shape: (D,) of vectors, (L, C) of sequences, (H, W, C) of images.

    Raises WidegramError for anything else.
    """
    ok = isinstance(value, (list, tuple)) and all(checks.is_int(v) and v >= 1 for v in value)
    if not ok or len(value) not in (1, 2, 3):
        more = "; volumes [D, H, W, C] are not supported" if ok and len(value) == 4 else ""
        raise WidegramError(
            "input_shape: must be [D], [L, C] or [H, W, C] with integers >= 1, found "
            f"{shown(value)}{more}"
        )
    for what, size, most in (
        ("numbers", math.prod(value), bounds.NUMBERS),
        ("pixels", math.prod(value[:-1]), bounds.PIXELS),
    ):
        if size > most:
            raise WidegramError(
                f"input_shape: an input has at most {most:,} {what}, found {shown(value)}"
            )
    return tuple(value)


def parse_augment(value: Any) -> tuple[str, ...]:
    """Return checked names of flips, sorted; () where there are none.

    Raises WidegramError for anything else.
    """
    if not isinstance(value, (list, tuple)):
        raise WidegramError(f"augment: must be a list of {', '.join(FLIPS)}, found {shown(value)}")
    for name in value:
        if not isinstance(name, str) or name not in FLIPS:
            raise WidegramError(f"augment: unknown {shown(name)}{checks.nearest(str(name), FLIPS)}")
    if len(set(value)) < len(value):
        raise WidegramError(f"augment: names one flip twice, found {shown(list(value))}")
    return tuple(sorted(value))


def parse_layers(spec: Any, where: str = "layers", depth: int = 0) -> tuple[Layer, ...]:
    """Return the layers that a list of ``{"layer": NAME, ...}`` describes.

    ``depth`` counts the compositions around the list.

    Raises WidegramError, which names the layer's path, for an unknown name, an unknown, missing or
    bad parameter, and more layers or compositions than :mod:`widegram.validation.bounds` allows.
    """
    if not isinstance(spec, (list, tuple)):
        raise WidegramError(f"{where}: must be a list of layers, found {shown(spec)}")
    _check_nesting(depth, where)
    _check_count(len(spec), where)
    layers = tuple(_parse_layer(entry, f"{where}[{i}]", depth) for i, entry in enumerate(spec))
    for i, layer in enumerate(layers):
        if isinstance(layer, Readouts) and (depth or i + 1 < len(layers)):
            raise WidegramError(
                f"{where}[{i}] Readouts: stands last in the network and in no other layer; put "
                "what follows it into its heads"
            )
    _check_count(count_layers(layers), where)
    return layers


def count_layers(layers: Iterable[Layer]) -> int:
    """Layers once every Repeat is written out, found without writing it out."""
    count = 0
    for layer in layers:
        match layer:
            case Repeat(times=times, body=body):
                count += times * count_layers(body)
            case FanIn(branches=branches):
                count += 1 + sum(1 + count_layers(branch) for branch in branches)
            case _:
                count += 1 + sum(count_layers(inner) for inner in lists_inside(layer))
    return count


def _check_count(count: int, where: str) -> None:
    if count > bounds.LAYERS:
        raise WidegramError(
            f"{where}: {shown(count)} layers, repeats counted; a network has at most "
            f"{bounds.LAYERS:,}"
        )


def _check_nesting(depth: int, where: str) -> None:
    if depth > bounds.NESTING:
        raise WidegramError(
            f"{where}: Residual, Repeat and others stand inside one another more than "
            f"{bounds.NESTING} deep; flatten the network"
        )


def _parse_layer(entry: Any, where: str, depth: int) -> Layer:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("layer"), str):
        raise WidegramError(f'{where}: must be {{"layer": NAME, ...}}, found {shown(entry)}')
    name = entry["layer"]
    values = {str(key): value for key, value in entry.items() if key != "layer"}
    path = f"{where} {name}"
    if name in _COMPOSITE:
        return _parse_composite(name, values, path, depth + 1)
    if name in LAYERS:
        kind = LAYERS[name]
        given = _parse_parameters(kind.parameters, values, path)
        trained.check(given, path)
        if kind.settle is not None:
            _checked(kind.settle, given, f"{path}:")
        return kind.make(**kind.fixed, **given)
    if name in activations.DEFAULTS:
        return _parse_activation(name, values, path)
    known = [*LAYERS, *_COMPOSITE, *activations.DEFAULTS]
    raise WidegramError(f"{where}: unknown layer {shown(name)}{checks.nearest(name, known)}")


def _parse_activation(name: str, values: dict[str, Any], path: str) -> Activation:
    row = activations.TABLE[name]
    parameters = {
        key: Parameter(
            row.checks.get(key, checks.number),
            REQUIRED if default is activations.REQUIRED else default,
        )
        for key, default in row.params.items()
    }
    if "deg" in values and name in SERIES:
        # neural-tangents' quadrature degree: the Hermite series here chooses its own
        _parse_parameters({"deg": Parameter(checks.times)}, {"deg": values.pop("deg")}, path)
    checked = _parse_parameters(parameters, values, path)
    try:
        activations.get(name, checked)
    except WidegramError as error:
        raise WidegramError(f"{path}: {str(error).removeprefix(f'{name}: ')}") from None
    if row.unwritten and checked == row.params:
        checked = {}
    return Activation(name, tuple(sorted(checked.items())))


def _parse_parameters(
    parameters: Mapping[str, Parameter], values: dict[str, Any], path: str
) -> dict[str, Any]:
    _refuse_unknown(values, parameters, path)
    out = {}
    for key, parameter in parameters.items():
        value = values.get(key, parameter.default)
        if value is REQUIRED:
            raise WidegramError(f"{path}: parameter {key!r} is missing")
        out[key] = _checked(parameter.check, value, f"{path}: {key}")
    return out


def _checked(check: Callable[[Any], Any], value: Any, where: str) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise WidegramError(f"{where} {error}") from None


def _refuse_unknown(values: Iterable[str], known: Iterable[str], path: str) -> None:
    for key in values:
        if key in _WIDTHS and key not in known:
            raise WidegramError(f"{path}: parameter {key!r}: widths are infinite, leave it out")
        if key not in known:
            hint = checks.nearest(key, known)
            raise WidegramError(f"{path}: unknown parameter {shown(key)}{hint}")


def _parse_composite(name: str, values: dict[str, Any], path: str, depth: int) -> Layer:
    _refuse_unknown(values, _COMPOSITE[name], path)
    if name == "Readouts":
        return _parse_readouts(values.get("heads"), path, depth)
    if name in FAN_IN:
        return _parse_fan_in(FAN_IN[name], values, path, depth)
    inner = "branch" if name == "Residual" else "body"
    if not values.get(inner):
        raise WidegramError(f"{path}: {inner} must be a list of at least one layer")
    layers = parse_layers(values[inner], f"{path}.{inner}", depth)
    if name == "Residual":
        shortcut = parse_layers(values.get("shortcut", []), f"{path}.shortcut", depth)
        return Residual(layers, shortcut)
    if "times" not in values:
        raise WidegramError(f"{path}: parameter 'times' is missing")
    try:
        return Repeat(checks.times(values["times"]), layers)
    except ValueError as error:
        raise WidegramError(f"{path}: times {error}") from None


def _parse_fan_in(kind: LayerKind, values: dict[str, Any], path: str, depth: int) -> Layer:
    branches = values.pop("branches", None)
    if not isinstance(branches, (list, tuple)) or not branches:
        raise WidegramError(
            f"{path}: branches must be a list of lists of layers, [] for the identity, with at "
            f"least one of them, found {shown(branches)}"
        )
    _check_count(len(branches), path)
    given = _parse_parameters(kind.parameters, values, path)
    return kind.make(
        tuple(parse_layers(b, f"{path}.branches[{n}]", depth) for n, b in enumerate(branches)),
        **given,
    )


def _parse_readouts(heads: Any, path: str, depth: int) -> Readouts:
    if not isinstance(heads, Mapping) or not heads:
        raise WidegramError(
            f'{path}: heads must be {{"NAME": [layers], ...}} with at least one name, '
            f"found {shown(heads)}"
        )
    for name in heads:
        if not isinstance(name, str) or not _HEAD.fullmatch(name):
            raise WidegramError(
                f"{path}: a head's name has at most 64 letters, digits and _ - = . and does not "
                f"begin with one of the last three, found {shown(name)}"
            )
    return Readouts(
        tuple(
            (name, parse_layers(layers, f"{path}.heads.{name}", depth))
            for name, layers in sorted(heads.items())
        )
    )


def write_layers(layers: Iterable[Layer], depth: int = 0) -> list[dict[str, Any]]:
    """Return the specification of layers with every parameter spelt out, ready for JSON.

    ``depth`` counts the compositions around them.
    """
    _check_nesting(depth, "layers")
    return [_write_layer(layer, depth) for layer in layers]


def _write_layer(layer: Layer, depth: int) -> dict[str, Any]:
    if isinstance(layer, Activation):
        return {"layer": layer.name, **{key: _plain(value) for key, value in layer.params}}
    if not isinstance(layer, get_args(Layer)):
        raise WidegramError(f"layers: not a layer: {shown(layer)}")
    name = layer_name(layer)
    out: dict[str, Any] = {"layer": name}
    kind = LAYERS.get(name) or FAN_IN.get(name)
    for field in fields(layer):
        key, value = field.name, getattr(layer, field.name)
        if kind is not None and (key in kind.fixed or kind.unsaid(key, value, field.default)):
            continue
        if key in ("branch", "shortcut", "body"):
            value = write_layers(value, depth + 1)
        if key == "branches":
            value = [write_layers(branch, depth + 1) for branch in value]
        if key == "heads":
            value = {name: write_layers(head, depth + 1) for name, head in value}
        out[key] = written(value) if key == "idx" else _plain(value)
    return out


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
