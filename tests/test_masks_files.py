"""Masked inputs in files and on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import mask_examples
from cli_support import refused, run, run_json
from network_specs import CONV, DENSE, FLATTEN, GAP, POOL, RELU
from widegram import kernel, verify
from widegram.network import load_network

PAGE = Path(__file__).parents[1] / "docs" / "masks.md"
CONV5 = {"layer": "Conv", "filter_shape": [5], "padding": "SAME", "b_std": 0.1}
LAYERS = [CONV5, RELU, CONV5, RELU, GAP, DENSE]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A network and sequences of different lengths, NaN behind their ends; one is empty."""
    x1, x2 = mask_examples.padded("files", (8, 3), np.nan)
    np.savez(tmp_path / "x.npz", x=x1, test=x2)
    spec = {"input_shape": [8, 3], "mask": "nan", "layers": LAYERS}
    (tmp_path / "net.json").write_text(json.dumps(spec))
    return tmp_path


def test_gram_of_padded_sequences(data: Path) -> None:
    x = np.load(data / "x.npz")
    network = load_network(data / "net.json")
    command = ["gram", "--net", data / "net.json", "--x", f"{data}/x.npz:x", "--tile", 2]
    out, cross = data / "K.h5", data / "C.h5"
    assert run_json(*command, "--out", out)["complete"]
    run_json(*command, "--out", cross, "--x2", f"{data}/x.npz:test")
    # The same command finds the same data again: fingerprints of NaN are fingerprints.
    assert run_json(*command, "--out", out)["entries"] == 0
    wanted = kernel(network, x["x"], dtype="float32")
    other = kernel(network, x["x"], x["test"])
    with h5py.File(out) as file, h5py.File(cross) as second:
        for key in ("nngp", "ntk"):
            np.testing.assert_array_equal(file[key], getattr(wanted, key))
            # float32 against float64
            np.testing.assert_allclose(second[key], getattr(other, key), atol=1e-6)
        assert json.loads(file.attrs["network"])["mask"] == "nan"
    report = verify(out)
    assert report.ok
    assert not report.dense_note
    assert run("verify", cross).exit_code == 0


def test_another_mask_is_another_network(data: Path) -> None:
    common = ["--x", f"{data}/x.npz:x", "--out", data / "K.h5"]
    run_json("gram", "--net", data / "net.json", *common)
    spec = {**json.loads((data / "net.json").read_text()), "mask": -1.0}
    (data / "net.json").write_text(json.dumps(spec))
    refused("x: row 0 holds NaN; every input", "gram", "--net", data / "net.json", *common)
    np.savez(data / "x.npz", x=np.zeros((3, 8, 3)))
    message = r"another network \(its mask is nan, not -1.0\)"
    refused(message, "gram", "--net", data / "net.json", *common)


def test_variances_of_masked_test_points(data: Path) -> None:
    net, x, test = data / "net.json", f"{data}/x.npz:x", f"{data}/x.npz:test"
    np.save(data / "y.npy", np.arange(3.0))
    run_json("gram", "--net", net, "--x", x, "--out", data / "K.h5")
    run_json("gram", "--net", net, "--x", test, "--x2", x, "--out", data / "C.h5")
    run_json("solve", data / "K.h5", "--kernel", "nngp", "--y", data / "y.npy", "--diag-reg", 0.1,
             "--out", data / "A.h5")  # fmt: skip
    found = {}
    for name, more in {"P": [], "Q": ["--x-test", test]}.items():
        run_json("predict", data / "A.h5", "--cross", data / "C.h5", "--variance", *more,
                 "--out", data / f"{name}.h5")  # fmt: skip
        with h5py.File(data / f"{name}.h5") as file:
            found[name] = file["variance"][...]
    assert np.isfinite(found["P"]).all()
    # the diagonal that the cross file holds, and that of the data: both are computed in float64
    np.testing.assert_allclose(found["Q"], found["P"], rtol=1e-10)


def test_net_shows_the_mask(data: Path) -> None:
    text = run("net", data / "net.json").stdout
    assert "mask  " in text
    assert "visible pixels" in text
    assert run_json("net", data / "net.json")["network"]["mask"] == "nan"


@pytest.mark.parametrize(("change", "message"), [
    ({"mask": "none"}, r"mask: must be a number or one of 'nan', 'inf', '-inf', found 'none'"),
    ({"mask": [0]}, r"mask: is a list of 1, and the input no list; give one number"),
    ({"mask": True}, r"mask: must be a number, 'nan', 'inf' or '-inf', found True"),
    ({"masks": 0}, r"unknown key 'masks', did you mean 'mask'"),
    ({"layers": [{**POOL, "window_shape": [2]}, FLATTEN]}, r"layers\[0\] AvgPool: takes values of"),
    ({"layers": [CONV, GAP]}, r"layers\[0\] Conv"),
])  # fmt: skip
def test_bad_masks_end_in_one_line(data: Path, change: Any, message: str) -> None:
    spec = {**json.loads((data / "net.json").read_text()), **change}
    (data / "net.json").write_text(json.dumps(spec))
    refused(message, "net", data / "net.json")


def test_a_mean_field_sweep_of_a_masked_network_is_refused(data: Path) -> None:
    spec = {"input_shape": [8, 3], "mask": "nan", "layers": [
        {"layer": "Flatten"}, {"layer": "Repeat", "times": 2, "body": [DENSE, {"layer": "Erf"}]},
        DENSE]}  # fmt: skip
    (data / "net.json").write_text(json.dumps(spec))
    x = np.random.default_rng(0).standard_normal((4, 8, 3))
    np.save(data / "plain.npy", x)
    refused("nor mask", "meanfield", "spectrum", "--net", data / "net.json", "--x",
            data / "plain.npy", "--depths", 1, "--train", 4, "--test", 0, "--out", data / "S.h5")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/masks.md shows, on fewer sequences."""
    text = PAGE.read_text().replace("300", "60").replace("200", "40")
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (shell,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(python, "masks.md", "exec"), {})
    for line in shell.strip().splitlines():
        result = run(*line.split()[1:])
        assert result.exit_code == 0, result.output
    assert "accuracy" in result.output
