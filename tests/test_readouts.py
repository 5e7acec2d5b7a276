"""Readouts: the heads of a network from one pass, in memory, in files and on the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fake_evaluator as fake
import test_crash
import widegram
from cli_support import refused, run, run_json
from cuda_support import assert_equal, both
from network_specs import CONV, DENSE, FLATTEN, GAP, RELU, load
from widegram.backends.job import Job
from widegram.cpu import CpuEvaluator
from widegram.cuda.source import source_of
from widegram.data import open_source
from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.plan import build
from widegram.reference import ReferenceEvaluator
from widegram.tiling import End

SHAPE = (6, 5, 2)
HEADS = {
    "gap": [GAP, DENSE],
    "c0": [FLATTEN, DENSE],
    "c1": [{"layer": "AvgPool", "window_shape": [3, 3], "padding": "SAME"}, FLATTEN, DENSE],
    "deep": [{"layer": "AvgPool", "window_shape": [5, 7], "padding": "SAME"}, FLATTEN, DENSE,
             {"layer": "Erf"}, DENSE],
}  # fmt: skip


def with_heads(**heads: list[dict[str, Any]]) -> dict[str, Any]:
    readouts = {"layer": "Readouts", "heads": heads or HEADS}
    repeat = {"layer": "Repeat", "times": 3, "body": [CONV, RELU]}
    return {"input_shape": list(SHAPE), "layers": [CONV, RELU, repeat, readouts]}


SPEC = with_heads()
CASES = {
    "images": (SPEC, ()),
    "depths": (SPEC, (1, 3)),
    "vectors": ({"input_shape": [4], "layers": [DENSE, RELU, {"layer": "Readouts", "heads": {
        "a": [DENSE], "b": [], "c": [DENSE, RELU, DENSE]}}]}, ()),
    "pools before": ({"input_shape": [6, 6, 1], "layers": [CONV, RELU, {"layer": "AvgPool",
        "window_shape": [2, 2], "strides": [2, 2]}, CONV, RELU,
        {"layer": "Readouts", "heads": {"gap": [GAP], "c0": [FLATTEN]}}]}, ()),
}  # fmt: skip


def job_of(spec: dict[str, Any], depths: tuple[int, ...], symmetric: bool) -> Job:
    network, rng = load_network(spec), np.random.default_rng(5)
    x1, x2 = (open_source(rng.standard_normal((n, *network.input_shape))) for n in (3, 2))
    return Job(
        network=network, x1=x1, x2=None if symmetric else x2, kernels=("nngp", "ntk"),
        depths=depths,
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_cpu_and_reference_agree(name: str, dtype: str, symmetric: bool) -> None:
    job = job_of(*CASES[name], symmetric)
    rows, cols = range(3), range(3 if symmetric else 2)
    dense = ReferenceEvaluator(job)
    with CpuEvaluator(replace(job, dtype=dtype)) as evaluator:
        assert evaluator.keys == dense.keys == job.keys
        found, own = evaluator.tile(rows, cols, symmetric), evaluator.diagonal(rows)
    # relative to the largest entry: the promise of each dtype (docs/accuracy.md)
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    assert_equal(found, dense.tile(rows, cols, symmetric), tolerance)
    assert_equal(own, dense.diagonal(rows), tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("forms", [("strip", "block"), ("block",)])
def test_generated_kernels_and_reference_agree(name: str, forms: tuple[str, ...]) -> None:
    spec, depths = CASES[name]
    _, found, wanted = both(spec, depths=depths, forms=forms)
    # some roundings of float64 per layer and pixel
    assert_equal(found, wanted, 1e-13)


def test_heads_of_local_pooling_leave_planes_in_registers() -> None:
    source = source_of(load_network(with_heads(gap=[GAP], c0=[FLATTEN], c2=HEADS["deep"])))
    assert source.kernels[0].form == "strip"


def test_all_heads_share_one_pass() -> None:
    plan = build(load_network(SPEC), depths=(1, 3))
    alone = build(load_network(SPEC).at_head("gap"), depths=(1, 3))
    # but for the Dense layers of the heads themselves: one number each
    assert plan.element_layers == alone.element_layers + 2 * 4
    first, *others = plan.cross.programs
    assert [len(program.displacements) for program in others] == [1] * len(others)
    assert len(first.displacements) == len(alone.cross.programs[0].displacements)


def test_a_head_and_the_network_that_ends_with_it_are_one() -> None:
    network = load_network(SPEC)
    assert network.heads == ("c0", "c1", "deep", "gap")
    plain = load_network({**SPEC, "layers": [*SPEC["layers"][:-1], *HEADS["gap"]]})
    assert network.at_head("gap") == plain
    ends = network.ending((1, 2))
    assert ends[End(2, "gap")] == plain.at_depth(2)
    assert len(ends) == 8
    assert plain.ending() == {End(): plain}


def test_canonical_form() -> None:
    network = load_network(SPEC)
    turned = with_heads(**dict(reversed(HEADS.items())))
    assert load_network(network.to_json()) == network
    assert load_network(turned).fingerprint() == network.fingerprint()
    fewer = {name: HEADS[name] for name in ("gap", "c0")}
    assert load_network(with_heads(**fewer)).fingerprint() != network.fingerprint()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"layer": "Readouts", "heads": {"a": [GAP]}}, DENSE], r"layers\[0\] Readouts: stands"),
        ([{"layer": "Repeat", "times": 2, "body": [{"layer": "Readouts", "heads": {"a": []}}]}],
         r"body\[0\] Readouts: stands last"),
        ([{"layer": "Readouts", "heads": {"a": [{"layer": "Readouts", "heads": {"b": []}}]}}],
         r"heads.a\[0\] Readouts: stands last"),
        ([{"layer": "Readouts"}], "heads must be"),
        ([{"layer": "Readouts", "heads": {}}], "heads must be"),
        ([{"layer": "Readouts", "heads": [[GAP]]}], "heads must be"),
        ([{"layer": "Readouts", "heads": {"a": GAP}}], r"heads.a: must be a list of layers"),
        ([{"layer": "Readouts", "heads": {"a/b": [GAP]}}], "a head's name"),
        ([{"layer": "Readouts", "heads": {"..": [GAP]}}], "a head's name"),
        ([{"layer": "Readouts", "heads": {"": [GAP]}}], "a head's name"),
        ([{"layer": "Readouts", "heads": {"x" * 65: [GAP]}}], "a head's name"),
        ([{"layer": "Readouts", "heads": {"a": [GAP], "b": [CONV]}}], "Readouts.heads.b: the outp"),
        ([{"layer": "Readouts", "heads": {"a": [GAP, RELU]}}], r"heads.a\[1\] Relu: its input"),
        ([{"layer": "Readouts", "heads": {"a": [GAP]}, "head": "a"}], "unknown parameter 'head'"),
    ],
)  # fmt: skip
def test_what_is_refused(layers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(WidegramError, match=message) as raised:
        load(SHAPE, *layers)
    assert "\n" not in str(raised.value)


def test_kernel_wants_one_head() -> None:
    with pytest.raises(WidegramError, match=r"take network\.at_head"):
        widegram.kernel(SPEC, np.ones((1, *SHAPE)))
    with pytest.raises(WidegramError, match="no head 'gsp', did you mean 'gap'"):
        load_network(SPEC).at_head("gsp")


# files ----------------------------------------------------------------------------------------


def stored(path: Path) -> dict[str, np.ndarray]:
    """Every kernel of a file."""
    found: dict[str, np.ndarray] = {}

    def see(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("state"):
            found[name] = item[...]

    with h5py.File(path) as file:
        file.visititems(see)
    return found


@pytest.mark.parametrize("depths", [None, (1, 3)])
def test_file_holds_every_head(tmp_path: Path, depths: tuple[int, ...] | None) -> None:
    x = np.random.default_rng(1).standard_normal((5, *SHAPE))
    out = tmp_path / "K.h5"
    widegram.gram(SPEC, x, out, dtype="float64", depths=depths, tile=8)
    found = stored(out)
    network: Network = load_network(SPEC)
    paths = {e.path(k) for e in network.ending(depths or ()) for k in ("nngp", "ntk")}
    assert set(found) == paths | {f"diagonal/x1/{path}" for path in paths}
    for end, alone in network.ending(depths or ()).items():
        for kernel in ("nngp", "ntk"):
            wanted = widegram.kernel(alone, x, get=kernel)
            # some roundings of float64: pools may be summed in another order
            np.testing.assert_allclose(found[end.path(kernel)], wanted, rtol=1e-13)


@pytest.mark.parametrize("depths", [None, (1, 3)])
def test_killed_runs_resume_to_the_uninterrupted_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, depths: tuple[int, ...] | None
) -> None:
    """As of files without heads (test_crash.py), with evaluators that tell which tile they gave."""
    network = {"input_shape": [6], "layers": [
        {"layer": "Repeat", "times": 3, "body": [DENSE, RELU]},
        {"layer": "Readouts", "heads": {"a": [DENSE], "b": []}}]}  # fmt: skip

    def run_of(out: Path) -> None:
        widegram.gram(network, fake.inputs(90), out, tile=16, dtype="float64", depths=depths)

    monkeypatch.setattr(test_crash, "run", run_of)
    test_crash.test_killed_runs_resume_to_the_uninterrupted_file(monkeypatch, tmp_path, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and training and cross matrices of two heads at two depths."""
    folder = tmp_path_factory.mktemp("heads")
    rng = np.random.default_rng(2)
    np.save(folder / "x.npy", rng.standard_normal((20, *SHAPE)))
    np.save(folder / "t.npy", rng.standard_normal((6, *SHAPE)))
    np.save(folder / "y.npy", rng.integers(0, 3, 20))
    spec = folder / "net.json"
    spec.write_text(json.dumps(with_heads(gap=HEADS["gap"], c1=HEADS["c1"])))
    common = ["gram", "--net", spec, "--depths", "1,3", "--dtype", "float64", "--tile", 8]
    train, cross = folder / "K.h5", folder / "C.h5"
    for more in (["--x", folder / "x.npy", "--out", train],
                 ["--x", folder / "t.npy", "--x2", folder / "x.npy", "--out", cross]):  # fmt: skip
        result = run(*common, *more)
        assert result.exit_code == 0, result.stderr
    return folder


def test_resume_needs_the_same_heads(files: Path, tmp_path: Path) -> None:
    more = ["--x", files / "x.npy", "--out", files / "K.h5", "--depths", "1,3", "--tile", 8]
    same = run_json("gram", "--net", files / "net.json", "--dtype", "float64", *more)
    assert same["complete"]
    assert same["entries"] == 0
    other = tmp_path / "other.json"
    other.write_text(json.dumps(with_heads(gap=HEADS["gap"], c2=HEADS["c1"])))
    message = r"made from another network \(its heads are [\w=,]+, not c2,gap\)"
    refused(message, "gram", "--net", other, "--dtype", "float64", *more)


def test_net_shows_layers_of_heads(files: Path) -> None:
    shown = run("net", files / "net.json").stdout
    assert "layers[3] Readouts.heads.c1[0] AvgPool" in shown
    assert "window_shape 3x3" in shown


def test_info_says_which_heads(files: Path) -> None:
    facts = run_json("info", files / "K.h5")
    assert facts["heads"] == ["c1", "gap"]
    assert facts["depths"] == [1, 3]
    assert len(facts["datasets"]) == 8
    some = run_json("info", files / "K.h5", "--head", "gap", "--depth", 3)
    assert some["datasets"] == ["depth/3/head/gap/nngp", "depth/3/head/gap/ntk"]
    assert "heads" in run("info", files / "K.h5").stdout
    refused("no head 'max'; its heads: c1, gap", "info", files / "K.h5", "--head", "max")
    refused("no depth 2", "info", files / "K.h5", "--depth", 2)


def test_solve_predict_eig_and_export_take_a_head(files: Path, tmp_path: Path) -> None:
    network = load_network(json.loads((files / "net.json").read_text()))
    alone = network.at_depth(3).at_head("c1")
    x, t = np.load(files / "x.npy"), np.load(files / "t.npy")
    place = ["--head", "c1", "--depth", 3]
    a, p, e = tmp_path / "A.h5", tmp_path / "P.h5", tmp_path / "K.npy"
    run_json("solve", files / "K.h5", "--y", files / "y.npy", "--diag-reg", 0.1, "--kernel", "nngp",
             *place, "--out", a)  # fmt: skip
    run_json("predict", a, "--cross", files / "C.h5", "--variance", "--out", p, *place)
    run_json("export", files / "K.h5", "--kernel", "nngp", "--to", e, *place)
    matrix = widegram.kernel(alone, x, get="nngp")
    np.testing.assert_allclose(np.load(e), matrix, rtol=1e-12)  # roundings of float64
    values = np.linalg.eigvalsh(matrix)
    found = run_json("eig", files / "K.h5", "--kernel", "nngp", *place, "--out", tmp_path / "E.h5")
    assert found["lambda_max"] == pytest.approx(values[-1], rel=1e-10)
    with h5py.File(tmp_path / "E.h5") as spectrum, h5py.File(a) as solution, h5py.File(p) as mean:
        for file in (spectrum, solution, mean):
            assert (file.attrs["head"], file.attrs["depth"]) == ("c1", 3)
        cross = widegram.kernel(alone, t, x, get="nngp")
        wanted = cross @ solution["alpha"][...]
        np.testing.assert_allclose(mean["mean"][...], wanted, rtol=1e-9)  # sums of 20 terms
        shift = 0.1 * np.trace(matrix) / len(x)
        own = np.diag(widegram.kernel(alone, t, get="nngp"))
        left = cross @ np.linalg.solve(matrix + shift * np.eye(len(x)), cross.T)
        variance = mean["variance_latent"][...]
        variance = variance if variance.ndim == 1 else variance[:, 0]
        np.testing.assert_allclose(variance, own - np.diag(left), rtol=1e-8)  # a difference


@pytest.mark.parametrize(
    "command",
    [("solve", "K.h5", "--y", "y.npy", "--out", "no.h5"), ("eig", "K.h5"),
     ("export", "K.h5", "--kernel", "ntk", "--to", "no.npy")],
)  # fmt: skip
def test_a_head_must_be_named_and_there(files: Path, command: tuple[str, ...]) -> None:
    words = [files / word if "." in word else word for word in command]
    refused("give a head; its heads: c1, gap", *words, "--depth", 3)
    refused("no head 'gpa'; its heads: c1, gap", *words, "--depth", 3, "--head", "gpa")
    refused("give a depth; its depths: 1, 3", *words, "--head", "gap")
    assert not (files / "no.h5").exists()


def test_a_file_without_heads_has_none(tmp_path: Path) -> None:
    x, out = tmp_path / "x.npy", tmp_path / "K.h5"
    np.save(x, np.random.default_rng(1).standard_normal((3, 4)))
    assert run("gram", "--net", "fcn:depth=1", "--x", x, "--out", out).exit_code == 0
    refused("no head 'gap'; its heads: none", "eig", out, "--head", "gap")
    with h5py.File(out) as file:
        assert "head" not in file


def test_predict_wants_the_head_of_its_solution(files: Path, tmp_path: Path) -> None:
    a = tmp_path / "A.h5"
    run_json("solve", files / "K.h5", "--y", files / "y.npy", "--diag-reg", 0.1, "--head", "gap",
             "--depth", 1, "--out", a)  # fmt: skip
    cross = ["predict", a, "--cross", files / "C.h5"]
    refused("is the solution of head gap, not of c1", *cross, "--head", "c1")
    refused("is the solution of depth 1, not of 3", *cross, "--depth", 3)


def test_verify_finds_and_mends_damage_of_one_head(files: Path, tmp_path: Path) -> None:
    damaged, quick = tmp_path / "K.h5", ("--sample", 0)
    shutil.copy(files / "K.h5", damaged)
    report = run_json("verify", damaged)
    assert report["ok"]
    assert report["dense_entries"] > 0
    before = damaged.read_bytes()
    with h5py.File(damaged, "r") as file:
        dataset = file["depth/3/head/gap/ntk"]
        at = dataset.id.get_chunk_info(0).byte_offset
    with damaged.open("r+b") as raw:
        raw.seek(at + 3)
        byte = raw.read(1)
        raw.seek(at + 3)
        raw.write(bytes([byte[0] ^ 16]))
    refused("depth/3/head/gap/ntk rows 0-7", "verify", damaged, *quick, code=3)
    refused("depth/3/head/gap/ntk rows 0-7", "verify", damaged, "--head", "gap", *quick, code=3)
    assert run("verify", damaged, "--head", "c1", *quick).exit_code == 0
    assert run("verify", damaged, "--depth", 1, *quick).exit_code == 0
    refused("is damaged", "eig", damaged, "--head", "gap", "--depth", 3)
    assert run("verify", damaged, "--repair", *quick).exit_code == 0
    assert damaged.read_bytes() == before


def test_unfinished_files_go_on_with_every_head(
    monkeypatch: pytest.MonkeyPatch, files: Path, tmp_path: Path
) -> None:
    """A run that fails in the middle keeps its tiles; the next one adds the others."""
    out, x = tmp_path / "K.h5", np.load(files / "x.npy")
    spec = json.loads((files / "net.json").read_text())
    tile, calls = CpuEvaluator.tile, iter(range(100))

    def failing(self: CpuEvaluator, *arguments: Any) -> Any:
        if next(calls) == 3:
            raise WidegramError("enough")
        return tile(self, *arguments)

    monkeypatch.setattr(CpuEvaluator, "tile", failing)
    with pytest.raises(WidegramError, match="enough"):
        widegram.gram(spec, x, out, depths=(1, 3), dtype="float64", tile=8, threads=1)
    result = widegram.gram(spec, x, out, depths=(1, 3), dtype="float64", tile=8, threads=1)
    assert (result.resumed_tiles, result.tiles) == (3, 6)
    for name, value in stored(files / "K.h5").items():
        np.testing.assert_array_equal(stored(out)[name], value)
