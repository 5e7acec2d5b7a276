"""Generated kernels of networks read out at many depths: on the emulator against the dense
reference, and how much text they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cuda_support import DENSE, GAP, RELU, assert_equal, both, conv, pool
from widegram.cuda.evaluator import source_of
from widegram.cuda.rolling import Repetition, rolled
from widegram.cuda.source import KernelTexts
from widegram.network import load_network
from widegram.plan.buffers import ANYWHERE, allocate
from widegram.plan.steps import Step

FORMS = ("patch", "strip", "block")
ERF = {"layer": "Erf"}
BRANCH = {"layer": "Residual", "branch": [RELU, conv()], "shortcut": []}
# Who has accumulators of six readouts, and the most shared memory that brings that about.
PLACES = {"threads": 32 * 1024, "warps": 1000, "warps, in global memory": 50}
# Rounding through a few layers; the contract's for float32.
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}


def _sweep(shape: list[int], times: int, body: list[dict], *suffix: dict) -> dict[str, Any]:
    repeat = {"layer": "Repeat", "times": times, "body": body}
    return {"input_shape": shape, "layers": [repeat, *(suffix or (GAP,))]}


# name -> (network, the form asked for first, which it takes)
NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "block": (_sweep([11, 3, 1], 6, [conv(), RELU]), "block"),
    "rows behind the last": (_sweep([11, 3, 1], 6, [conv(), RELU]), "strip"),
    "strip": (_sweep([4, 8, 2], 6, [conv(), RELU], GAP, DENSE), "strip"),
    "two strips": (_sweep([16, 8, 1], 6, [conv(), ERF]), "strip"),
    "circular strip": (_sweep([4, 4, 1], 6, [conv(padding="CIRCULAR"), RELU]), "strip"),
    "idle lanes": (_sweep([2, 20, 1], 6, [conv(), RELU]), "strip"),
    "half a warp over": (_sweep([4, 48, 1], 6, [conv(), RELU]), "strip"),
    "residual": (_sweep([4, 8, 1], 6, [conv(), BRANCH], RELU, GAP), "strip"),
    "patch": (_sweep([8, 4, 1], 6, [conv(), RELU]), "patch"),
    "residual patch": (_sweep([8, 4, 1], 6, [conv(), BRANCH], RELU, GAP), "patch"),
}  # fmt: skip
_SLOW = {"half a warp over", "two strips", "residual patch"}


@pytest.mark.parametrize(("place", "dtype"), [
    # float32, whose text differs by its numbers alone, in one place.
    pytest.param(place, dtype, marks=pytest.mark.slow if slow else ())
    for place in PLACES for dtype, slow in (("float64", False), ("float32", place != "warps"))
])  # fmt: skip
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in _SLOW else ()) for n in NETWORKS]
)
def test_places_of_accumulators(
    name: str, place: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("widegram.cuda.sums._MOST_BYTES", PLACES[place])
    spec, form = NETWORKS[name]
    forms = FORMS[FORMS.index(form) :]
    evaluator, found, wanted = both(spec, dtype, (1, 1), depths=range(1, 7), forms=forms)
    kernel, *others = evaluator.source.kernels
    assert (kernel.form, [other.form for other in others]) == (form, ["point"])
    # Only whole warps can shuffle; without them all threads keep theirs.
    whole = kernel.threads[0] * kernel.threads[1] % 32 == 0
    assert ("if low == 0" in kernel.text) == (place != "threads" and whole)
    assert (kernel.held > 0) == ("global" in place or (place == "warps" and not whole))
    assert_equal(found, wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("depths", [(1, 2, 5, 9), (3, 6, 9), (9,)], ids=str)
@pytest.mark.parametrize("name", ["strip", "circular strip", "residual", "block"])
def test_some_depths(name: str, depths: tuple[int, ...]) -> None:
    spec = NETWORKS[name][0]
    repeat, *suffix = spec["layers"]
    spec = _sweep(spec["input_shape"], 9, repeat["body"], *suffix)
    _, found, wanted = both(spec, counts=(1, 1), depths=depths)
    assert len(found) == 2 * len(depths)
    assert_equal(found, wanted, TOLERANCE["float64"])


@pytest.mark.parametrize("place", PLACES)
def test_nngp_alone(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.sums._MOST_BYTES", PLACES[place] // 2)
    _, found, wanted = both(
        NETWORKS["circular strip"][0], counts=(1, 2), depths=range(1, 7), get=("nngp",)
    )
    assert_equal(found, wanted, TOLERANCE["float64"])


def test_readouts_with_layers_of_their_own() -> None:
    """Convolutions before the pool, an activation behind it; a pool in the body."""
    head = (conv(), ERF, GAP, DENSE, RELU, DENSE)
    for body, times in (([conv(), RELU], 5), ([conv(), RELU, pool()], 2)):
        spec = _sweep([8, 8, 1], times, body, *head)
        _, found, wanted = both(spec, counts=(1, 1), depths=range(1, times + 1))
        assert_equal(found, wanted, TOLERANCE["float64"])


def test_vectors() -> None:
    spec = _sweep([5], 8, [DENSE, RELU], DENSE)
    for depths in (range(1, 9), (2, 3, 7)):
        evaluator, found, wanted = both(spec, depths=depths)
        assert [kernel.form for kernel in evaluator.source.kernels] == ["point"]
        assert_equal(found, wanted, TOLERANCE["float64"])


def test_a_pair_is_the_same_in_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its accumulators are behind the sums of all pairs of a batch."""
    monkeypatch.setattr("widegram.cuda.sums._MOST_BYTES", 50)
    spec = NETWORKS["circular strip"][0]
    tiles = []
    for most in (1, 2, 1 << 18):
        monkeypatch.setattr("widegram.cuda.stream.LARGEST_BATCH", most)
        evaluator, found, _ = both(spec, "float32", (1, 3), depths=range(1, 7))
        assert evaluator.source.kernels[0].held > 0
        tiles.append(found)
    for tile in tiles[1:]:
        for key, value in tile.items():
            np.testing.assert_array_equal(value, tiles[0][key])


# The text -----------------------------------------------------------------------------------------


def _source(times: int, depths: Any, *suffix: dict, body: list[dict] | None = None) -> KernelTexts:
    network = load_network(_sweep([32, 32, 3], times, body or [conv(), RELU], *suffix))
    return source_of(network, depths=depths, dtype="float64")


def _loops(source: KernelTexts) -> list[Any]:
    """The steps of the first kernel: kinds, and of a loop (times, its steps)."""
    steps, _ = allocate(source.context.steps(source.context.plan.cross.programs[0]), ANYWHERE)

    def shown(item: Step | Repetition) -> Any:
        if isinstance(item, Step):
            return item.kind
        return item.times, [shown(inner) for inner in item.items]

    return [shown(item) for item in rolled(steps)]


def test_text_does_not_grow_with_the_number_of_readouts() -> None:
    few, many = (_source(n, range(1, n + 1), GAP, DENSE) for n in (20, 100))
    assert [kernel.name for kernel in many.kernels] == ["stage 0", "stages 1 to 100"]
    for one, other in zip(few.kernels, many.kernels, strict=True):
        assert one.form == other.form
        assert len(other.text) < len(one.text) + 500


def test_a_readout_after_each_layer_is_one_loop() -> None:
    assert _loops(_source(30, range(1, 31))) == [
        "input", "window", (29, ["reduce", "window"]), "reduce",
    ]  # fmt: skip


def test_layers_between_readouts_are_loops_inside_of_one() -> None:
    assert _loops(_source(300, range(10, 301, 10))) == [
        "input", "window", (9, ["window"]), (29, ["reduce", (10, ["window"])]), "reduce",
    ]  # fmt: skip


def test_layers_between_irregular_readouts_are_loops() -> None:
    assert _loops(_source(100, (1, 2, 5, 10, 50, 100))) == [
        "input", "window", "reduce", "window", "reduce", (3, ["window"]), "reduce",
        (5, ["window"]), "reduce", (40, ["window"]), "reduce", (50, ["window"]), "reduce",
    ]  # fmt: skip


def test_residual_blocks_and_their_readouts_are_one_loop() -> None:
    loops = _loops(_source(50, range(1, 51), RELU, GAP, body=[conv(), BRANCH]))
    assert [item[0] for item in loops if isinstance(item, tuple)] == [49]
