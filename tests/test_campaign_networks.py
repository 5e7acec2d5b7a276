"""The campaign of random networks: its cases, its judgement, and a small run of it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from campaigns import drawing_all, exact, judging
from campaigns.drawing import Case, draw
from campaigns.duals import closed
from campaigns.judging import judge, kind_of
from campaigns.networks import percentiles, run
from campaigns.peer import compare
from widegram.activations import TABLE
from widegram.errors import WidegramError
from widegram.network import load_network
from widegram.network.attention import MECHANISMS
from widegram.network.inputs import is_list

SEED = 1


def text(case: Case) -> str:
    return json.dumps(case.spec)


def test_a_case_is_a_function_of_its_seed_and_number() -> None:
    first, again, other = draw(SEED, 7), draw(SEED, 7), draw(SEED, 8)
    assert text(first) == text(again) != text(other)
    np.testing.assert_array_equal(first.x1, again.x1)
    assert first.depths == again.depths


def test_the_kinds_that_once_went_wrong_are_drawn() -> None:
    cases = [draw(SEED, number) for number in range(300)]
    for case in cases:
        load_network(case.spec)
        assert np.isfinite(case.x1).all()
    texts = [text(case) for case in cases]
    words = ("Residual", "SumPool", "AvgPool", "LayerNorm", "Dropout", "CIRCULAR", "VALID",
             "Repeat", "Flatten", "GlobalSumPool", "Sign", "Tanh", "Rbf")  # fmt: skip
    assert all(any(word in one for one in texts) for word in words)
    # a pool, then a residual that begins with one: its first store is read behind the second
    starts = ('"Residual", "branch": [{"layer": "AvgPool"', '"Residual", "branch": [{"layer": "Sum')
    pooled = [
        one for one in texts for start in starts if "Pool" in one.split(start)[0] and start in one
    ]
    assert len(pooled) > 15, len(pooled)
    nested = '"branch": [{"layer": "Residual"'
    assert any(nested in one for one in texts)
    assert sum(bool(case.depths) for case in cases) > 20
    sizes = np.array([np.abs(case.x1).max() for case in cases])
    assert sizes.min() < 1e-15
    assert sizes.max() > 1e3
    zeros = [not row.any() for case in cases for row in case.x1]
    assert 0.03 < np.mean(zeros) < 0.2
    twins = [c for c in cases if c.x2 is not None and
             any(np.array_equal(a, b) for a in c.x1 for b in c.x2)]  # fmt: skip
    assert len(twins) > 20


def check(count: int, first: int = 0) -> dict:
    figures = run(SEED, range(first, first + count))
    assert figures["networks"] == count
    assert not figures["failures"], json.dumps(figures["failures"][:3])
    # What is refused is counted by its message, never as agreement.
    judged = figures["agreed_in_both_dtypes"]
    assert (
        judged + sum(times for *_, times in figures["refused"]) + sum(figures["unjudged"].values())
        >= count
    )
    assert judged > 0.9 * count
    for dtype, most in (("float64", 1e-12), ("float32", 1e-5)):
        assert figures["percentiles"][dtype]["of_largest"]["90"] < most
    return figures


def test_networks_agree_with_the_reference() -> None:
    check(20)


@pytest.mark.slow
def test_thousands_of_networks_agree_with_the_reference() -> None:
    check(3000)


def test_a_wrong_value_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    case = draw(SEED, 13)
    assert not any(error.failed for error in judge(case).errors)
    right = judging.computed

    def wrong(network, case, dtype):
        found, declared = right(network, case, dtype)
        made = {key: value * (1.01 if "ntk" in key else 1) for key, value in found.items()}
        return made, declared

    monkeypatch.setattr(judging, "computed", wrong)
    assert {e.key.split("/")[-1] for e in judge(case).errors if e.failed} == {"ntk"}
    figures = run(SEED, [13])
    assert (figures["failed"], figures["agreed_in_both_dtypes"]) == (1, 0)
    (failure,) = figures["failures"]
    assert (failure["seed"], failure["number"]) == (SEED, 13)
    assert failure["spec"] == case.spec
    monkeypatch.setattr(
        judging, "computed", lambda *_: ({"nngp": np.full((9, 9), np.nan)}, judging.Known())
    )
    assert run(SEED, [13])["failed"] == 1


def test_many_digits_agree_with_the_reference() -> None:
    """Another program, in another arithmetic. A program in float64 is off by what ten random
    roundings a layer do, at kinks too; and by 1e-15 of the largest where they move nothing."""
    judged = 0
    for number in range(60):
        case = draw(SEED, number)
        network = load_network(case.spec)
        names = {name for name in judging.kinds(network) if name in TABLE}
        if case.depths or case.x1.size > 30 or not all(closed(name) for name in names):
            continue
        wanted, _ = judging.reference(network, case)
        x = exact.Inputs.of(network, case.x1, case.x2)
        moved = exact.spread(network, x, 10 * judging.EPS["float64"])
        for made in (exact.digits, exact.extended):
            for key, value in made(network, x).items():
                most = 2 * moved[key].max() + 1e-15 * np.abs(value).max()
                assert np.abs(value - wanted[key]).max() <= most, (number, key)
        judged += 1
    assert judged >= 10, judged


def test_what_the_engine_gets_wrong_beside_many_digits_fails(monkeypatch) -> None:
    """Beyond the promise an error is allowed as far as roundings explain it, and no further."""
    kink = [{"layer": "Dense"}, {"layer": "Relu"}, {"layer": "Dense"}]
    spec = {"input_shape": [5], "layers": kink}
    x = np.random.default_rng(0).standard_normal((3, 5))
    case = Case(0, 0, spec, x, None, ())
    right = judging.computed

    def off(by: float) -> bool:
        def wrong(network, case, dtype):
            found, declared = right(network, case, dtype)
            return {key: value * (1 + by) for key, value in found.items()}, declared

        monkeypatch.setattr(judging, "computed", wrong)
        return any(error.failed for error in judge(case).errors)

    assert not off(0.0)
    # Three vectors far apart: roundings of either dtype move nothing by a promise.
    assert off(2e-10)
    assert off(-2e-4)


def test_roundings_explain_pixels_that_coincide() -> None:
    """An angle of a rounding in float32's NTK, and nothing of the kind where inputs are apart."""
    layers = [{"layer": "Dense"}, {"layer": "Relu"}, {"layer": "Dense"}]
    network = load_network({"input_shape": [4], "layers": layers})
    x = np.random.default_rng(0).standard_normal((1, 4))
    eps = judging.EPS["float32"]
    near, far = x * [1, 1 + 1e-9, 1, 1], x[:, ::-1].copy()
    same, apart = (exact.spread(network, exact.Inputs(x, y), eps)["ntk"] for y in (near, far))
    own = exact.digits(network, exact.Inputs(x, None))["ntk"]
    # acos(1 - eps) is 5e-4, over pi 1.6e-4 of the half of the kernel that Kdot multiplies; a tenth
    # to all of it, as roundings fall
    assert 1e-5 < same[0, 0] / own[0, 0] < 2e-4
    assert apart[0, 0] / own[0, 0] < 10 * eps


def test_what_is_refused_does_not_count_as_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(network, case, dtype):
        if dtype == "float32":
            raise WidegramError("layers[12] Sin: variances up to 3.5e+07 are too large")
        return judging.reference(network, case)[0], judging.Known()

    monkeypatch.setattr(judging, "computed", refuse)
    figures = run(SEED, range(3))
    message = "layers[#] Sin: variances up to # are too large"
    assert figures["refused"] == [["float32", message, 3]]
    assert (figures["agreed_in_both_dtypes"], figures["failed"]) == (0, 0)
    assert kind_of("row 3: 1e-5") == kind_of("row 12: 2.5e-300")


def test_the_judge_reads_announcements_as_they_are_printed() -> None:
    found = [judging._largest_number([f"may be off by up to {e:.0e}"]) for e in (3e-9, 0.2, 1.0)]
    assert found == pytest.approx([4.5e-9, 0.3, 1.5])  # rounded up to their last digit
    assert judging._largest_number(["no number"]) == 0
    assert judging._largest_number(["apart, until nothing is promised of their values"]) == np.inf


def test_percentiles() -> None:
    found = percentiles([*range(999), np.nan])
    assert found == {"50": 500, "90": 900, "99": 990, "99.9": np.inf, "100": np.inf}
    assert percentiles([]) == {}


def test_a_peer_that_does_not_end_is_left_in_time(tmp_path, monkeypatch) -> None:
    """What it answered until then counts."""
    script = "import time\nprint('{\"error\": \"no\"}', flush=True)\ntime.sleep(600)\n"
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!{sys.executable}\n{script}")
    interpreter.chmod(0o700)
    monkeypatch.setenv("WIDEGRAM_PEER_PYTHON", str(interpreter))
    figures = compare(3, SEED, 1.0, lambda line: None)
    # 0 where Python took longer to start
    assert figures["refused_by_either"] in (0, 1)
    assert figures["networks"] == 0


def test_every_layer_is_drawn_and_judged() -> None:
    cases = [drawing_all.draw(SEED, number) for number in range(200)]
    ends = [load_network(case.spec).ending(case.depths) for case in cases]
    texts = [text(case) for case in cases]
    words = ("ConvLocal", "standard", "W_rate", "b_grad", "normalize_edges", "Index", "Readouts",
             "expression", '"table"', "ConvTranspose", "ImageResize", "DotGeneral", "DENSE",
             "SPARSE", *MECHANISMS, "CONCAT", "FanInSum", "FanInProd", "FanInConcat", '"mask"',
             '"parallel"', '"linear_scaling": false',
             "augment", *drawing_all.LATER)  # fmt: skip
    assert [word for word in words if not any(word in one for one in texts)] == []
    masked = [case for case in cases if "mask" in case.spec]
    assert sum(not np.isfinite(case.x1).all() for case in masked) > 3
    assert sum(case.patterns is not None for case in cases) > 5
    assert any("augment" in case.spec for case in masked)
    for word in ("GlobalSelfAttention", "Aggregate", '"parallel"'):
        assert any(word in text(case) for case in masked), word
    shapes = [case.spec["input_shape"] for case in cases]
    assert sum(len(shape) == 2 and not is_list(shape) for shape in shapes) > 20
    assert any(len(at) > 1 and case.depths for case, at in zip(cases, ends, strict=True))
    figures = run(SEED, [2, 3, 5, 7, 11], layers="all")
    assert (figures["layers"], figures["failed"]) == ("all", 0)
    assert figures["agreed_in_both_dtypes"] >= 3


def test_what_cancels_in_a_map_is_explained_by_its_roundings() -> None:
    """Two equal pixels apart: 0 but for roundings, which are relative to what is added up."""
    dot = {"layer": "DotGeneral", "rhs": [0.3, -0.3], "dimension_numbers": [[[1], [0]], [[], []]]}
    network = load_network({"input_shape": [2, 1], "layers": [dot]})
    x = exact.Inputs(np.array([[[0.7], [0.7]], [[0.7], [0.1]]]), None)
    moved = exact.spread_of_maps(network, x, 1e-6)["nngp"]
    assert exact.extended(network, x)["nngp"][0, 0] == 0
    assert 0 < moved[0, 0] < 1e-6
    assert 0 < moved[1, 1] < 1e-6


def test_many_digits_know_every_layer() -> None:
    """As of the first networks: ten roundings of float64 a layer, 1e-15 where they move nothing."""
    judged = 0
    for number in range(110):
        case = drawing_all.draw(SEED, number)
        for network in load_network(case.spec).ending(case.depths).values():
            names = {name for name in judging.kinds(network) if name in TABLE}
            if case.x1.size > 30 or not all(closed(name) for name in names):
                continue
            at_end = case._replace(spec=network.canonical(), depths=())
            with np.errstate(all="ignore"):
                wanted, _ = judging.reference(network, at_end)
            if not all(np.isfinite(value).all() for value in wanted.values()):
                continue
            x = exact.Inputs.of(network, case.x1, case.x2, case.patterns)
            moved = exact.spread(network, x, 10 * judging.EPS["float64"])
            for key, value in exact.extended(network, x).items():
                most = 2 * moved[key].max() + 1e-15 * np.abs(value).max()
                assert np.abs(value - wanted[key]).max() <= most, (number, key)
            judged += 1
    assert judged >= 20, judged
