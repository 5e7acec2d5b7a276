"""Aggregate: inputs that are graphs, with a pattern of edges each, in memory and in files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import strategies
from agreement import PROMISED
from cli_support import run
from cuda_support import assert_equal
from jobs import job
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, POOL, RELU, load, residual
from strategies import settings_of
from test_cpu_properties import scale
from test_maps import resize
from vocabulary import MAPPED
from widegram import GramFile, WidegramError, gram, kernel, open_source, stax, verify
from widegram.cpu import CpuEvaluator
from widegram.cuda.source import source_of
from widegram.data.patterns import with_pattern
from widegram.network import Network, load_network
from widegram.network.patterns import pattern_of
from widegram.reference import ReferenceEvaluator

EXAMPLE = Path(__file__).parents[1] / "examples" / "graphs.py"
SUM = {"layer": "Aggregate"}
ERF = {"layer": "Erf"}


def over(*axes: int) -> dict[str, Any]:
    return {**SUM, "aggregate_axis": list(axes)}


# The network, and the axes that it aggregates.
CASES: dict[str, tuple[tuple[int, ...], list[dict[str, Any]], tuple[int, ...]]] = {
    "first": ((5, 3), [SUM, DENSE, RELU, DENSE, RELU, GAP], (5,)),
    "twice": ((5, 3), [DENSE, RELU, SUM, DENSE, {**NORM, "eps": 0.1}, RELU, SUM, FLATTEN], (5,)),
    "image": ((3, 2, 2), [CONV, RELU, SUM, CONV, ERF, GAP, DENSE], (3, 2)),
    "rows": ((3, 4, 2), [CONV, RELU, over(1), CONV, RELU, GAP], (3,)),
    "columns": ((3, 4, 2), [CONV, RELU, over(2), CONV, RELU, FLATTEN], (4,)),
    "pooled": ((4, 6, 1), [CONV, RELU, {**POOL, "strides": [2, 2]}, over(1, 2), DENSE, RELU, GAP],
               (2, 3)),
    "branches": ((4, 3), [DENSE, residual(RELU, SUM, DENSE), RELU, GAP], (4,)),
    "resized": ((4, 3), [DENSE, RELU, {**resize(6), "shape": [-1, 6, -1]}, SUM, DENSE, RELU, GAP],
                (6,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["DENSE", "SPARSE"])
def test_files_of_masked_graphs(kind: str, tmp_path: Path) -> None:
    """Vertices that are missing, in a file that is verified: the kernels of smaller graphs."""
    rng = np.random.default_rng(5)
    summed = {**SUM, "implementation": kind}
    layers = [DENSE, RELU, summed, {**DENSE, "b_std": 0.3}, RELU, summed, GAP]
    x, ends = rng.standard_normal((4, 5, 2)), rng.integers(0, 5, (4, 6, 2))
    x[:, 3:] = np.nan
    weights = np.zeros((4, 5, 5))
    np.add.at(weights, (np.arange(4)[:, None], ends[..., 0], ends[..., 1]), 1.0)
    pattern = weights if kind == "DENSE" else ends
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "p.npy", weights if kind == "DENSE" else ends)
    network = load_network({"input_shape": [5, 2], "layers": layers, "mask": "nan"})
    out, pattern = tmp_path / "K.h5", tmp_path / "p.npy"
    gram(network, tmp_path / "x.npy", out, pattern=pattern, dtype="float64")
    small = load((3, 2), *(layer if layer is not summed else SUM for layer in layers))
    wanted = kernel(small, x[:, :3].copy(), pattern=weights[:, :3, :3].copy())
    with GramFile(out) as file:
        for name in ("nngp", "ntk"):
            # the same sums in another order
            np.testing.assert_allclose(file.dataset(name)[...], getattr(wanted, name), rtol=1e-12)
    assert not verify(tmp_path / "K.h5").damage


def edges(rng: np.random.Generator, n: int, *sizes: int) -> np.ndarray:
    """Weights (n, sizes, sizes) of some edges."""
    found = rng.standard_normal((n, *sizes, *sizes)).round(1)
    return found * (rng.random(found.shape) < 0.5)


def graphs(network: Network, n: int, seed: int, sizes: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *network.input_shape))
    return with_pattern(open_source(x), edges(rng, n, *sizes))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    shape, layers, sizes = CASES[name]
    network = load(shape, *layers)
    x1, x2 = graphs(network, 4, 1, sizes), graphs(network, 3, 2, sizes)
    for second, cols in ((x2, range(3)), (None, range(4))):
        of = job(network, x1, second)
        dense = ReferenceEvaluator(of)
        with CpuEvaluator(replace(of, dtype=dtype)) as evaluator:
            found = evaluator.tile(range(4), cols, second is None)
            own = evaluator.diagonal(range(4))
        assert_equal(found, dense.tile(range(4), cols, second is None), PROMISED[dtype])
        assert_equal(own, dense.diagonal(range(4)), 1e-6)  # weights are those of the dtype


@given(data=st.data())
@settings_of(8)
def test_random_networks(data: st.DataObject) -> None:
    """A random network behind an Aggregate."""
    plain = data.draw(strategies.networks(MAPPED, False, 2, 4))
    network = load_network({**plain.canonical(), "layers": [SUM, *plain.canonical()["layers"]]})
    x = data.draw(strategies.inputs(network, most=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    source = with_pattern(open_source(x), edges(rng, len(x), *network.input_shape[:-1]))
    wanted = ReferenceEvaluator(job(network, source)).tile(range(len(x)), range(len(x)), True)
    try:
        found = kernel(network, source)
    except WidegramError as error:
        if "leaves out" not in str(error):  # a series at large variances
            raise
        reject()
    for name, dense in wanted.items():
        # kinks make the root of a rounding of pixels that nearly coincide
        np.testing.assert_allclose(
            getattr(found, name), dense, atol=1e-7 * scale(dense), rtol=0
        )


def test_equal_features_with_other_edges_are_other_graphs() -> None:
    network = load((4, 2), DENSE, RELU, SUM, DENSE, RELU, GAP)
    x = np.repeat(np.random.default_rng(3).standard_normal((1, 4, 2)), 3, axis=0)
    pattern = edges(np.random.default_rng(4), 3, 4)
    pattern[2] = pattern[0]
    for dtype in ("float64", "float32"):
        found = kernel(network, x, get="ntk", dtype=dtype, pattern=pattern)
        assert found[0, 0] == found[0, 2] == found[2, 2]
        assert abs(found[0, 1] - found[0, 0]) > 1e-3 * found[0, 0]


def test_scales_of_inputs_do_not_reach_the_edges() -> None:
    network = load((4, 2), DENSE, RELU, SUM, DENSE, RELU, GAP)
    rng = np.random.default_rng(3)
    x, pattern = rng.standard_normal((3, 4, 2)), edges(rng, 3, 4)
    plain = kernel(network, x, pattern=pattern)
    scaled = kernel(network, x * 2.0**100, pattern=pattern)
    for a, b in zip(plain, scaled, strict=True):
        np.testing.assert_array_equal(np.ldexp(a, 200), b)


def test_sparse_edges_are_their_weights() -> None:
    """Repeated edges count twice, those without a head do not."""
    x = np.random.default_rng(5).standard_normal((2, 3, 2))
    lists = np.array([[[0, 1], [0, 1], [2, 0]], [[1, 1], [0, -1], [1, 2]]])
    weights = np.zeros((2, 3, 3))
    weights[0, 0, 1], weights[0, 2, 0], weights[1, 1, 1], weights[1, 1, 2] = 2, 1, 1, 1
    layers = [DENSE, RELU], [DENSE, RELU, GAP]
    found = [
        kernel(load((3, 2), *layers[0], {**SUM, "implementation": name}, *layers[1]), x,
               pattern=pattern).ntk
        for name, pattern in (("SPARSE", lists), ("DENSE", weights))
    ]  # fmt: skip
    np.testing.assert_array_equal(*found)


def test_a_pattern_is_written_and_read() -> None:
    network = load((3, 4, 2), CONV, {**over(2), "implementation": "sparse"}, GAP)
    assert load_network(network.to_json()) == network
    assert pattern_of(network) == ((4,), True)
    assert pattern_of(load((3, 4, 2), CONV, GAP)) is None


NETWORK = load((4, 2), DENSE, RELU, SUM, DENSE, RELU, GAP)
SPARSE = load((4, 2), DENSE, RELU, {**SUM, "implementation": "SPARSE"}, DENSE, RELU, GAP)
X = np.random.default_rng(7).standard_normal((3, 4, 2))
W = edges(np.random.default_rng(8), 3, 4)
BAD: dict[str, tuple[Network, Any, str]] = {
    "none": (NETWORK, None, "Aggregate layers need a pattern for each input; give one of shape"),
    "not needed": (load((4, 2), DENSE, GAP), W, "the network has no Aggregate layer; leave it out"),
    "size": (NETWORK, W[:, :3], "pattern: has shape (3, 3, 4); the network's Aggregate"),
    "few": (NETWORK, W[:2], "a pattern is needed for each of the 3 inputs of array"),
    "infinite": (NETWORK, W + np.inf, "row 0 holds a weight that is not finite"),
    "text": (NETWORK, np.full((3, 4, 4), "a"), "patterns are real numbers"),
    "fractions": (SPARSE, W[:, :, :2], "edges are integers"),
    "triples": (SPARSE, np.zeros((3, 5, 3), int), "take (n, edges, 1, 2) or (n, edges, 2)"),
    "no vertex": (SPARSE, np.full((3, 5, 2), 4), "row 0 has an edge of a vertex that is not there"),
    "no tail": (SPARSE, np.full((3, 5, 2), [-1, 2]), "row 0 has an edge of a vertex that is not"),
    "a pair": (NETWORK, (W, W), "pattern: each data set needs one; give one of x1"),
    "no file": (NETWORK, "nowhere.npy", "nowhere.npy"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_patterns_are_refused(name: str) -> None:
    network, pattern, message = BAD[name]
    with pytest.raises(WidegramError, match=re.escape(message)) as error:
        kernel(network, X, pattern=pattern)
    assert "\n" not in str(error.value)


REFUSED = {
    "axis": ([DENSE, over(0), GAP], "aggregate_axis 0 is no axis of pixels of an input with 3"),
    "channels": ([DENSE, over(2), GAP], "aggregate_axis 2 is no axis of pixels"),
    "twice": ([DENSE, over(1, -2), GAP], "aggregate_axis names an axis twice"),
    "vector": ([DENSE, GAP, SUM], "needs an image (H, W, C) or a sequence (L, C)"),
    "name": ([DENSE, {**SUM, "implementation": "CSR"}, GAP], "must be DENSE or SPARSE"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_layers_are_refused(name: str) -> None:
    layers, message = REFUSED[name]
    with pytest.raises(WidegramError, match=re.escape(message)):
        load((4, 2), *layers)


def test_two_patterns_are_refused() -> None:
    network = load((3, 4, 2), CONV, over(1), CONV, over(2), GAP)
    with pytest.raises(WidegramError, match=r"^layers\[3\] Aggregate: takes patterns \(n, 4, 4\)"):
        kernel(network, np.ones((2, 3, 4, 2)), pattern=np.ones((2, 3, 3)))


def test_cuda_and_flips_are_refused_by_name() -> None:
    with pytest.raises(WidegramError, match=r"^layers\[2\] Aggregate: has no CUDA kernels"):
        source_of(NETWORK)
    with pytest.raises(WidegramError, match="augment turns images, but not the patterns"):
        replace(load((3, 4, 2), CONV, over(1), GAP), augment=("flip-lr",))


# files -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "edges.npy", W)
    (tmp_path / "net.json").write_text(NETWORK.to_json())
    return tmp_path


def test_a_file_is_of_its_pattern(folder: Path) -> None:
    """Resumed with another one it is refused; verify finds the pattern by itself."""
    out, x, pattern = folder / "K.h5", folder / "x.npy", folder / "edges.npy"
    gram(NETWORK, x, out, pattern=pattern)
    assert gram(NETWORK, x, out, pattern=pattern).entries == 0
    with pytest.raises(WidegramError, match="made from other patterns of the inputs x1 "):
        gram(NETWORK, x, out, pattern=W + 1)
    with pytest.raises(WidegramError, match="made from other data as x1 "):
        gram(NETWORK, X + 1, out, pattern=pattern)
    report = verify(out)
    assert report.entries_recomputed == 9
    assert report.dense_entries
    np.save(pattern, W + 1)
    assert "has not the patterns that x1 had when the file was made" in verify(out).note
    again = verify(out, with_pattern(open_source(x), W))
    assert again.entries_recomputed == 9


def test_a_file_grows_with_its_patterns(tmp_path: Path) -> None:
    """The first of more patterns are the same patterns: the file grows; others are refused."""
    out = tmp_path / "K.h5"
    gram(NETWORK, X[:2], out, pattern=W[:2])
    with pytest.raises(WidegramError, match="are not the patterns"):
        gram(NETWORK, X, out, pattern=W + 1, append=True)
    gram(NETWORK, X, out, pattern=W, append=True)
    gram(NETWORK, X, tmp_path / "whole.h5", pattern=W)
    with GramFile(out) as grown, GramFile(tmp_path / "whole.h5") as whole:
        np.testing.assert_array_equal(grown.dataset("ntk")[...], whole.dataset("ntk")[...])
        assert grown.fingerprints == whole.fingerprints


def test_an_output_is_no_pattern(folder: Path) -> None:
    with pytest.raises(WidegramError, match="is an input of this command"):
        gram(NETWORK, folder / "x.npy", folder / "edges.npy", pattern=folder / "edges.npy",
             overwrite=True)  # fmt: skip


def test_the_command_line(folder: Path) -> None:
    net, x, pattern, out = (folder / n for n in ("net.json", "x.npy", "edges.npy", "K.h5"))
    graph = ("gram", "--net", net, "--x", x)
    assert run(*graph, "--pattern", pattern, "--out", out).exit_code == 0
    done = run("info", out, "--json")
    assert json.loads(done.stdout)["attributes"]["x1_location"] == f"{x} with the pattern {pattern}"
    cross = ("--x2", x, "--pattern", pattern, "--pattern2", pattern, "--out", folder / "C.h5")
    assert run(*graph, *cross).exit_code == 0
    assert run("verify", folder / "C.h5").exit_code == 0
    assert run("verify", out, "--x", x, "--pattern", pattern).exit_code == 0
    for wrong, message in (
        ((*graph, "--out", folder / "A.h5"), "need a pattern for each input"),
        ((*graph, "--pattern2", pattern, "--out", folder / "A.h5"), "--pattern2 serves --x2"),
        ((*graph, "--x2", x, "--pattern", pattern, "--out", folder / "A.h5"), "a pair, of x1"),
        (("verify", out, "--pattern", pattern), "--pattern serves --x"),
    ):
        done = run(*wrong)
        assert done.exit_code == 2
        assert message in done.stderr
        assert not (folder / "A.h5").exists()


def test_the_example_tells_rings_from_trees(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # 40 graphs, of which degrees and those of neighbours tell nearly all
    assert float(done.stdout.split("accuracy")[1]) >= 0.95


# stax --------------------------------------------------------------------------------------------


def test_kernel_fn_takes_patterns() -> None:
    _, _, kernel_fn = stax.serial(
        stax.Dense(1), stax.Relu(), stax.Aggregate(), stax.Dense(1), stax.Relu(),
        stax.GlobalAvgPool(),
    )  # fmt: skip
    assert kernel_fn.network((4, 2)) == NETWORK
    plain = kernel(NETWORK, X, pattern=W)
    np.testing.assert_array_equal(kernel_fn(X, None, "ntk", pattern=(W, None)), plain.ntk)
    # In one batch and in two: sums of other bits.
    both = kernel_fn(X, X, "ntk", pattern=(W, W[::-1]))
    np.testing.assert_allclose(
        both, kernel(NETWORK, X, X, "ntk", pattern=(W, W[::-1])), rtol=1e-13
    )
    for wrong, message in (
        (W, "pattern must be (pattern1, pattern2)"),
        ((W, None), "one of two arrays only"),
        ((W[:1], W), "needs a row for each of the 3 inputs"),
    ):
        with pytest.raises(WidegramError, match=re.escape(message)):
            kernel_fn(X, X, pattern=wrong)


def test_an_output_of_vertices_goes_on() -> None:
    """Kernels between all vertices, and from those on, by the reference."""
    first = stax.serial(stax.Dense(1), stax.Relu(), stax.Aggregate())
    rest = stax.serial(stax.Dense(1), stax.Relu(), stax.Aggregate(), stax.GlobalAvgPool())
    pattern = (W, W)
    found = rest[2](first[2](X, pattern=pattern), get="ntk", pattern=pattern)
    whole = stax.serial(first, rest)[2](X, None, "ntk", pattern=pattern)
    np.testing.assert_allclose(found, whole, rtol=1e-7)  # roots of roundings between equal inputs
