"""Networks of several inputs on the command line: --x given again, resuming, predicting."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_support import refused, run, run_json
from network_specs import CONV, DENSE, GAP, RELU
from test_branches import sum_of
from widegram import kernel
from widegram.gramfile.header import Header
from widegram.gramfile.view import GramFile

LAYERS = [{**sum_of([CONV, RELU, GAP, DENSE], [DENSE, RELU, DENSE]), "parallel": True},
          {"layer": "Repeat", "times": 2, "body": [RELU, DENSE]}]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network n.json; images a, vectors b of 10 rows, a2 and t.h5:x/y of 4, c of 9."""
    rng = np.random.default_rng(0)
    (tmp_path / "n.json").write_text(json.dumps({"layers": LAYERS}))
    np.save(tmp_path / "a.npy", rng.standard_normal((10, 4, 3, 2)).astype(np.float32))
    np.save(tmp_path / "b.npy", rng.standard_normal((10, 5)))
    np.save(tmp_path / "a2.npy", rng.standard_normal((4, 4, 3, 2)))
    np.save(tmp_path / "c.npy", rng.standard_normal((9, 5)))
    np.save(tmp_path / "y.npy", rng.integers(0, 2, 10))
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["x/y"] = rng.standard_normal((4, 5))
    return tmp_path


def gram(folder: Path, *inputs: str, out: str = "K.h5", second: tuple[str, ...] = ()) -> list[str]:
    """The arguments of ``gram`` for data in a folder."""
    data = [("--x", name) for name in inputs] + [("--x2", name) for name in second]
    given = [text for option, name in data for text in (option, str(folder / name))]
    return ["gram", "--net", str(folder / "n.json"), *given, "--out", str(folder / out)]


def test_from_gram_to_predictions(folder: Path) -> None:
    options = "--dtype", "float64", "--tile", "4"
    values = run_json(*gram(folder, "a.npy", "b.npy"), *options, "--depths", "1,2")
    assert (values["entries"], values["complete"]) == (100, True)
    assert "was complete already" in run(*gram(folder, "a.npy", "b.npy"), *options, "--depths",
                                         "1,2").stdout  # fmt: skip
    x = [np.load(folder / name) for name in ("a.npy", "b.npy")]
    whole = kernel({"layers": LAYERS}, x)
    with h5py.File(folder / "K.h5") as file:
        # other tiles, the same arithmetic
        np.testing.assert_allclose(file["depth/2/ntk"][...], whole.ntk, rtol=1e-14)
        assert len(file.attrs["x1_fingerprint"].split()) == 2
    report = run_json("verify", folder / "K.h5")
    assert report["max_difference"] == 0
    # float64 of two methods
    assert report["dense_difference"] < 1e-13
    assert report["dense_entries"]
    cross = gram(folder, "a2.npy", "t.h5:x/y", out="C.h5", second=("a.npy", "b.npy"))
    assert run_json(*cross, "--dtype", "float64", "--depths", "2")["entries"] == 40
    run_json("solve", folder / "K.h5", "--kernel", "nngp", "--y", folder / "y.npy", "--depth", 2,
             "--diag-reg", "1e-3", "--out", folder / "A.h5")  # fmt: skip
    predict = ["predict", folder / "A.h5", "--cross", folder / "C.h5", "--depth", 2, "--variance"]
    held = run_json(*predict)["mean_variance"]
    data = "--x-test", folder / "a2.npy", "--x-test", f"{folder / 't.h5'}:x/y"
    # from the file, and computed again from the data it names
    assert run_json(*predict, *data)["mean_variance"] == pytest.approx(held, rel=1e-12)
    refused("a2.npy: is not the test data", *predict, *data[:2])


def test_resuming_with_other_inputs(folder: Path) -> None:
    np.save(folder / "d.npy", np.load(folder / "b.npy") + 1)
    np.save(folder / "e.npy", np.load(folder / "a.npy") * 2)
    branch = [CONV, GAP, DENSE]
    network = {"layers": [{**sum_of(branch, branch), "parallel": True}]}
    (folder / "n.json").write_text(json.dumps(network))
    run_json(*gram(folder, "a.npy", "e.npy"), "--limit", 4)
    line = refused("output of another run", *gram(folder, "e.npy", "a.npy"), "--limit", 4)
    assert "other data as x1: its inputs in another order (4 rows then, 4 now)" in line
    line = refused("output of another run", *gram(folder, "a.npy", "a.npy"), "--limit", 4)
    assert "other data as x1: input 2 of 2 (4 rows then, 4 now)" in line
    line = refused("output of another run", *gram(folder, "a.npy", "e.npy"), "--limit", 5)
    assert "input 1, 2 of 2 (4 rows then, 5 now)" in line
    with GramFile(folder / "K.h5") as file:
        header: Header = file.header
    assert header.x1_location.count(" and the input ") == 1
    network = {"layers": [{**sum_of(*[branch] * 3), "parallel": True}]}
    (folder / "n.json").write_text(json.dumps(network))
    line = refused("another network", *gram(folder, "a.npy", "e.npy", "a.npy"), "--limit", 4)
    assert "other data as x1: of 2 inputs, not of 3" in line


@pytest.mark.parametrize(("inputs", "second", "message"), [
    (("a.npy",), (), r'n.json: .* "parallel" takes a list of 2 inputs, found one'),
    (("a.npy", "b.npy", "b.npy"), (), "has 2 branches for 3 inputs; give one for each"),
    (("b.npy", "a.npy"), (), r"branches\[0\]\[0\] Conv: needs an image"),
    (("a.npy", "c.npy"), (), "c.npy: has 9 rows, .*a.npy has 10; inputs of one list must have"),
    (("a.npy", "b.npy"), ("a.npy",), "both must be inputs of one network"),
    (("a.npy", "y.npy"), (), "y.npy: holds integers"),
    (("a.npy", "none.npy"), (), "none.npy: "),
    (("a.npy", "t.h5:z"), (), "no dataset 'z'"),
])  # fmt: skip
def test_refused_in_one_line(
    folder: Path, inputs: tuple[str, ...], second: tuple[str, ...], message: str
) -> None:
    refused(message, *gram(folder, *inputs, second=second))
    assert not (folder / "K.h5").exists()


def test_other_commands(folder: Path) -> None:
    shapes = "--input-shape", "4,3,2", "--input-shape", "5"
    lines = run("net", folder / "n.json", *shapes).stdout.splitlines()
    assert lines[0] == "input 4x3x2 and 5"
    assert lines[1].split()[1:8] == ["FanInSum", "4x3", "and", "vector", "->", "vector", "parallel"]
    assert run_json("net", folder / "n.json", *shapes)["shapes"][0]["in"] == [[4, 3], []]
    source = "--source", "--device", "cuda"
    refused("joins several inputs", "net", folder / "n.json", *shapes, *source)
    # an output is none of the inputs
    refused(r"b\.npy: is an input", *gram(folder, "a.npy", "b.npy", out="b.npy"), "--overwrite")
    refused("pattern: is not supported where the input is a list",
            *gram(folder, "a.npy", "b.npy"), "--pattern", folder / "b.npy")  # fmt: skip
    refused("takes one input", "gram", "--net", "fcn", *gram(folder, "a.npy", "b.npy")[3:])
