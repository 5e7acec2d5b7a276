"""Networks and requests beyond every use: refused before anything is expanded, in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cli_support import refused, run, run_json
from widegram.errors import LONGEST, WidegramError, one_line, shown
from widegram.network import Dense, Network, Residual, load_network
from widegram.network.spec import count_layers, parse_layers
from widegram.validation import bounds

DENSE = {"layer": "Dense"}
RELU = {"layer": "Relu"}


def spec(*layers: object, shape: object = (64,)) -> str:
    return json.dumps({"input_shape": shape, "layers": layers})


def nested(depth: int, times: int, *body: dict) -> dict:
    """``body`` inside ``depth`` repeats of ``times`` each."""
    layer = {"layer": "Repeat", "times": times, "body": list(body)}
    for _ in range(depth - 1):
        layer = {"layer": "Repeat", "times": times, "body": [layer]}
    return layer


def residuals(depth: int) -> dict:
    layer: dict = DENSE
    for _ in range(depth):
        layer = {"layer": "Residual", "branch": [layer]}
    return layer


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (spec(nested(1, 10**12, DENSE)), r"1000000000000 layers.*at most 10,000"),
        (spec(nested(1, 10**300, DENSE)), r"an integer of about 301 digits layers.*at most 10,000"),
        (spec(nested(30, 2, DENSE, RELU)), r"layers, repeats counted.*at most 10,000"),
        (spec(nested(60, 2, DENSE)), r"inside one another more than 40 deep"),
        (spec(residuals(200)), r"inside one another more than 40 deep"),
        (spec(*[DENSE] * 20_000), r"layers: 20000 layers.*at most 10,000"),
        ("[" * 10_000, r"unknown network"),
        ('{"layers": ' + "[" * 10_000, r"nested too deeply"),
        (spec(DENSE).replace("64", "1" * 5000), r"a number has 5,000 digits"),
        ("fcn:depth=10000000", r"depth must be at most 10,000, found 10000000"),
        ("wide-resnet:depth=60000004", r"depth must be at most 10,000"),
        ("fcn:depth=" + "9" * 5000, r"depth must be an integer"),
        (spec(DENSE, shape=[10**20]), r"at most 2,147,483,648 numbers"),
        (spec(DENSE, shape=[10**4, 10**4, 1]), r"at most 4,194,304 pixels"),
        (
            spec(DENSE, {"layer": "GlobalAvgPool"}, shape=[1000, 1000, 1]),
            r"GlobalAvgPool: couples all pairs of 1000 x 1000 pixels",
        ),
        (spec({**DENSE, "W_std": 1e308}), r"W_std must be at most 1e\+75 in size, found 1e\+308"),
        (spec({**DENSE, "W_std": 10**350}), r"W_std must be at most .* about 351 digits"),
        (spec(DENSE, {"layer": "Erf", "a": 1e308}), r"Erf: a must be at most 1e\+75"),
        (spec(DENSE, {"layer": "Rbf", "gamma": -1}), r"Rbf: gamma must be >= 0, found -1"),
        (spec(DENSE, {"layer": "LayerNorm", "axis": 10**300}), r"axis names axes that no input"),
        (spec({"layer": "A" * 100_000}), r"unknown layer 'A+\.\.\.A+'; known"),
        (spec({"layer": "\ud800\n\x1b[31m"}), r"unknown layer '\\ud800\\n\\x1b"),
        ("x" * 5000 + ".json", r"cannot read the network: File name too long"),
        ("/dev/zero", r"/dev/zero: cannot read the network: Is no regular file"),
        ("/etc/", r"/etc: cannot read the network: Is a directory"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_absurd_networks_are_refused(net: str, message: str, tmp_path: Path):
    line = refused(message, "net", net, "--input-shape", "64")
    assert len(line.encode()) <= 1024
    np.save(tmp_path / "x.npy", np.ones((2, 64)))
    gram = ("gram", "--net", net, "--x", tmp_path / "x.npy", "--out", tmp_path / "K.h5")
    assert len(refused(message, *gram).encode()) <= 1024
    assert os.listdir(tmp_path) == ["x.npy"]


def test_layers_are_counted_without_writing_them_out():
    layers = parse_layers([nested(5, 3, DENSE, RELU), DENSE, residuals(2)])
    assert count_layers(layers) == 3**5 * 2 + 4
    assert count_layers(layers) == count_layers(Network((4,), layers).unrolled().layers)


def test_nesting_made_in_python_is_refused_too():
    layer: Dense | Residual = Dense()
    for _ in range(3000):
        layer = Residual((layer,))
    with pytest.raises(WidegramError, match="inside one another"):
        Network((4,), (layer,))


def test_a_named_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "net.json")
    refused(r"net\.json: cannot read the network: Is no regular file", "net", tmp_path / "net.json")


def test_a_network_from_a_pipe_of_the_shell():
    read, write = os.pipe()
    os.write(write, spec(DENSE).encode())
    os.close(write)
    assert load_network(f"/dev/fd/{read}").input_shape == (64,)
    os.close(read)


def test_a_network_file_has_a_largest_size(tmp_path: Path):
    path = tmp_path / "net.json"
    path.write_bytes(b" " * (bounds.NETWORK_BYTES + 1))
    refused(r"a network has at most 16,777,216 bytes", "net", path)


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_byte_order_marks_are_read(tmp_path: Path, suffix: str):
    text = spec(DENSE) if suffix == ".json" else 'input_shape = [64]\n[[layers]]\nlayer = "Dense"'
    path = tmp_path / f"net{suffix}"
    path.write_text(text, encoding="utf-8-sig")
    assert load_network(path) == load_network(spec(DENSE))
    assert load_network("\ufeff" + spec(DENSE)).input_shape == (64,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, r"net\.toml: .*nested too deeply"),
        (f"input_shape = [{'9' * 5000}]", r"net\.toml: .*a number has too many digits"),
        ("a = ", r"net\.toml: not valid TOML"),
        (".".join(["a"] * 200_000) + " = 1", r"net\.toml: .*tables are nested too deeply"),
        (". ".join(["a"] * 1000) + " = 1", r"net\.toml: .*tables are nested too deeply"),
        ("a = [" + "0.5, " * 100_000 + "]", r"net\.toml: network: unknown key 'a'"),
        ("A" * 1_000_000 + " = 1", r"net\.toml: network: unknown key 'A+"),
    ],
)
def test_absurd_toml_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "net.toml"
    path.write_text(text)
    refused(message, "net", path)


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_the_input_shape_may_come_from_elsewhere(tmp_path: Path, suffix: str):
    """From --input-shape or the data; what both say must agree."""
    path = tmp_path / f"net{suffix}"
    json_text = json.dumps({"layers": [DENSE, RELU, DENSE]})
    toml_text = "\n".join(f'[[layers]]\nlayer = "{name}"' for name in ("Dense", "Relu", "Dense"))
    path.write_text(json_text if suffix == ".json" else toml_text)
    whole = load_network(spec(DENSE, RELU, DENSE))
    assert run_json("net", path, "--input-shape", "64")["fingerprint"] == whole.fingerprint()
    refused(r"'input_shape' .* is missing; .*--input-shape or data", "net", path)
    for n in (1, 2):
        np.save(tmp_path / "x.npy", np.ones((2, 64 * n)))
        out = tmp_path / f"K{n}.h5"
        result = run("gram", "--net", path, "--x", tmp_path / "x.npy", "--out", out)
        assert result.exit_code == 0, result.stderr
        assert run_json("info", out)["network"]["input_shape"] == [64 * n]
    refused(
        r"the network expects \[64\], --input-shape has \[32\]",
        "net", spec(DENSE), "--input-shape", "32",
    )  # fmt: skip
    message = r"the network expects \[64\], the data has \[128\]"
    x, out = tmp_path / "x.npy", tmp_path / "K.h5"
    refused(message, "gram", "--net", spec(DENSE), "--x", x, "--out", out)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gram", "--depths", "1-1000000000000"], r"a depth is at most 10,000"),
        (["gram", "--depths", "9" * 5000], r"a depth is at most 10,000"),
        (["gram", "--tile", "1" + "0" * 30], r"is beyond 2\^63 - 1"),
        (["gram", "--memory", "1" + "0" * 400 + "GB"], r"too large; give at most 8 EiB"),
        (["data", "prepare", "--seed", "9" * 300], r"is beyond 2\^63 - 1"),
        (["solve", "--diag-reg-path", ",".join(["1e-3"] * 5000)], r"5,000 values, at most 1,000"),
        (["predict", "--time", ",".join(["1"] * 5000)], r"5,000 values, at most 1,000"),
        (["meanfield", "spectrum", "--depths", "1-100000000000"], r"a depth is at most 10,000"),
        (["meanfield", "trainability", "--depths", "1000000"], r"a depth is at most 10,000"),
        (["net", "--input-shape", "9" * 5000], r"has too many digits"),
    ],
)
def test_absurd_options_are_refused(args: list[str], message: str):
    assert len(refused(message, *args).encode()) <= 1024


def test_messages_are_one_printable_line_of_bounded_length():
    assert one_line("plain é 日本") == "plain é 日本"
    assert one_line("a\nb\x1b[2J\udcff\u202e\0") == r"a\nb\x1b[2J\udcff\u202e\x00"
    for hostile in ("x" * 10**6, "\0" * 10**6, "日" * 10**5, "\U0001f600" * 2000):
        line = one_line(f"start {hostile} end")
        assert len(line.encode()) <= LONGEST
        assert line.startswith("start ")
        assert line.endswith(" end")
        assert one_line(line) == line
    assert str(WidegramError("a\nb")) == r"a\nb"


def test_values_are_shown_shortened():
    assert shown([3, 3.0]) == "[3, 3.0]"
    assert shown(-(10**5000)) == "an integer of about 5,001 digits"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) < 300
    assert len(shown({"a" * 1000: list(range(1000))})) < 300
