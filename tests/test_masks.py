"""Kernels of masked inputs: backends against the reference, both against neural-tangents.

``golden_masks/values.npz`` was written by neural-tangents 0.6.5 (``golden_masks/README.md``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import mask_examples
from agreement import PROMISED
from cuda_support import assert_equal
from masked_networks import BIASED, BOTH, CASES, ERF, masked, tiles
from network_specs import DENSE, GAP, RELU
from virtual_card.devices import Emulated
from widegram import reference, stax
from widegram.cpu import CpuEvaluator
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data.patterns import patterned
from widegram.reference import ReferenceEvaluator

GOLDEN = Path(__file__).parent / "golden_masks" / "values.npz"


@pytest.mark.parametrize("name", CASES)
def test_cpu_and_reference_agree(name: str) -> None:
    shape, layers = CASES[name]
    for of, tile in tiles(masked(shape, *layers)):
        wanted = ReferenceEvaluator(of).tile(*tile)
        for dtype, tolerance in PROMISED.items():
            with CpuEvaluator(replace(of, dtype=dtype)) as evaluator:
                assert_equal(evaluator.tile(*tile), wanted, tolerance)
                own = evaluator.diagonal(tile[0])
        for key, value in own.items():
            other = ReferenceEvaluator(of).diagonal(tile[0])[key]
            # in float64, with constants that are rounded to float32
            np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-12 * abs(other).max())


# name -> (dtype, forms of its kernels): every form of them takes masks.
CUDA = {
    "global mean": ("float64", ["strip", "point"]),
    "circular, strides": ("float32", ["strip", "block", "strip", "point"]),
    "branches": ("float64", ["block", "point"]),
    "norms": ("float32", ["strip", "point"]),
    "sequence": ("float64", ["block", "point"]),
    "vectors": ("float64", ["point"]),
    "patch": ("float32", ["patch", "point"]),
}


@pytest.mark.parametrize("name", CUDA)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    layers = [BIASED, RELU, BIASED, RELU, BIASED, ERF, GAP, DENSE]
    shape, layers = {**CASES, "patch": ((8, 8, 1), layers)}[name]
    of, tile = tiles(masked(shape, *layers), second=False)[0]
    dtype, forms = CUDA[name]
    evaluator = CudaEvaluator(replace(of, dtype=dtype), [Emulated()], block_threads=16)
    # some roundings of float64 per layer and pixel; the contract's for float32
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert_equal(evaluator.tile(*tile), ReferenceEvaluator(of).tile(*tile), tolerance)
    assert [kernel.form for kernel in evaluator.source.kernels] == forms


@pytest.mark.parametrize("name", CASES)
def test_what_is_wholly_masked_has_kernel_0(name: str) -> None:
    shape, layers = CASES[name]
    of, tile = tiles(masked(shape, *layers), second=False)[0]
    for make in (CpuEvaluator, ReferenceEvaluator):
        for value in make(of).tile(*tile).values():
            assert not value[0].any()
            assert not value[:, 0].any()
            assert (np.diagonal(value)[1:] > 0).all()


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def compare(found: dict[str, np.ndarray], family: str, tolerance: float) -> None:
    golden = {name: v for name, v in stored().items() if name.startswith(f"{family}/")}
    assert sorted(found) == sorted(golden)
    for name, wanted in golden.items():
        value = found[name]
        if "Sign/cov" in name:  # neural-tangents' is wrong behind a pool (docs/neural-tangents.md)
            continue
        if value.dtype.kind in "bi":
            np.testing.assert_array_equal(value, wanted, err_msg=name)
            continue
        # neural-tangents takes acos of covariances near their variance, which turns 1e-16 of
        # rounding into 1e-8 of an angle, times it in K.
        atol = tolerance * np.max(abs(wanted), initial=1e-300)
        np.testing.assert_allclose(value, wanted, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("family", mask_examples.FAMILIES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_meets_neural_tangents(family: str, dtype: str) -> None:
    compare(mask_examples.run(stax, [family], dtype), family, PROMISED[dtype])


def test_kernels_of_images_meet_neural_tangents() -> None:
    compare(mask_examples.kernels(stax), "kernels", PROMISED["float64"])


@pytest.mark.parametrize("family", mask_examples.FAMILIES)
def test_reference_meets_neural_tangents(family: str) -> None:
    for name, (_, _, kernel_fn), x1, x2, mask, *more in mask_examples.FAMILIES[family](stax):
        pattern = more[0]["pattern"] if more else None
        if pattern and pattern[0] is None:  # of a network as data Aggregate needs one
            continue
        network = kernel_fn.network(x1.shape[1:], mask_constant=mask)
        found = reference.kernel(network, *patterned(x1, x2, pattern))
        for key in BOTH:
            wanted = stored()[f"{family}/{name}/{key}"]
            error = abs(getattr(found, key) - wanted).max()
            assert error <= PROMISED["float64"] * abs(wanted).max(), name
