"""The contract of evaluators: the diagonal of every backend, and that who uses one closes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fake_evaluator as fake
import widegram
from jobs import job
from network_specs import CONV, DENSE, DROPOUT, FLATTEN, GAP, POOL, RELU, load
from virtual_card.devices import Emulated
from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.backends.rounded import Rounded
from widegram.computing import choosing, in_memory
from widegram.computing.job import make_job
from widegram.cpu import CpuEvaluator
from widegram.cuda.evaluator import CudaEvaluator
from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.linalg.gramsource import Columns, open_cross
from widegram.network import Network, load_network
from widegram.predict.diagonal import prior_diagonal
from widegram.reference import ReferenceEvaluator
from widegram.sklearn import WidegramRegressor
from widegram.tiling import End

BOTH = ("nngp", "ntk")
NETWORKS = {
    "pooled": load((5, 4, 2), CONV, RELU, POOL, CONV, {"layer": "Erf"}, GAP, DENSE),
    "flattened": load((4, 3, 2), CONV, RELU, DROPOUT, FLATTEN, DENSE),
    "vectors": load((7,), DENSE, RELU, DENSE),
    "depths": load((7,), {"layer": "Repeat", "times": 3, "body": [DENSE, RELU]}, DENSE),
}


def asked(network: Network, n: int = 5, dtype: str = "float64") -> Job:
    x = np.random.default_rng(7).standard_normal((n, *network.input_shape))
    depths = (1, 3) if network is NETWORKS["depths"] else ()
    return job(network, x, depths=depths, dtype=dtype, threads=1)


def evaluators(of: Job) -> dict[str, Evaluator]:
    return {
        "cpu": CpuEvaluator(of),
        "card": CudaEvaluator(of, [Emulated()], block_threads=8),
        "reference": ReferenceEvaluator(of),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_the_diagonal_is_that_of_a_tile(name: str) -> None:
    found = {}
    for kind, evaluator in evaluators(asked(NETWORKS[name])).items():
        with evaluator:
            tile = evaluator.tile(range(1, 4), range(1, 4), True)
            found[kind] = evaluator.diagonal(range(1, 4))
            assert tuple(found[kind]) == evaluator.keys
            for key, value in found[kind].items():
                assert value.dtype == np.float64
                np.testing.assert_array_equal(value, np.diag(tile[key]))
    for key, value in found["cpu"].items():
        # the squares of vectors, summed in another order
        np.testing.assert_allclose(found["card"][key], value, rtol=1e-14)
        # two methods in float64, a few dozen roundings
        np.testing.assert_allclose(found["reference"][key], value, rtol=1e-12)


def test_the_diagonal_is_not_rounded_with_the_tiles() -> None:
    of = asked(NETWORKS["pooled"])
    with Rounded(CpuEvaluator(of), "float32") as rounded, CpuEvaluator(of) as exact:
        tile, diagonal = rounded.tile(range(5), range(5), True), exact.diagonal(range(5))
        for key, value in rounded.diagonal(range(5)).items():
            np.testing.assert_array_equal(value, diagonal[key])
            np.testing.assert_array_equal(np.diag(tile[key]), value.astype(np.float32))


@pytest.mark.parametrize("where", ["predict", "estimator", "kernel_fn"])
def test_variances_take_one_evaluator_and_no_tile(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x = np.random.default_rng(1).standard_normal((300, 4))
    run = prepared(where, x, tmp_path)
    made: list[Evaluator] = []

    def on_device(device: str, of: Job) -> Evaluator:
        made.append(right(device, of))
        return made[-1]

    def tile(*arguments: Any) -> Any:
        raise AssertionError("a tile for a diagonal")

    right = choosing.on_device
    monkeypatch.setattr(choosing, "on_device", on_device)
    monkeypatch.setattr(CpuEvaluator, "tile", tile)
    found = run()
    assert len(made) == 1
    assert np.isfinite(found).all()


def prepared(where: str, x: np.ndarray, folder: Path) -> Any:
    """A call that computes variances, of which nothing else needs tiles any more."""
    if where == "kernel_fn":
        layers = (widegram.stax.Dense(1), widegram.stax.Relu(), widegram.stax.Dense(1))
        kernel_fn = widegram.stax.serial(*layers)[2]
        return lambda: kernel_fn(x, None, "cov1")
    if where == "estimator":
        made = WidegramRegressor("fcn:depth=1", kernel="nngp").fit(x[:20], x[:20, 0])
        made.predict(x)
        return lambda: made.predict(x, return_std=True)[1]
    np.save(folder / "x.npy", x)
    widegram.gram("fcn:depth=1", folder / "x.npy", folder / "K.h5", x[:20], device="cpu")

    def run() -> np.ndarray:
        with GramFile(folder / "K.h5") as file:
            prints = file.fingerprints
        columns = Columns(prints["network"], prints["x2"])
        with open_cross(folder / "K.h5", "nngp", End(), memory=2**24, columns=columns) as cross:
            data = str(folder / "x.npy")
            return prior_diagonal(cross, test_gram=None, x_test=data, memory=2**24)

    return run


def test_whoever_uses_an_evaluator_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake.install(monkeypatch)
    x, out = fake.inputs(40), tmp_path / "K.h5"
    np.save(tmp_path / "x.npy", x)
    widegram.gram(fake.NETWORK, tmp_path / "x.npy", out, tile=16)
    widegram.kernel(fake.NETWORK, x)
    in_memory.diagonal(make_job(fake.NETWORK, x, None, BOTH, "float64", None, None, None))
    widegram.verify(out)
    assert len(made) == 5  # two to verify: what made the file, and the dense reference
    assert all(evaluator.closed for evaluator in made)


def test_an_evaluator_is_closed_where_its_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake.install(monkeypatch)

    def tile(*arguments: Any) -> Any:
        raise WidegramError("gone")

    monkeypatch.setattr(fake.FakeEvaluator, "tile", tile)
    with pytest.raises(WidegramError, match="gone"):
        widegram.gram(fake.NETWORK, fake.inputs(40), tmp_path / "K.h5")
    with pytest.raises(WidegramError, match="gone"):
        widegram.kernel(fake.NETWORK, fake.inputs(40))
    assert [evaluator.closed for evaluator in made] == [True, True]


def test_a_closed_evaluator_has_no_threads() -> None:
    for kind, evaluator in evaluators(asked(NETWORKS["flattened"])).items():
        with evaluator:
            evaluator.tile(range(3), range(3), True)
        if kind != "reference":
            assert not any(thread.is_alive() for thread in evaluator._pool._threads)


def test_an_evaluator_that_cannot_be_made_leaves_no_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[Evaluator] = []
    monkeypatch.setattr(CpuEvaluator, "close", lambda self: closed.append(self))
    network = load_network("cnn-p:depth=3", (32, 32, 3))
    of = job(network, np.ones((2, 32, 32, 3)), memory=2**16)
    with pytest.raises(WidegramError, match="give at least --memory"):
        CpuEvaluator(of)
    assert len(closed) == 1
