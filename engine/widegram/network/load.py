"""Reading a network from a file, JSON text, a dict or a preset's name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from widegram.errors import WidegramError, shown
from widegram.network.checks import nearest
from widegram.network.inputs import Shapes, in_words, is_list, parse_shapes
from widegram.network.model import Network, network_of
from widegram.network.presets import PRESETS, preset
from widegram.network.spec import parse_augment, parse_layers
from widegram.validation import bounds
from widegram.validation.reading import read_text

_LONGEST_NUMBER = 400  # characters; 1e308 written out has 309
_BYTE_ORDER_MARK = "\ufeff"
# A dotted key of TOML, a.a.a: the time to read one grows with the square of its parts.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]+\s*\.\s*){41}""")


@runtime_checkable
class MakesNetwork(Protocol):
    """What knows its network once it is told the shape of an input: a ``kernel_fn`` of stax."""

    def network(self, input_shape: Sequence[Any]) -> Network:
        """The network for inputs (D,), (L, C) or (H, W, C), or for a list of them."""
        ...


# (init_fn, apply_fn, kernel_fn) of stax is a tuple.
NetworkLike = str | Path | Mapping[str, Any] | Network | MakesNetwork | tuple[Any, ...]


def load_network(
    net: NetworkLike,
    input_shape: Shapes | None = None,
    *,
    given_by: str = "the data",
) -> Network:
    """Return the network that ``net`` describes.

    * ``net``: a ``.json`` or ``.toml`` file, JSON text, a specification as a dict, a preset such as
      ``"fcn:depth=3,act=erf"``, a Network, a ``kernel_fn`` of :mod:`widegram.stax`, or the triple
      ``(init_fn, apply_fn, kernel_fn)`` that holds one
    * ``input_shape``: shape of one input of the data, (D,), (L, C) or (H, W, C), or of each of a
      list: presets and specifications without an ``input_shape`` take theirs from it, any other
      network must agree with it
    * ``given_by``: what ``input_shape`` comes from, for messages

    Raises WidegramError for an unreadable or malformed source, an invalid network, naming the
    layer, without an input shape, and for one other than the data's.
    """
    if input_shape is not None:
        input_shape = parse_shapes(input_shape)
    network = _described(net, input_shape)
    if input_shape is not None and network.expects != input_shape:
        raise WidegramError(
            f"input_shape: the network expects {in_words(network.expects)}, "
            f"{given_by} has {in_words(input_shape)}"
        )
    return network


def _described(net: NetworkLike, input_shape: Shapes | None) -> Network:
    """The network that ``net`` describes, for inputs of that shape where it has none."""
    if isinstance(net, tuple) and len(net) == 3:
        net = net[2]
    if isinstance(net, Network):
        return net
    if isinstance(net, MakesNetwork):
        if input_shape is None:
            raise WidegramError("a kernel_fn has no input shape of its own; give input_shape")
        return net.network(input_shape)
    if isinstance(net, Mapping):
        return _from_spec(net, input_shape)
    if isinstance(net, Path):
        return _from_spec(_read(net), input_shape, f"{net}: ")
    if not isinstance(net, str):
        raise WidegramError(
            f"a network is a file, JSON text, a dict or a preset, found {shown(net)}"
        )
    text = net.lstrip(_BYTE_ORDER_MARK)
    if text.lstrip().startswith("{"):
        return _from_spec(_parse_json(text, "network"), input_shape)
    if net.split(":")[0].strip() not in PRESETS and _looks_like_path(net):
        return _from_spec(_read(Path(net)), input_shape, f"{net}: ")
    return _preset(net, input_shape)


def _preset(name: str, input_shape: Shapes | None) -> Network:
    """The preset of that name, for one input."""
    if input_shape is not None and is_list(input_shape):
        raise WidegramError(
            f"network: {shown(name)} is a preset, which takes one input, found a list of "
            f"{len(input_shape)}; write a specification (docs/branches.md)"
        )
    return preset(name, cast("tuple[int, ...] | None", input_shape))


def _looks_like_path(text: str) -> bool:
    try:
        path = Path(text)
        return path.suffix.lower() in (".json", ".toml") or "/" in text or path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL, is no file
        return False


def _read(path: Path) -> Any:
    text = read_text(path, "network", bounds.NETWORK_BYTES)
    if path.suffix.lower() != ".toml":
        return _parse_json(text, str(path))
    import tomllib

    if _LONG_KEY.search(text):
        raise WidegramError(f"{path}: not a network: its tables are nested too deeply")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WidegramError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise WidegramError(f"{path}: not a network: its lists are nested too deeply") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise WidegramError(f"{path}: not a network: a number has too many digits") from None


def _parse_json(text: str, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise WidegramError(f"{where}: the key {shown(twice)} is given twice in one object")
        return out

    def integer(digits: str) -> int:
        if len(digits) > _LONGEST_NUMBER:
            raise WidegramError(f"{where}: a number has {len(digits):,} digits")
        return int(digits)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_int=integer)
    except RecursionError:
        raise WidegramError(f"{where}: not a network: its lists are nested too deeply") from None
    except json.JSONDecodeError as error:
        raise WidegramError(
            f"{where}: not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None


def _from_spec(spec: Any, input_shape: Shapes | None, where: str = "") -> Network:
    try:
        return _check_spec(spec, input_shape)
    except WidegramError as error:
        raise WidegramError(f"{where}{error}") from None


def _check_spec(spec: Any, input_shape: Shapes | None) -> Network:
    keys = ("input_shape", "layers", "augment", "mask")
    if not isinstance(spec, Mapping):
        raise WidegramError(
            f'network: must be {{"input_shape": [...], "layers": [...]}}, found {shown(spec)}'
        )
    for key in spec:
        if key not in keys:
            raise WidegramError(f"network: unknown key {shown(key)}{nearest(str(key), keys)}")
    if "layers" not in spec:
        raise WidegramError("network: 'layers' is missing")
    layers, augment = parse_layers(spec["layers"]), parse_augment(spec.get("augment", ()))
    mask = spec.get("mask")
    if "input_shape" in spec:
        return network_of(parse_shapes(spec["input_shape"]), layers, augment, mask)
    if input_shape is None:
        raise WidegramError(
            "network: 'input_shape' [D], [L, C] or [H, W, C] is missing; write it beside 'layers', "
            "or give --input-shape or data"
        )
    return network_of(input_shape, layers, augment, mask)


def has_function(spec: Any) -> bool:
    """Whether a written network has a function of Python's, which no file holds."""
    if isinstance(spec, Mapping):
        return spec.get("layer") == "Elementwise" or any(map(has_function, spec.values()))
    return isinstance(spec, (list, tuple)) and any(map(has_function, spec))
