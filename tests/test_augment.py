"""Augmented inputs: kernels as means over flipped images of both sides."""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json
from network_specs import CONV, DENSE, FLATTEN, GAP, RELU, load
from virtual_card.devices import Emulated
from widegram import reference
from widegram.backends.augmented import Augmented
from widegram.backends.job import Job
from widegram.computing.in_memory import diagonal
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.data.flipped import flipped
from widegram.errors import WidegramError
from widegram.network import PRESETS, load_network
from widegram.plan import build
from widegram.plan.flips import commutes, pairs_per_entry

SHAPE = (4, 5, 2)
LR, UD = ["flip-lr"], ["flip-ud"]
BOTH = [*LR, *UD]
AXES = {"flip-lr": 2, "flip-ud": 1}
EVEN = {**CONV, "filter_shape": [2, 2]}
STRIDED = {**CONV, "strides": [2, 2]}
AWAY = {**CONV, "filter_shape": [2, 3], "padding": "VALID"}
LOCAL = {"layer": "AvgPool", "window_shape": [5, 5], "padding": "SAME"}
EDGES = {"layer": "AvgPool", "window_shape": [3, 3], "padding": "SAME", "normalize_edges": True}

# name -> (layers, augment, whether the network commutes with it)
CASES: dict[str, tuple[list[dict[str, Any]], list[str], bool]] = {
    "one side": ([CONV, RELU, CONV, RELU, GAP, DENSE], LR, True),
    "up and down": ([CONV, RELU, FLATTEN, DENSE], UD, True),
    "four": ([CONV, RELU, LOCAL, FLATTEN, DENSE], BOTH, True),
    "both sides": ([EVEN, RELU, GAP], LR, False),
    "strides": ([CONV, RELU, STRIDED, RELU, FLATTEN, DENSE], BOTH, False),
    "valid": ([AWAY, RELU, FLATTEN], BOTH, True),
    "edges": ([CONV, RELU, EDGES, FLATTEN, DENSE], LR, True),
    "on a torus": ([{**CONV, "padding": "CIRCULAR"}, RELU, GAP], BOTH, True),
    "turned by windows": ([{**EVEN, "padding": "CIRCULAR"}, RELU, FLATTEN, DENSE], LR, False),
    "as a vector": ([FLATTEN, DENSE, RELU, DENSE], BOTH, True),
}


def network(name: str) -> dict[str, Any]:
    layers, augment, _ = CASES[name]
    return {"input_shape": list(SHAPE), "layers": layers, "augment": augment}


def inputs(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *SHAPE))


def by_definition(spec: dict[str, Any], x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The mean over all flipped images of both, by the dense reference."""
    axes = [AXES[name] for name in spec["augment"]]
    group = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
    plain = load_network({key: value for key, value in spec.items() if key != "augment"})
    found = [
        reference.kernel(plain, np.flip(x, g), np.flip(y, h)) for g in group for h in group
    ]  # fmt: skip
    return {name: np.mean([getattr(k, name) for k in found], axis=0) for name in ("nngp", "ntk")}


@cache
def wanted_of(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of 3 inputs with 2 others, and with themselves."""
    spec, x, y = network(name), inputs(3, 1), inputs(2, 2)
    return by_definition(spec, x, y), by_definition(spec, x, x)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernels_are_means_over_flipped_images(name: str, dtype: str) -> None:
    spec, x, y = network(name), inputs(3, 1), inputs(2, 2)
    # relative to the largest entry: the promise of each dtype (docs/accuracy.md); on the diagonal
    # the dense method, for which x and its copy are two inputs, has roots of roundings
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    for second, wanted in zip((y, None), wanted_of(name), strict=True):
        found = widegram.kernel(spec, x, second, dtype=dtype)
        for kernel, value in wanted.items():
            mine, scale = getattr(found, kernel), abs(value).max()
            if second is None:
                np.testing.assert_array_equal(mine, mine.T)
                off = ~np.eye(3, dtype=bool)
                assert abs(mine - value)[off].max() <= tolerance * scale
                assert abs(mine - value).max() <= 1e-5 * scale
            else:
                assert abs(mine - value).max() <= tolerance * scale


@pytest.mark.parametrize("name", CASES)
def test_one_side_is_enough_where_networks_commute(name: str) -> None:
    net = load_network(network(name))
    layers, augment, one_side = CASES[name]
    assert commutes(net) == one_side
    assert pairs_per_entry(net) == 2 ** (len(augment) * (1 if one_side else 2))
    x, axes = inputs(2, 3), tuple(AXES[n] for n in augment)
    plain = load(SHAPE, *layers)
    same = reference.kernel(plain, x[:1], x[1:]).ntk
    turned = reference.kernel(plain, np.flip(x[:1], axes), np.flip(x[1:], axes)).ntk
    if one_side:
        np.testing.assert_allclose(turned, same, rtol=1e-13)  # some roundings of float64
    if name in ("both sides", "strides"):  # the rule is no coarser than it need be
        assert abs(turned - same).max() > 1e-6 * abs(same).max()


def test_reference_takes_both_sides_and_agrees() -> None:
    spec, x = network("four"), inputs(3, 4)
    dense = widegram.kernel(spec, x, device="reference")
    found, direct = widegram.kernel(spec, x), reference.kernel(load_network(spec), x)
    for kernel in ("nngp", "ntk"):
        wanted = getattr(dense, kernel)
        np.testing.assert_allclose(getattr(found, kernel), wanted, rtol=1e-7)  # roots near c = 1
        np.testing.assert_array_equal(getattr(direct, kernel), wanted)


def test_on_a_card() -> None:
    spec, x, y = network("both sides"), inputs(2, 5), inputs(1, 6)
    job = Job(
        network=load_network(spec), x1=open_source(x), x2=open_source(y),
        kernels=("nngp", "ntk"), memory=2**28,
    )  # fmt: skip
    made = Augmented(job, lambda plain: CudaEvaluator(plain, [Emulated()], block_threads=16))
    with made as evaluator:
        found = evaluator.tile(range(2), range(1), False)
    for kernel, wanted in by_definition(spec, x, y).items():
        np.testing.assert_allclose(found[kernel], wanted, rtol=1e-12)  # roundings of float64


@pytest.mark.parametrize("symmetric", [True, False])
def test_own_kernels_are_those_on_the_diagonal(symmetric: bool) -> None:
    spec, x = network("one side"), inputs(19, 7)
    second = None if symmetric else open_source(inputs(2, 8))
    job = Job(network=load_network(spec), x1=open_source(x), x2=second, kernels=("nngp", "ntk"))
    own, whole = diagonal(job), widegram.kernel(spec, x)
    for kernel in ("nngp", "ntk"):
        np.testing.assert_array_equal(own[kernel], getattr(whole, kernel).diagonal())


def test_a_symmetric_image_is_its_own_flip() -> None:
    x = inputs(2, 9)
    x = (x + x[:, :, ::-1]) / 2
    spec = network("one side")
    plain = widegram.kernel(load(SHAPE, *spec["layers"]), x)
    found = widegram.kernel(spec, x)
    for kernel in ("nngp", "ntk"):
        # equal inputs have the kernel of one with itself: no root of a rounding
        np.testing.assert_allclose(getattr(found, kernel), getattr(plain, kernel), rtol=1e-14)


def test_progress_counts_entries() -> None:
    spec, told = network("four"), []
    job = Job(network=load_network(spec), x1=open_source(inputs(9, 1)), x2=None, kernels=("ntk",))
    from widegram.cpu import CpuEvaluator

    with Augmented(job, CpuEvaluator) as evaluator:
        # 2^30 bytes for some images of a few hundred: all of their columns stay
        assert evaluator.columns_kept(1, 1) > 9
        evaluator.tile(range(9), range(9), True, told.append)
        assert sum(told) == 81
        told.clear()
        evaluator.tile(range(4), range(4, 9), True, told.append)
    assert sum(told) == 20


def test_flipped_images_come_one_after_the_other() -> None:
    x = inputs(3, 2)
    source = flipped(open_source(x), BOTH)
    whole = source.read(0, 12).reshape(3, 4, *SHAPE)
    for g, axes in enumerate([(), (1,), (2,), (2, 1)]):
        np.testing.assert_array_equal(np.flip(x, axes), whole[:, g])
    np.testing.assert_array_equal(source.read(3, 9), source.read(0, 12)[3:9])


def test_canonical_form_and_fingerprint() -> None:
    plain, turned = load(SHAPE, GAP), load_network(network("one side") | {"layers": [GAP]})
    assert "augment" not in plain.canonical()
    assert turned.canonical()["augment"] == LR
    assert load_network(turned.to_json()) == turned
    assert turned.fingerprint() != plain.fingerprint()
    backwards = network("four") | {"augment": BOTH[::-1]}
    assert load_network(backwards) == load_network(network("four"))
    heads = {"layer": "Readouts", "heads": {"gap": [GAP]}}
    repeat = {"layer": "Repeat", "times": 2, "body": [CONV, RELU]}
    spec = {"input_shape": list(SHAPE), "layers": [repeat, heads], "augment": LR}
    assert all(one.augment == ("flip-lr",) for one in load_network(spec).ending((1, 2)).values())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets(name: str) -> None:
    plain = load_network(name, (32, 32, 3))
    for text, augment in (("flip-lr", LR), ("flip-ud+flip-lr", BOTH)):
        found = load_network(f"{name}:augment={text}", (32, 32, 3))
        assert (found.layers, list(found.augment)) == (plain.layers, augment)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": ["flip"]}, "augment: unknown 'flip', did you mean"),
        ({"augment": "flip-lr"}, "augment: must be a list"),
        ({"augment": [3]}, "augment: unknown 3"),
        ({"augment": ["flip-lr", "flip-lr"]}, "names one flip twice"),
        ({"input_shape": [4], "layers": [DENSE]}, "turns images"),
        ({"layers": [CONV, {"layer": "Dropout", "rate": 0.5}, GAP]}, r"layers\[1\] Dropout"),
        ({"augments": []}, "unknown key 'augments', did you mean 'augment'"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    spec = {"input_shape": list(SHAPE), "layers": [GAP], "augment": LR} | change
    with pytest.raises(WidegramError, match=message) as raised:
        load_network(spec)
    assert "\n" not in str(raised.value)


def test_plans_and_sweeps_of_the_mean_field_refuse_it() -> None:
    net = load_network(network("one side"))
    with pytest.raises(WidegramError, match="augment"):
        build(net)
    x = inputs(1, 1)
    job = Job(network=net, x1=open_source(x), x2=None, kernels=("ntk",))
    with pytest.raises(WidegramError, match="augment"):
        reference.ReferenceEvaluator(job)


def test_a_file_of_heads_depths_and_flipped_images(tmp_path: Path) -> None:
    """gram, resume, verify and a second opinion, info, net."""
    heads = {"gap": [GAP, DENSE], "c2": [LOCAL, FLATTEN, DENSE]}
    spec = {
        "augment": LR,
        "layers": [{"layer": "Repeat", "times": 2, "body": [CONV, RELU]},
                   {"layer": "Readouts", "heads": heads}],
    }  # fmt: skip
    net, data, out = (tmp_path / name for name in ("net.json", "x.npy", "K.h5"))
    net.write_text(json.dumps(spec))
    x = inputs(9, 3)
    np.save(data, x)
    command = ["gram", "--net", net, "--x", data, "--depths", "1,2", "--tile", 8, "--out", out]
    assert run_json(*command, "--dtype", "float64")["complete"]
    shaped = load_network(spec, SHAPE)
    with h5py.File(out) as file:
        assert json.loads(file.attrs["network"])["augment"] == LR
        for end, alone in shaped.ending((1, 2)).items():
            wanted = widegram.kernel(alone, x, get="ntk")
            np.testing.assert_allclose(file[end.path("ntk")][...], wanted, rtol=1e-13)
    report = run_json("verify", out, "--sample", 1)
    assert report["ok"]
    assert report["dense_entries"] > 0
    assert run_json(*command, "--dtype", "float64")["entries"] == 0
    net.write_text(json.dumps(spec | {"augment": UD}))
    message = r"made from another network \(its augment is flip-lr, not flip-ud\)"
    refused(message, *command, "--dtype", "float64")
    shown = run("net", net, "--input-shape", "4,5,2", "--depths", "1,2").stdout
    assert "flip-ud: 2 times all this per entry" in shown


@pytest.mark.parametrize(("conv", "more", "one_side"), [
    (CONV, [3], True), (EVEN, [3], False), (CONV, [5, 2], False),
])  # fmt: skip
def test_a_flip_turns_all_images_of_a_list(conv: Any, more: list[int], one_side: bool) -> None:
    """And leaves vectors and sequences as they are."""
    image = [conv, RELU, LOCAL, FLATTEN, DENSE]
    rest = [{**DENSE}] if len(more) == 1 else [{"layer": "Conv", "filter_shape": [3]}, GAP, DENSE]
    branches = [image, rest, [conv, RELU, FLATTEN, DENSE]]
    join = {"layer": "FanInProd", "branches": branches, "parallel": True}
    shapes = [list(SHAPE), more, [4, 5, 1]]
    spec = {"input_shape": shapes, "layers": [join, DENSE, RELU, DENSE], "mask": 0.25}
    rng = np.random.default_rng(11)
    x, y = ([rng.standard_normal((n, *shape)) for shape in shapes] for n in (3, 2))
    for batch in (*x, *y):
        batch[rng.random(batch.shape) < 0.2] = 0.25
    whole = {**spec, "augment": LR}
    assert commutes(load_network(whole)) == one_side
    seen = [(batch, [np.flip(one, 2) if one.ndim == 4 else one for one in batch])
            for batch in (x, y)]  # fmt: skip
    kernels = [reference.kernel(load_network(spec), a, b) for a in seen[0] for b in seen[1]]
    found, dense = widegram.kernel(whole, x, y), widegram.kernel(whole, x, y, device="reference")
    narrow = widegram.kernel(whole, x, y, dtype="float32")
    for kernel in ("nngp", "ntk"):
        wanted = np.mean([getattr(each, kernel) for each in kernels], axis=0)
        # of the largest entry: what is promised of each dtype
        for made, most in ((found, 1e-10), (dense, 1e-10), (narrow, 1e-5)):
            atol = most * abs(wanted).max()
            np.testing.assert_allclose(getattr(made, kernel), wanted, rtol=0, atol=atol)
