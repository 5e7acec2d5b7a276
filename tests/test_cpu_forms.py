"""Forms of the plane kernels: all give the same bits, and each processor has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

import widegram
from fresh_tables import fresh_tables
from jobs import job
from machine_code import CODES, PROCESSORS
from widegram.cpu import CpuEvaluator
from widegram.cpu.charts import chart
from widegram.cpu.driver.fields import REGION
from widegram.cpu.kernels import compiled, forms
from widegram.cpu.kernels.fields import Chart
from widegram.cpu.kernels.forms import PLAIN, Form
from widegram.cpu.kernels.variants import GAPS, SQUARES, Variant

# Sections that rows of 1 to 5 pixels are too short for, that overlap, or that have a middle part;
# bunches that are full and others.
FORMS = (Form(4, held=True), Form(2, (21, 36), held=True), Form(waits=2), Form(waits=3),
         Form(waits=1, bunch=2), Form(2, (21, 36), bunch=3), Form(charted=True),
         Form(2, waits=2, charted=True), Form(waits=1, bunch=4, charted=True))  # fmt: skip
CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.3, "b_std": 0.1}
CIRCULAR = CONV | {"padding": "CIRCULAR"}
SMALL = CONV | {"filter_shape": [2, 2], "padding": "VALID"}
BIG, EVEN = (CONV | {"filter_shape": [n, n]} for n in (5, 4))
DENSE = {"layer": "Dense", "W_std": 1.2, "b_std": 0.2}
RELU, GAP = {"layer": "Relu"}, {"layer": "GlobalAvgPool"}
BRANCHED = {"layer": "Residual", "branch": [RELU, CONV], "shortcut": []}
NETWORKS = {
    "zeros": ([5, 4, 2], [CONV, RELU, CONV, {"layer": "LeakyRelu", "alpha": 0.1}, GAP]),
    "torus": ([3, 3, 1], [CIRCULAR, RELU, CIRCULAR, {"layer": "Erf"}, GAP]),
    "not packed": ([4, 5, 1], [SMALL, RELU, CONV, BRANCHED, GAP]),
    "squares": ([3, 6, 1], [BIG, RELU, EVEN, RELU, GAP]),
    "wide": ([2, 17, 1], [CONV, RELU, CONV, RELU, GAP]),
    "vectors": ([3], [DENSE, RELU, DENSE, {"layer": "Erf"}]),
}


@contextmanager
def written_in(form: Form) -> Iterator[None]:
    """Inside, what can be cut into sections is in that form, with charts where planes are small."""

    def chosen(variant: Variant, processor: object, width: int, small: bool) -> Form:
        made = replace(form, charted=form.charted and small)
        return made if forms._straight(variant) else PLAIN

    with fresh_tables(), mock.patch.object(forms, "chosen", chosen):
        yield


@pytest.mark.parametrize(
    ("name", "dtype"), list(zip(NETWORKS, ["float32", "float64"] * 4, strict=False))
)
def test_all_forms_give_the_same_bits(name: str, dtype: str) -> None:
    shape, layers = NETWORKS[name]
    network = {"input_shape": shape, "layers": layers}
    x = np.random.default_rng(1).normal(size=(5, *shape))
    x[4] = x[0]  # equal inputs: c = 1

    def bits() -> bytes:
        found = widegram.kernel(network, x, get=("nngp", "ntk"), dtype=dtype)
        alone = widegram.kernel(network, x[:2], x[2:], get="nngp", dtype=dtype)
        return b"".join(np.ascontiguousarray(k).tobytes() for k in (found.nngp, found.ntk, alone))

    with written_in(PLAIN):
        expected = bits()
    for form in FORMS:
        with written_in(form):
            assert bits() == expected, form


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_kernel_has_a_form(name: str) -> None:
    processor = PROCESSORS[name]
    for code in CODES:
        for dtype in ("float32", "float64"):
            for kind in ("tap", "box", "large", *SQUARES):
                variant = Variant(kind, code, True, False, dtype, packed=GAPS)
                for width in (0, 8, 12, 16, forms.WIDE):
                    form = forms.chosen(variant, processor, width)
                    assert form in forms.known(variant)
                    of_small = forms.chosen(variant, processor, width, True)
                    assert replace(of_small, charted=False) in forms.known(variant)
                    assert not (of_small.charted and SQUARES.get(kind, 1) > forms._MOST_CHARTED)
                    assert form.chains == PLAIN.chains
                    # Loops within a pixel cannot be cut.
                    straight = code in forms._STRAIGHT and kind not in ("box", "large")
                    assert not form.behind or straight
                assert form == forms.chosen(variant, processor, 1000)


def asked(shape: list[int], layers: list[Any], kind: str, word: str) -> list[Any]:
    """The argument ``word`` of every float32 kernel of a kind that a tile of a network asks for."""
    x = np.random.default_rng(1).normal(size=(3, *shape))
    of = job({"input_shape": shape, "layers": layers}, x, dtype="float32")
    spy = mock.patch.object(compiled, "address", wraps=compiled.address)
    with fresh_tables(), spy as address, CpuEvaluator(of) as evaluator:
        evaluator.tile(range(3), range(3), False)
    calls = [(call.args[0], call.kwargs.get(word)) for call in address.call_args_list]
    return [value for variant, value in calls if (variant.kind, variant.dtype) == (kind, "float32")]


def test_small_planes_have_charts() -> None:
    """A kernel that reads planes of another shape, or more pixels than a chart has, has none."""
    valid = CONV | {"padding": "VALID"}
    odd = [CIRCULAR, RELU, valid, RELU, CIRCULAR, GAP]
    for shape, layers, small in (
        ([5, 6, 1], [CONV, RELU, CONV, RELU, GAP], [True, True]),
        ([2, 80, 1], [CONV, RELU, CONV, RELU, GAP], [False, False]),
        ([6, 5, 1], odd, [True, False, False]),
    ):
        assert sorted(asked(shape, layers, "box3", "small")) == sorted(small)


@pytest.mark.parametrize("gap", [(1, 1), (0, 0)])
def test_a_chart(gap: tuple[int, int]) -> None:
    h, w, pitch = 3, 4, 7
    table = chart((h, w), gap, pitch)
    for dy, dx, second in np.ndindex(h, w, 2):
        pixels, begins = [], []
        for row in range(h):
            for col in range(w if second else w - dx):
                down, right = int(row >= h - dy), int(col >= w - dx)
                plane = (row + down * gap[0]) * pitch + col + right * gap[1]
                y = (row + dy - h * down) * w + col + dx - w * right
                pixels.append((plane, row * w + col, y - dy * w - dx))
                begins.append(col == 0 or (bool(gap[1]) and dx > 0 and col == w - dx))
        found = table[dy, dx, second, : len(pixels)]
        assert list(Chart) == [Chart.PLANE, Chart.X, Chart.Y, Chart.BEGINS]
        assert found[:, :3].tolist() == [list(p) for p in pixels]
        assert (found[:, Chart.BEGINS] != 0).tolist() == begins


def test_every_form_has_a_key_of_its_own() -> None:
    known = [*forms.known(Variant("box3", "erf", True, False, "float32")), *FORMS]
    assert len({form.text() for form in known}) == len(set(known))
    variant = Variant("tap", "relu", False, False, "float32")
    assert compiled.address(variant, Form(2)) != compiled.address(variant, PLAIN)


def test_the_form_is_that_for_the_width_of_an_image() -> None:
    """Where a network has a kernel at several widths, each is written for its own; vectors stand
    in rows of as many pixels as a region has blocks."""
    pool = {"layer": "AvgPool", "window_shape": [2, 2], "strides": [2, 2]}
    images = [CONV, RELU, CONV, RELU, pool, CONV, RELU, GAP]
    for shape, layers, kind, widths in (
        ([4, 6, 1], images, "box3", [6, 6, 3]),
        ([3], NETWORKS["vectors"][1], "tap", [REGION[1]] * 2),
    ):
        assert asked(shape, layers, kind, "width") == widths


def test_a_form_for_rows_that_are_wide_enough() -> None:
    variant, processor = Variant("box3", "relu", True, False, "float32"), PROCESSORS["x86-64-v3"]
    least = {6: Form(2), 3: Form(4), 0: PLAIN}
    with mock.patch.dict(forms._TABLE, {(processor.registers, "float32", ""): least}):
        found = [forms.chosen(variant, processor, width) for width in (0, 2, 3, 5, 6, 7)]
        small = {(processor.registers, "float32", ""): {3: Form(8), 0: Form(2)}}
        with mock.patch.dict(forms._SMALL, small):
            of_small = [forms.chosen(variant, processor, width, True) for width in (2, 3)]
            assert forms.chosen(variant, processor, 3) == Form(4)
    assert found == [PLAIN, PLAIN, Form(4), Form(4), Form(2), Form(2)]
    assert of_small == [Form(2), Form(8)]
