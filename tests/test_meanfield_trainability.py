"""Trainability maps: against the dense reference, resumed, refused."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from widegram.errors import Interrupted, WidegramError
from widegram.meanfield.experiments import fcn_kernels
from widegram.meanfield.experiments import training as module
from widegram.meanfield.experiments.grid import Grid
from widegram.meanfield.experiments.problem import (
    Problem,
    load_inputs,
    load_problem,
    unit_mean_square,
)
from widegram.meanfield.experiments.training import trainability
from widegram.network import load_network
from widegram.reference.evaluator import kernel

TIMES = (1.0, 50.0, 1e4)


def problem(shape=(12,), m=9, n=7, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, *shape))
    labels, labels_test = np.arange(m) % classes, np.arange(n) % classes
    x = unit_mean_square(centres[labels] + 0.7 * rng.normal(size=(m, *shape)))
    x_test = unit_mean_square(centres[labels_test] + 0.7 * rng.normal(size=(n, *shape)))
    return Problem(x, np.eye(classes)[labels] - 1 / classes, labels, x_test, labels_test, "abc")


def grid(net="fcn", w_var=(0.9, 1.8), depths=(1, 4), act="erf"):
    return Grid(net, act, np.array(w_var), 0.18, depths, TIMES)


def read(path, name):
    with h5py.File(path) as file:
        return file[name][()]


@pytest.mark.parametrize(("net", "shape", "act"), [
    ("fcn", (12,), "erf"),
    ("fcn", (12,), "relu"),
    ("fcn", (3, 4, 1), "leakyrelu:alpha=0.1"),
    ("cnn-f", (3, 4, 1), "erf"),
    ("cnn-p", (3, 4, 1), "erf"),
])
def test_maps_agree_with_gradient_flow_on_dense_kernels(tmp_path, net, shape, act):
    data, asked = problem(shape), grid(net, act=act)
    out = tmp_path / "t.h5"
    assert trainability(data, asked, out) == 0
    name, _, tail = act.partition(":")
    for i, w in enumerate(asked.w_var.tolist()):
        options = ",".join(filter(None, [f"act={name},w_var={w!r},b_var=0.18", tail]))
        network = load_network(f"{net}:{options}", shape)
        for j, depth in enumerate(asked.depths):
            theta = kernel(network.at_depth(depth), data.x).ntk
            cross = kernel(network.at_depth(depth), data.x_test, data.x).ntk
            values, vectors = np.linalg.eigh(theta)
            for k, time in enumerate(TIMES):
                gain = -np.expm1(-2 * time * values / values[-1]) / values
                alpha = vectors @ (gain[:, None] * (vectors.T @ data.y))
                for part, matrix, labels in (("train", theta, data.labels),
                                             ("test", cross, data.labels_test)):
                    f = matrix @ alpha
                    hits = (f.argmax(1) == labels).mean()
                    assert read(out, f"{part}_accuracy")[i, j, k] == hits
                    error = ((f - (np.eye(3)[labels] - 1 / 3)) ** 2).mean()
                    # Rounding of the dense kernel times its condition number, here up to 1e5.
                    assert read(out, f"{part}_mse")[i, j, k] == pytest.approx(error, rel=1e-8)
            assert read(out, "lambda_max")[i, j] == pytest.approx(values[-1], rel=1e-10)


def test_results_do_not_depend_on_threads_or_blocks(tmp_path, monkeypatch):
    trainability(problem(), grid(), tmp_path / "a.h5", threads=1)
    trainability(problem(), grid(), tmp_path / "b.h5", threads=3)
    assert (read(tmp_path / "a.h5", "test_mse") == read(tmp_path / "b.h5", "test_mse")).all()
    monkeypatch.setattr(fcn_kernels, "_CHUNK", 3)
    trainability(problem(), grid(), tmp_path / "c.h5")
    # Another order of summation.
    np.testing.assert_allclose(
        read(tmp_path / "a.h5", "test_mse"), read(tmp_path / "c.h5", "test_mse"), rtol=1e-13
    )


def test_an_interrupted_map_resumes_to_the_same_numbers(tmp_path, monkeypatch):
    whole, part = tmp_path / "whole.h5", tmp_path / "part.h5"
    asked = grid(w_var=(0.8, 1.4, 2.0))
    trainability(problem(), asked, whole)
    solve, calls = module.solve_row, []

    def stop_after_one(*arguments):
        if calls:
            raise Interrupted("stopped")
        calls.append(1)
        return solve(*arguments)

    monkeypatch.setattr(module, "solve_row", stop_after_one)
    with pytest.raises(Interrupted):
        trainability(problem(), asked, part)
    assert read(part, "state/rows").tolist() == [1, 0, 0]
    assert np.isnan(read(part, "test_accuracy")[1:]).all()
    with h5py.File(part) as file:
        assert not file.attrs["complete"]
    monkeypatch.setattr(module, "solve_row", solve)
    told = []
    assert trainability(problem(), asked, part, progress=told.append) == 1
    assert [(p.done, p.total) for p in told] == [(4, 6), (6, 6)]
    for name in ("train_accuracy", "test_mse", "kappa", "xi_1", "xi_star"):
        np.testing.assert_array_equal(read(part, name), read(whole, name))
    assert trainability(problem(), asked, part) == 3


@pytest.mark.parametrize(("change", "match"), [
    ({"w_var": (0.9, 1.9)}, "another w_var"),
    ({"depths": (1, 5)}, "another depths"),
    ({"act": "relu"}, "another act"),
])
def test_another_run_is_refused_by_name(tmp_path, change, match):
    trainability(problem(), grid(), tmp_path / "t.h5")
    with pytest.raises(WidegramError, match=match):
        trainability(problem(), grid(**change), tmp_path / "t.h5")
    other = replace(problem(), fingerprint="def")
    with pytest.raises(WidegramError, match="another data_fingerprint"):
        trainability(other, grid(), tmp_path / "t.h5")


def test_foreign_files_are_left_alone(tmp_path):
    text = tmp_path / "t.h5"
    text.write_text("not HDF5")
    with pytest.raises(WidegramError, match="is not an HDF5 file"):
        trainability(problem(), grid(), text)
    assert text.read_text() == "not HDF5"
    other = tmp_path / "o.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    with pytest.raises(WidegramError, match="is not a trainability map"):
        trainability(problem(), grid(), other)


@pytest.mark.parametrize(("asked", "match"), [
    (grid(w_var=(-1.0,)), "not negative"),
    (grid(net="rnn"), "unknown"),
    (grid(depths=()), "depths"),
    (grid(act="sign"), "no mean square"),
])
def test_bad_grids_are_refused_before_anything_is_written(tmp_path, asked, match):
    with pytest.raises(WidegramError, match=match):
        trainability(problem(), asked, tmp_path / "t.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_map_too_large_names_its_size(tmp_path):
    with pytest.raises(WidegramError, match=r"9 training and 7 test images .* needs"):
        trainability(problem(), grid(depths=tuple(range(1, 200_000))), tmp_path / "t.h5",
                     memory="100MB")


def test_problems_from_files(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["train/x"], file["train/y"] = rng.normal(size=(8, 5)), np.arange(8) % 4
        file["test/x"], file["test/y"] = rng.normal(size=(6, 5)), np.arange(6) % 4
    found = load_problem(str(path), 3, 4)
    assert found.x.shape == (3, 5)
    assert found.y.shape == (3, 4)  # classes of all training rows
    np.testing.assert_allclose((found.x**2).mean(axis=1), 1)
    assert load_problem(str(path), 3, 4, normalize=False).fingerprint != found.fingerprint
    with pytest.raises(WidegramError, match="holds 8 rows, 9 were asked"):
        load_problem(str(path), 9, 4)
    with pytest.raises(WidegramError, match="no such file"):
        load_problem(str(tmp_path / "none.h5"), 1, 1)
    bare = load_inputs(f"{path}:train/x", 5, 100)
    assert bare.x.shape == (5, 5)
    assert len(bare.x_test) == 0
