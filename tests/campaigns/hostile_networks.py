"""Networks as JSON and TOML, changed at random places into what nobody would write."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from campaigns.case import BASE, Case

_DENSE, _RELU = {"layer": "Dense", "W_std": 1.5, "b_std": 0.1}, {"layer": "Relu"}
_CONV = {"layer": "Conv", "filter_shape": [3, 3], "strides": [1, 1], "padding": "SAME"}
_GOOD = (
    {"input_shape": [24], "layers": [_DENSE, _RELU, _DENSE, {"layer": "Erf", "a": 1.0}, _DENSE]},
    {"input_shape": [24], "layers": [
        _DENSE, {"layer": "Repeat", "times": 3, "body": [_RELU, _DENSE]},
        {"layer": "Residual", "branch": [_RELU, _DENSE], "shortcut": []},
        {"layer": "LayerNorm", "axis": [-1]}, {"layer": "Dropout", "rate": 0.5}, _DENSE]},
    {"input_shape": [8, 8, 1], "layers": [
        _CONV, _RELU, {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}, _CONV,
        {"layer": "Rbf", "gamma": 0.5}, {"layer": "GlobalAvgPool"}, _DENSE]},
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, 1e308, -1e308, 1e-308, float("nan"), float("inf"),
    10**12, 10**20, 10**400, "", "x", "SAME", "A" * 100_000, "\ud800", "a\nb\x1b[2J", "é", [],
    {}, [1], [1, 2], [1, 2, 3], [0, 0], [-1, 1], [10**9, 10**9], [[1], [2]], {"a": 1}, [None],
    [{"layer": "Dense"}] * 3, [{"layer": "Dense"}] * 20_000, {"layer": "Tanh"}, {"layer": None},
    {"layer": "Flatten"}, {"layer": "Sin", "a": 1e200}, {"layer": "Softplus"}, {"layer": "Gelu"},
)  # fmt: skip


def network_case(rng: random.Random) -> Case:
    """One changed network, in a file or on the command line, for `net` or `gram`."""
    spec = copy.deepcopy(rng.choice(_GOOD))
    vectors = len(spec["input_shape"]) == 1
    steps = [_change(spec, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    toml = rng.random() < 0.25
    text = _toml(spec) if toml else json.dumps(spec)
    content = _garbled(text, rng)
    inside = (
        not toml and b"\0" not in content and len(content) < 30_000 and content[:1] == b"{"
        and rng.random() < 0.3
    )  # fmt: skip
    name = (
        content.decode(errors="surrogateescape") if inside else f"net.{'toml' if toml else 'json'}"
    )

    def make(folder: Path) -> None:
        if not inside:
            (folder / name).write_bytes(content)

    label = f"{'toml' if toml else 'json'}: {'; '.join(steps)}"[:150]
    if rng.random() < 0.5:
        return Case("networks", label, ("net", name, "--input-shape=24"), make=make)
    x = f"{BASE}/v.npy" if vectors else f"{BASE}/digits.h5:train/x"
    words = ("gram", "--net", name, "--x", x, "--limit", "3", "--device", "cpu", "--threads", "1",
             "--out", "o.h5")  # fmt: skip
    return Case("networks", label, words, make=make)


def deep_case(rng: random.Random) -> Case:
    """Nesting, lengths and counts beyond all limits, which nobody may expand."""
    depth = rng.choice((41, 100, 1000, 20_000, 200_000))
    times = rng.choice((1, 2, 10**6, 10**12, 10**300))
    body = '{"layer":"Dense"},{"layer":"Relu"}'
    forms = {
        "repeats": f'{{"layer":"Repeat","times":{times},"body":[' * min(depth, 50_000),
        "residuals": '{"layer":"Residual","branch":[' * min(depth, 50_000),
    }
    form = rng.choice((*forms, "lists", "layers", "digits", "tables"))
    if form in forms:
        text = forms[form] + body + "]}" * min(depth, 50_000)
    elif form == "lists":
        text = "[" * depth + "]" * depth
    elif form == "layers":
        text = ",".join([body] * max(depth, 10_001))
    else:
        text = '{"layer":"Dense","W_std":' + "9" * max(depth, 401) + "}"
    spec = f'{{"input_shape":[24],"layers":[{text}]}}'
    name = "net.toml" if form == "tables" else "net.json"
    content = ".".join(["a"] * depth) + " = 1" if form == "tables" else spec

    def make(folder: Path) -> None:
        (folder / name).write_text(content)

    return Case(
        "networks", f"{form} {depth} deep, {times:.0e} times"[:80], ("net", name), (2,), make
    )


def _places(node: Any, found: list[tuple[Any, Any]]) -> None:
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        found.append((node, key))
        if isinstance(node[key], dict | list):
            _places(node[key], found)


def _change(spec: dict[str, Any], rng: random.Random) -> str:
    found: list[tuple[Any, Any]] = []
    _places(spec, found)
    if not found:
        return "nothing left"
    node, key = rng.choice(found)
    how = rng.randrange(6)
    if how <= 2:
        value = copy.deepcopy(rng.choice(_VALUES))
        node[key] = value
        return f"{str(key)[:20]} = {repr(value)[:30] if not isinstance(value, int) else 'int'}"
    if how == 3:
        del node[key]
        return f"no {str(key)[:20]}"
    if how == 4 and isinstance(node, dict):
        node[rng.choice(("layers", "W_std", "times", "foo", "", "é", "width"))] = node.pop(key)
        return f"{str(key)[:20]} renamed"
    if isinstance(node, list):
        inner = {rng.choice(("body", "branch")): [copy.deepcopy(node[key])]}
        outer = {"layer": rng.choice(("Repeat", "Residual")), "times": rng.choice((1, 2, 10**9))}
        node[key] = {**outer, **inner}
        return f"{key} wrapped"
    return "as it was"


def _toml(value: Any) -> str:
    """A TOML document of a specification: keys of the root as lines, all else inline."""
    return "\n".join(f"{json.dumps(str(k))} = {_inline(v)}" for k, v in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(str(k))} = {_inline(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if value is None:
        return '"none"'
    return {"NaN": "nan", "Infinity": "inf"}.get(text := json.dumps(value), text)


def _garbled(text: str, rng: random.Random) -> bytes:
    """Mostly the text itself; else cut, with strange bytes, or in another encoding."""
    data = text.encode("utf-8", "surrogatepass")
    how = rng.randrange(12)
    if how == 0:
        return data[: rng.randrange(len(data) + 1)]
    if how == 1:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.randbytes(rng.randint(1, 4)) + data[at:]
    if how == 2:
        return b"\xef\xbb\xbf" + data
    if how == 3:
        return text.encode("utf-16", "surrogatepass")
    if how == 4:
        return data + b"\0"
    return data
