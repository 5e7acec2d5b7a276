"""Choosing a network: the grid, the figures against brute force, the table, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import widegram
from cli_support import refused, run, run_json
from widegram.errors import Interrupted, WidegramError
from widegram.gramfile import GramFile
from widegram.network import load_network
from widegram.tuning.figures import FIGURES, held_rows
from widegram.tuning.search import Search
from widegram.tuning.space import drawn, grid

RNG = np.random.default_rng(5)
X = RNG.standard_normal((24, 4))
Y = np.sin(X[:, :1]) + 0.1 * RNG.standard_normal((24, 1))
LABELS = np.arange(24) % 3
REGS = (1e-2, 1e-1)
# Condition numbers of some hundreds in float64.
RTOL = 1e-9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tune")
    np.save(place / "x.npy", X)
    np.save(place / "y.npy", Y)
    np.save(place / "labels.npy", LABELS)
    return place


def tuned(folder: Path, out: Path, *nets: str, y: str = "y", **options: Any) -> Any:
    search = Search(**{"diag_regs": REGS, "dtype": "float64", **options})
    return widegram.tune(nets, folder / "x.npy", str(folder / f"{y}.npy"), out, search)


def test_a_grid_has_every_combination_once() -> None:
    found = grid(["fcn:depth={1, 2},w_var={1,2},b_var=0.1", "fcn:depth=2,w_var=2,b_var=0.1"])
    assert found == [
        f"fcn:depth={depth},w_var={w_var},b_var=0.1" for depth in (1, 2) for w_var in (1, 2)
    ]
    assert grid(["net.json"]) == ["net.json"]


def test_draws_are_different_and_repeatable() -> None:
    nets = ["fcn:depth={1,2},w_var={0.5..2}", "fcn:depth=9"]
    found = drawn(nets, 8, 3)
    assert found == drawn(nets, 8, 3) != drawn(nets, 8, 4)
    assert len(set(found)) == 8
    values = [float(text.split("w_var=")[1]) for text in found if "w_var" in text]
    assert all(0.5 <= value <= 2 for value in values)
    assert set(drawn(["fcn:depth={1,2,3}"], 50, 0)) == set(grid(["fcn:depth={1,2,3}"]))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("fcn:depth={1,2", "its braces do not match"),
        ("fcn:depth=1}", "its braces do not match"),
        ("fcn:depth={{1}}", "its braces do not match"),
        ("fcn:depth={}", "lacks a value"),
        ("fcn:depth={1,,2}", "lacks a value"),
        ("fcn:w_var={2..1}", "is no interval"),
        ("fcn:w_var={a..b}", "is no interval"),
        ("fcn:w_var={1..inf}", "is no interval"),
        ("fcn:w_var={1..2}", "say how many networks to draw"),
        ("fcn:depth={1,x}", "depth"),
        ("cnn-f:depth={1,2}", "image"),
        ("fcn:width=" + "{1,2}" * 10, "at most 1,000 are tried"),
    ],
)
def test_refused_networks(net: str, said: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WidegramError, match=said):
        tuned(folder, tmp_path / "T.h5", net)
    assert not (tmp_path / "T.h5").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": "gp"}, "kernel 'gp'"),
        ({"criterion": "test"}, "criterion 'test'"),
        ({"diag_regs": (-1.0,)}, "not negative"),
        ({"diag_regs": (float("nan"),)}, "not negative"),
        ({"holdout": 1.5}, "a share between 0 and 1"),
        ({"criterion": "holdout", "holdout": 0.001}, "leaves 24 to train"),
        ({"samples": 0}, "samples 0"),
        ({"samples": 1.5}, r"samples 1\.5: give a whole number"),
        ({"diag_regs": 3}, "not negative"),
        ({"diag_regs": ("x",)}, "not negative"),
        ({"holdout": "x"}, "a share between 0 and 1"),
        ({"seed": -1}, "seed"),
        ({"device": "gpu"}, "^device 'gpu' is unknown"),
        ({"targets": "one-hot"}, "are of classes"),
    ],
)
def test_refused_searches(
    options: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(WidegramError, match=said):
        tuned(folder, tmp_path / "T.h5", "fcn:depth=1", **options)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_figures_are_those_of_brute_force(kernel: str, folder: Path, tmp_path: Path) -> None:
    found = tuned(folder, tmp_path / "T.h5", "fcn:depth={1,3},w_var={1,2}", kernel=kernel,
                  criterion="holdout", holdout=0.25, seed=2)  # fmt: skip
    held = held_rows(_targets(), 0.25, 2)
    assert len(found.rows) == found.tried == 4
    for row in found.rows:
        k = widegram.kernel(row["net"], X, get=kernel)
        a = k + row["diag_reg"] * np.trace(k) / 24 * np.eye(24)
        left = np.array([_without(a, i) for i in range(24)])
        y = Y[:, 0]
        assert row["loo_mse"] == pytest.approx(np.mean((left[:, 0] - y) ** 2), rel=RTOL)
        densities = norm.logpdf(y, left[:, 0], np.sqrt(left[:, 1]))
        assert row["log_density"] == pytest.approx(np.mean(densities), rel=RTOL)
        evidence = multivariate_normal.logpdf(y, np.zeros(24), a)
        assert row["log_evidence"] == pytest.approx(evidence, rel=RTOL)
        train = np.setdiff1d(np.arange(24), held)
        inner = k[np.ix_(train, train)]
        inner += row["diag_reg"] * np.trace(inner) / train.size * np.eye(train.size)
        mean = k[np.ix_(held, train)] @ np.linalg.solve(inner, y[train])
        assert row["holdout_mse"] == pytest.approx(np.mean((mean - y[held]) ** 2), rel=RTOL)
    losses = [row["holdout_mse"] for row in found.rows]
    assert losses == sorted(losses)
    assert found.best == found.rows[0]


def _targets() -> Any:
    from widegram.linalg.targets import encode

    return encode(Y)


def _without(a: np.ndarray, i: int) -> tuple[float, float]:
    """Mean and variance of target i, given all others, of a Gaussian with covariance ``a``."""
    rest = np.delete(np.arange(24), i)
    weights = np.linalg.solve(a[np.ix_(rest, rest)], a[rest, i])
    return float(weights @ Y[rest, 0]), float(a[i, i] - weights @ a[rest, i])


@pytest.mark.parametrize(
    ("criterion", "figure", "sign"),
    [("loo", "loo_mse", 1), ("log-density", "log_density", -1), ("evidence", "log_evidence", -1)],
)
def test_the_best_is_first_and_written(
    criterion: str, figure: str, sign: int, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "T.h5"
    found = tuned(folder, out, "fcn:depth={1,2},act={relu,erf}", y="labels", criterion=criterion)
    losses = [sign * row[figure] for row in found.rows]
    assert losses == sorted(losses)
    assert (found.task, found.best["loo_accuracy"] is not None) == ("classification", True)
    written = load_network(Path(found.best_network))
    best = load_network(found.best["net"], (4,))
    assert written.fingerprint() == best.fingerprint()
    assert widegram.gram(Path(found.best_network), X, tmp_path / "K.h5").complete


def test_classes_are_held_out_in_equal_shares() -> None:
    from widegram.linalg.targets import encode

    labels = np.repeat([0, 1], [40, 10])
    held = held_rows(encode(labels), 0.2, 0)
    assert np.bincount(labels[held]).tolist() == [8, 2]


def test_a_search_goes_on_and_grows(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "T.h5"
    first = tuned(folder, out, "fcn:depth={1,2}")
    again = tuned(folder, out, "fcn:depth={1,2}")
    assert (first.tried, again.tried) == (2, 0)
    assert again.rows == first.rows
    more = tuned(folder, out, "fcn:depth={1,2,3}")
    assert (more.tried, len(more.rows)) == (1, 3)
    with pytest.raises(WidegramError, match="other regularisers"):
        tuned(folder, out, "fcn:depth=1", diag_regs=(0.5,))
    with pytest.raises(WidegramError, match="other kernel, targets"):
        tuned(folder, out, "fcn:depth=1", y="labels", kernel="nngp")
    assert widegram.verify(out).ok


def test_an_interrupted_search_keeps_what_is_done(folder: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "T.h5", []

    def stop(progress: Any) -> None:
        seen.append(progress.what)
        if progress.what.startswith("2 of 2"):
            raise Interrupted("stopped")

    search = Search(diag_regs=REGS, dtype="float64")
    nets = "fcn:w_var={1,2}"
    with pytest.raises(Interrupted):
        widegram.tune(nets, X, str(folder / "y.npy"), out, search, progress=stop)
    assert seen[0] == "1 of 2, fcn:w_var=1"
    found = widegram.tune(nets, X, str(folder / "y.npy"), out, search)
    assert (found.tried, len(found.rows)) == (1, 2)
    assert not (tmp_path / "T.h5.kernels").exists()


def test_a_network_that_is_refused_is_a_row_with_its_reason(folder: Path, tmp_path: Path) -> None:
    nets = ("fcn:depth=1", "fcn:act=exp,a=1,b=30,w_var=100")
    found = tuned(folder, tmp_path / "T.h5", *nets)
    assert "error" in found.rows[1]
    assert found.best["net"] == "fcn:depth=1"
    with pytest.raises(WidegramError, match="no network has a figure to go by"):
        tuned(folder, tmp_path / "U.h5", nets[1])
    assert not (tmp_path / "U.h5").exists()


def test_what_was_refused_is_tried_again(folder: Path, tmp_path: Path) -> None:
    nets, x = ("fcn:depth=1", "fcn:depth=1,act=mish"), 1e3 * X

    def search(accepted: float | None) -> Any:
        options = Search(diag_regs=REGS, accept_series_error=accepted)
        return widegram.tune(nets, x, str(folder / "y.npy"), tmp_path / "T.h5", options)

    assert "--accept-series-error" in search(None).rows[1]["error"]
    found = search(0.5)
    assert (found.tried, len(found.rows)) == (1, 2)
    assert not any("error" in row for row in found.rows)
    accepted = {row["net"]: row["accept_series_error"] for row in found.rows}
    assert accepted == dict(zip(nets, (1e-3, 0.5), strict=True))
    assert search(0.6).tried == 0
    # What accepts less keeps nothing that was computed where more was accepted.
    less = search(None)
    assert less.tried == 1
    assert "--accept-series-error" in less.rows[1]["error"]


def test_a_depth_that_is_refused_is_none_of_the_others(folder: Path, tmp_path: Path) -> None:
    found = tuned(folder, tmp_path / "T.h5", "fcn:depth={1,9},act=exp,a=1")
    assert [row["net"].split(",")[0] for row in found.rows][-1] == "fcn:depth=9"
    assert ["error" in row for row in found.rows] == [False, True]


def test_a_work_file_of_another_dtype_is_made_anew(folder: Path, tmp_path: Path) -> None:
    kernels = tmp_path / "T.h5.kernels"
    widegram.gram("fcn:depth=1", folder / "x.npy", kernels, get="ntk", dtype="float32")
    found = tuned(folder, tmp_path / "T.h5", "fcn:depth=1")
    assert "error" not in found.rows[0]
    assert not kernels.exists()


def test_another_file_in_the_place_of_the_work_file_stays(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "T.h5.kernels"
    work.write_text("mine")
    with pytest.raises(WidegramError, match="is in the way and no work file"):
        tuned(folder, tmp_path / "T.h5", "fcn:depth=1")
    assert work.read_text() == "mine"


def test_readouts_are_rows_of_their_own(folder: Path, tmp_path: Path) -> None:
    dense = [{"layer": "Dense"}]
    heads = {"a": dense, "b": [{"layer": "Relu"}, *dense], "same": dense}
    spec = {"layers": [{"layer": "Dense"}, {"layer": "Readouts", "heads": heads}]}
    (tmp_path / "net.json").write_text(json.dumps(spec))
    found = tuned(folder, tmp_path / "T.h5", str(tmp_path / "net.json"))
    assert {row["head"] for row in found.rows} == {"a", "b", "same"}


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "T.h5"
    command = ("tune", "--net", "fcn:depth={1,2}", "--net", "fcn:act=erf", "--x", folder / "x.npy",
               "--y", folder / "labels.npy", "--diag-reg-path", "0.1,1", "--out", out)  # fmt: skip
    printed = run(*command, "--plot", tmp_path / "T.png")
    assert printed.exit_code == 0, printed.stderr
    assert "best by loo: " in printed.stdout
    assert (tmp_path / "T.png").stat().st_size > 1000
    found = run_json(*command)
    assert (found["tried"], len(found["rows"]), found["n"]) == (0, 3, 24)
    assert set(FIGURES) < set(found["best"])
    with GramFile(_gram_of(found["best_network"], folder, tmp_path)) as file:
        assert file.fingerprints["network"] == load_network(found["best"]["network"]).fingerprint()
    refused("is an input of this command", *command[:-2], "--out", folder / "x.npy", "--overwrite")


def _gram_of(network: str, folder: Path, place: Path) -> Path:
    out = place / "best.h5"
    assert run("gram", "--net", network, "--x", folder / "x.npy", "--out", out).exit_code == 0
    return out
