"""``widegram data`` and ``widegram net``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_support import refused, run, run_json


def test_prepare_digits(tmp_path: Path):
    out = tmp_path / "digits.h5"
    args = ["data", "prepare", "digits", "--out", out, "--train", 50, "--test", 20, "--seed", 3]
    report = run_json(*args, "--normalize", "unit-norm", "--memory", "50MB")
    assert report["train_shape"] == [50, 8, 8, 1]
    assert report["test_shape"] == [20, 8, 8, 1]
    assert report["normalize"] == "unit-norm"
    with h5py.File(out) as file:
        norms = np.linalg.norm(file["train/x"][...].reshape(50, -1), axis=1)
        assert file["test/y"].shape == (20,)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)  # float32 rounding of 64 squares


def test_prepare_tells_people_what_it_wrote(tmp_path: Path):
    out = tmp_path / "digits.h5"
    result = run("data", "prepare", "digits", "--out", out)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "train/x    1438x8x8x1" in result.stdout
    assert "test/x     359x8x8x1" in result.stdout


def test_prepare_notes_that_labels_are_missing(tmp_path: Path):
    np.save(tmp_path / "pictures.npy", np.ones((6, 4, 4), np.uint8))
    result = run("data", "prepare", tmp_path / "pictures.npy", "--out", tmp_path / "p.h5")
    assert result.exit_code == 0
    assert "no labels were found; name them with --labels" in result.stderr
    assert "none found" in result.stdout


def test_info_lists_arrays_and_attributes(tmp_path: Path):
    out = tmp_path / "digits.h5"
    run("data", "prepare", "digits", "--out", out, "--train", 10, "--test", 5)
    found = run_json("data", "info", out)
    assert found["arrays"]["train/x"] == {"shape": [10, 8, 8, 1], "dtype": "float32"}
    assert found["arrays"]["test/y"] == {"shape": [5], "dtype": "int64"}
    assert found["attributes"]["source"] == "digits"
    text = run("data", "info", out).stdout
    assert re.search("train/x +10x8x8x1 float32", text)
    assert re.search("normalize +standardize", text)
    assert re.search("treatment +standardize with statistics of 10 training inputs", text)


def test_info_of_plain_arrays(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    np.savez(tmp_path / "b.npz", x=np.ones(4), y=np.arange(2))
    assert run("data", "info", tmp_path / "a.npy").stdout == f"{tmp_path / 'a.npy'}  3x2 float64\n"
    assert sorted(run_json("data", "info", tmp_path / "b.npz")["arrays"]) == ["x", "y"]
    refused("no such file", "data", "info", tmp_path / "c.npy")


def test_info_shortens_long_attributes(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((2, 9))
        file.attrs["mean"] = np.ones(9)
        file.attrs["std"] = np.ones(2)
    found = run_json("data", "info", tmp_path / "a.h5")
    assert found["attributes"] == {"mean": "9 values", "std": [1.0, 1.0]}


def test_net_prints_layers_shapes_planes_and_cost():
    result = run("net", "cnn-f:depth=2,w_var=4", "--input-shape", "8,8,1")
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "input 8x8x1"
    conv = next(line for line in lines if "Conv" in line)
    assert conv.split()[:4] == ["layers[0]", "Repeat.body[0]", "Conv", "8x8"]
    assert "filter_shape 3x3" in conv
    assert "W_std 2," in conv
    assert "stage 0: 1 displacements, 128 element-layers per entry" in lines
    assert "  input, 2 x (window 3x3 circular relu), reduce equal pixels" in lines
    assert "element-layers per entry  129" in lines


def test_net_as_json(tmp_path: Path):
    spec = {"input_shape": [5], "layers": [{"layer": "Dense", "W_std": 2}, {"layer": "Erf"}]}
    (tmp_path / "net.json").write_text(json.dumps(spec))
    found = run_json("net", tmp_path / "net.json")
    assert [row["layer"] for row in found["shapes"]] == ["layers[0] Dense", "layers[1] Erf"]
    assert found["shapes"][0]["parameters"] == {"W_std": 2.0, "b_std": 0.0}
    assert found["element_layers"] == 1
    assert found["bytes_per_pair"]["float64"] == 2 * found["bytes_per_pair"]["float32"]
    assert len(found["stages"]) == 1
    assert len(found["fingerprint"]) == 64


def test_net_parameters_of_nested_layers():
    found = run_json("net", "wide-resnet:depth=10,act=leakyrelu,alpha=0.1,input=8x8x3")
    rows = {row["layer"]: row["parameters"] for row in found["shapes"]}
    assert rows["layers[1] Residual.branch[0] LeakyRelu"] == {"alpha": 0.1}
    assert rows["layers[2] Residual.shortcut[0] Conv"]["strides"] == [2, 2]
    assert rows["layers[1] Residual"] == {}


def test_net_shows_presets_for_some_images_when_no_shape_is_given():
    result = run("net", "myrtle5", "--json")
    assert json.loads(result.stdout)["network"]["input_shape"] == [32, 32, 3]
    assert "choose with --input-shape" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["cnn-q"], r"unknown network 'cnn-q', did you mean"),
        (["myrtle5:input=8x8x1", "--depths", "1"], r"exactly one Repeat"),
        (["fcn:input=5", "--get", "kernel"], r"'kernel' is not a kernel"),
        (["fcn:depth=x", "--input-shape", "5"], r"preset fcn: depth must be an integer, found 'x'"),
    ],
)
def test_net_refuses(args: list[str], message: str):
    refused(message, "net", *args, "--json")
