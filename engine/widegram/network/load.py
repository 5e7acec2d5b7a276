"""Reading a network from a file, JSON text, a dict or a preset's name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from widegram.errors import WidegramError
from widegram.network.model import Network
from widegram.network.presets import PRESETS, preset
from widegram.network.spec import nearest, parse_input_shape, parse_layers


@runtime_checkable
class MakesNetwork(Protocol):
    """What knows its network once it is told the shape of an input: a ``kernel_fn`` of stax."""

    def network(self, input_shape: Sequence[int]) -> Network:
        """The network for inputs (D,) or (H, W, C)."""
        ...


# (init_fn, apply_fn, kernel_fn) of stax is a tuple.
NetworkLike = str | Path | Mapping[str, Any] | Network | MakesNetwork | tuple[Any, ...]


def load_network(
    net: NetworkLike,
    input_shape: tuple[int, ...] | None = None,
) -> Network:
    """Return the network that ``net`` describes.

    Args:
        net: a ``.json`` or ``.toml`` file, JSON text, a specification as a dict, a preset such as
            ``"fcn:depth=3,act=erf"``, a Network, a ``kernel_fn`` of :mod:`widegram.stax`, or the
            triple ``(init_fn, apply_fn, kernel_fn)`` that holds one.
        input_shape: shape of one input of the data, (D,) or (H, W, C): presets take theirs from
            it, any other network must agree with it.

    Raises:
        WidegramError: unreadable or malformed source, an invalid network (names the layer), or an
            input shape other than the data's.
    """
    if isinstance(net, tuple) and len(net) == 3:
        net = net[2]
    if isinstance(net, Network):
        network = net
    elif isinstance(net, MakesNetwork):
        if input_shape is None:
            raise WidegramError("a kernel_fn has no input shape of its own; give input_shape")
        network = net.network(input_shape)
    elif isinstance(net, Mapping):
        network = _from_spec(net)
    elif isinstance(net, Path):
        network = _from_spec(_read(net), f"{net}: ")
    elif not isinstance(net, str):
        raise WidegramError(f"a network is a file, JSON text, a dict or a preset, found {net!r}")
    elif net.lstrip().startswith("{"):
        network = _from_spec(_parse_json(net, "network"))
    elif net.split(":")[0].strip() in PRESETS:
        network = preset(net, input_shape)
    elif _looks_like_path(net):
        network = _from_spec(_read(Path(net)), f"{net}: ")
    else:
        network = preset(net, input_shape)
    if input_shape is not None and network.input_shape != tuple(input_shape):
        raise WidegramError(
            f"input_shape: the network expects {list(network.input_shape)}, "
            f"the data has {list(input_shape)}"
        )
    return network


def _looks_like_path(text: str) -> bool:
    path = Path(text)
    return path.suffix.lower() in (".json", ".toml") or "/" in text or path.is_file()


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WidegramError(f"{path}: cannot read the network: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WidegramError(f"{path}: not a text file; a network is JSON or TOML") from None
    if path.suffix.lower() == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise WidegramError(f"{path}: not valid TOML: {error}") from None
    return _parse_json(text, str(path))


def _parse_json(text: str, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise WidegramError(f"{where}: the key {twice!r} is given twice in one object")
        return out

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise WidegramError(
            f"{where}: not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None


def _from_spec(spec: Any, where: str = "") -> Network:
    try:
        return _check_spec(spec)
    except WidegramError as error:
        raise WidegramError(f"{where}{error}") from None


def _check_spec(spec: Any) -> Network:
    keys = ("input_shape", "layers")
    if not isinstance(spec, Mapping):
        raise WidegramError(
            f'network: must be {{"input_shape": [...], "layers": [...]}}, found {spec!r}'
        )
    for key in spec:
        if key not in keys:
            raise WidegramError(f"network: unknown key {key!r}{nearest(str(key), keys)}")
    for key in keys:
        if key not in spec:
            hint = " [D] or [H, W, C]" if key == "input_shape" else ""
            raise WidegramError(f"network: {key!r}{hint} is missing")
    return Network(parse_input_shape(spec["input_shape"]), parse_layers(spec["layers"]))
