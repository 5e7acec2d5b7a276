"""``widegram meanfield``: JSON keys, files, pictures, one-line refusals."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from cli_support import refused, run, run_json
from test_meanfield_point import KEYS
from widegram.meanfield.experiments import asymptotics as table_module
from widegram.meanfield.experiments.asymptotics import TablePlan, table
from widegram.meanfield.experiments.problem import digits_problem

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "d.h5"
    assert run("data", "prepare", "digits", "--out", path, "--train", 60, "--test",
               40).exit_code == 0
    return path


def is_picture(path):
    content = path.read_bytes()
    return content.startswith(PNG) and 10_000 < len(content) < 200_000


def test_point_has_the_promised_keys_and_null_where_undefined():
    found = run_json("meanfield", "point", "--act", "erf", "--w-var", 1.5, "--b-var", 0.05)
    assert set(found) >= KEYS
    assert found["phase"] == "chaotic"
    assert found["c_star"] == pytest.approx(0.820530087998, rel=1e-12)
    assert found["xi_1"] is None
    assert found["p_star"] is None
    text = run("meanfield", "point", "--act", "relu", "--w-var", 2, "--b-var", 0).stdout
    assert "every q is a fixed point" in text


def test_phase_writes_map_and_picture(tmp_path):
    arguments = ("meanfield", "phase", "--w-var", "0:3:0.25", "--b-var", "0.01:0.25:0.06",
                 "--out", tmp_path / "p.h5", "--plot", tmp_path / "p.png")
    found = run_json(*arguments)
    assert found["points"] == 13 * 5 == found["ordered"] + found["chaotic"] + found["critical"]
    assert found["unconverged"] == 0
    assert is_picture(tmp_path / "p.png")
    refused("exists", *arguments)
    assert run(*arguments, "--overwrite").exit_code == 0


def test_spectrum_beyond_float64(tmp_path, data):
    found = run_json(
        "meanfield", "spectrum", "--net", "fcn", "--x", data, "--act", "erf", "--w-var", 1.25,
        "--b-var", 0.18, "--depths", "1-5,400", "--train", 12, "--test", 20, "--out",
        tmp_path / "s.h5", "--plot", tmp_path / "s.png",
    )
    assert found["method"] == "deviations"
    assert found["phase"] == "ordered"
    assert found["depths"] == [1, 2, 3, 4, 5, 400]
    assert found["log10_kappa"][-1] > 25
    law = found["predicted"]["lambda_max"]
    assert law["constant"]
    assert found["lambda_max"][-1] == pytest.approx(law["values"][-1], rel=1e-12)
    assert is_picture(tmp_path / "s.png")
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["depth/400/ntk_deviation"].attrs["log_scale"] <= 0


def test_spectrum_takes_as_many_inputs_as_are_asked_for(tmp_path, data):
    words = ["meanfield", "spectrum", "--x", data, "--depths", "1,2", "--out", tmp_path / "s.h5"]
    none = run_json(*words, "--train", 6, "--test", 0)
    assert none["accuracy"] == [None, None]
    assert none["m"] == 6
    refused("--train 61: .* has 60 train inputs", *words, "--train", 61, "--overwrite")
    np.save(tmp_path / "x.npy", np.ones((9, 4)) + np.eye(9, 4))
    words[3] = tmp_path / "x.npy"
    refused("--test 3: .* has 0 test inputs", *words, "--train", 6, "--test", 3, "--overwrite")
    assert run_json(*words, "--overwrite")["m"] == 9


def test_spectrum_of_images(tmp_path, data):
    found = run_json("meanfield", "spectrum", "--net", "cnn-f:act=erf,w_var=2.5,b_var=0.18",
                     "--x", data, "--unit-pixels", "--depths", "1,30", "--train", 6, "--test", 5,
                     "--out", tmp_path / "s.h5")
    assert found["method"] == "engine"
    assert found["kappa"][1] == pytest.approx(1, abs=0.1)


def test_trainability_draws_and_resumes(tmp_path, data):
    arguments = ("meanfield", "trainability", "--data", data, "--w-var", "0.8,1.7,2.5",
                 "--depths", "1,3,9", "--times", "1,64", "--train", 30, "--test", 40, "--out",
                 tmp_path / "t.h5")
    found = run_json(*arguments, "--plot", tmp_path / "t.png")
    assert (found["points"], found["resumed_rows"], found["complete"]) == (9, 0, True)
    assert is_picture(tmp_path / "t.png")
    assert run_json(*arguments)["resumed_rows"] == 3
    assert "was complete already" in run(*arguments).stdout
    # The whole command again: the picture of a complete map stays.
    before = (tmp_path / "t.png").read_bytes()
    assert "was complete already" in run(*arguments, "--plot", tmp_path / "t.png").stdout
    assert (tmp_path / "t.png").read_bytes() == before
    changed = (*arguments[:5], "0.8,1.7", *arguments[6:])
    refused("another w_var", *changed, "--plot", tmp_path / "u.png")
    refused("exists", *changed[:-1], tmp_path / "v.h5", "--plot", tmp_path / "t.png")


def test_table_agrees_in_small(monkeypatch):
    plan = TablePlan((60, 80, 100, 120), (100, 150, 200, 250, 300), (30, 50, 60, 70, 80), 5, 6)
    monkeypatch.setattr(table_module, "remarks", lambda *_: iter(()))
    found = list(table(digits_problem(), nets=("fcn", "cnn-f"), plan=plan))
    assert len(found) == 2 * (6 + 6 + 7)
    for entry in found:
        if entry.kind == "constant":
            # Critical corrections fall as log l / l, 10 % at 300 for kappa; others are done.
            assert entry.ratios[-1] == pytest.approx(1, abs=0.1), entry
        elif entry.predicted and entry.phase != "critical":
            assert entry.exponent == pytest.approx(entry.predicted, rel=0.02), entry


def test_table_command_prints_every_entry(monkeypatch):
    monkeypatch.setattr(table_module, "remarks", lambda *_: iter(()))
    arguments = ("meanfield", "table", "--nets", "fcn", "--ordered", "60,90,120,150",
                 "--critical", "50,100,150,200", "--chaotic", "30,50,70,80", "--images", 5)
    result = run(*arguments)
    assert result.exit_code == 0
    assert "fcn, critical" in result.stdout
    found = run_json(*arguments)
    assert found["total"] == len(found["entries"]) == 19
    json.dumps(found, allow_nan=False)


@pytest.mark.slow
def test_every_entry_of_the_full_table_agrees():
    found = run_json("meanfield", "table")
    assert found["total"] == 80
    assert found["good"] == found["total"]


@pytest.mark.parametrize(("arguments", "message"), [
    (("point", "--w-var", -1, "--b-var", 0.1), "not negative"),
    (("point", "--act", "sign", "--w-var", 1, "--b-var", 0.1), "no mean square"),
    (("point", "--act", "bogus", "--w-var", 1, "--b-var", 0.1), "unknown activation"),
    (("phase", "--w-var", "3:0:1", "--out", "p.h5"), "empty range"),
    (("phase", "--w-var", "-1:2:1", "--out", "p.h5"), "negative"),
    (("phase", "--w-var", "0:3:0.0001", "--memory", "100MB", "--out", "p.h5"),
     "30001 x 241 points needs"),
    (("phase", "--out", "none/p.h5"), "does not exist"),
    (("trainability", "--data", "none.h5", "--depths", "1", "--out", "t.h5"), "no such file"),
    (("trainability", "--data", "none.h5", "--depths", "1", "--times", "0", "--out", "t.h5"),
     "positive"),
    (("table", "--nets", "rnn"), "choose from"),
    (("table", "--w-var", "1.25"), "two numbers"),
])
def test_bad_input_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    refused(message, "meanfield", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("net", "message"), [
    ("myrtle5", "exactly one Repeat"),
    ("fcn:act=bogus", "unknown activation"),
    ("nothing.json", "no"),
])
def test_spectrum_refuses_networks_it_cannot_sweep(tmp_path, data, net, message):
    refused(message, "meanfield", "spectrum", "--net", net, "--x", data, "--depths", "1",
            "--out", tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_spectrum_options_belong_to_presets(tmp_path, data):
    np.save(tmp_path / "x.npy", np.ones((4, 3)))
    spec = {"input_shape": [3], "layers": [{"layer": "Repeat", "times": 2, "body": [
        {"layer": "Dense"}, {"layer": "Erf"}]}, {"layer": "Dense"}]}
    refused("belong to presets", "meanfield", "spectrum", "--net", json.dumps(spec), "--x",
            tmp_path / "x.npy", "--w-var", 1, "--depths", 1, "--out", tmp_path / "s.h5")
