"""Forms of the plane kernels: all give the same bits, and each processor has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

import widegram
from machine_code import CODES, PROCESSORS
from widegram.cpu.kernels import compiled, forms
from widegram.cpu.kernels.forms import PLAIN, Form
from widegram.cpu.kernels.variants import GAPS, SQUARES, Variant

# Sections that rows of 1 to 5 pixels are too short for, that overlap, or that have a middle part.
FORMS = (Form(4, held=True, narrow=Form(1, (21,), held=True)), Form(2, (21, 36), held=True))
CONV = {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME", "W_std": 1.3, "b_std": 0.1}
CIRCULAR = CONV | {"padding": "CIRCULAR"}
SMALL = CONV | {"filter_shape": [2, 2], "padding": "VALID"}
DENSE = {"layer": "Dense", "W_std": 1.2, "b_std": 0.2}
RELU, GAP = {"layer": "Relu"}, {"layer": "GlobalAvgPool"}
BRANCHED = {"layer": "Residual", "branch": [RELU, CONV], "shortcut": []}
NETWORKS = {
    "zeros": ([5, 4, 2], [CONV, RELU, CONV, {"layer": "LeakyRelu", "alpha": 0.1}, GAP]),
    "torus": ([3, 3, 1], [CIRCULAR, RELU, CIRCULAR, {"layer": "Erf"}, GAP]),
    "not packed": ([4, 5, 1], [SMALL, RELU, CONV, BRANCHED, GAP]),
    "wide": ([2, 17, 1], [CONV, RELU, CONV, RELU, GAP]),
    "vectors": ([3], [DENSE, RELU, DENSE, {"layer": "Erf"}]),
}


@contextmanager
def written_in(form: Form) -> Iterator[None]:
    """Inside, what can be cut into sections is in that form."""

    def chosen(variant: Variant, processor: object) -> Form:
        return form if forms._straight(variant) else PLAIN

    with mock.patch.object(forms, "chosen", chosen):
        compiled.address.cache_clear()
        yield
    compiled.address.cache_clear()


@pytest.mark.parametrize(
    ("name", "dtype"), list(zip(NETWORKS, ["float32", "float64"] * 3, strict=False))
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
    count, size = processor.registers
    for code in CODES:
        for dtype in ("float32", "float64"):
            for kind in ("tap", "box", "large", *SQUARES):
                variant = Variant(kind, code, True, False, dtype, packed=GAPS)
                form = forms.chosen(variant, processor)
                assert replace(form, narrow=None) in forms.known(variant)
                # Of widths that are measured elsewhere nothing changes.
                assert form == PLAIN or (count, size) != (32, 64)
                assert form.chains == PLAIN.chains
                # Loops within a pixel cannot be cut.
                assert not form.cuts or (code in forms._STRAIGHT and kind not in ("box", "large"))


def test_every_form_has_a_key_of_its_own() -> None:
    known = [*forms.known(Variant("box3", "erf", True, False, "float32")), *FORMS]
    assert len({form.text() for form in known}) == len(set(known))
    variant = Variant("tap", "relu", False, False, "float32")
    assert compiled.address(variant, Form(2)) != compiled.address(variant, PLAIN)
