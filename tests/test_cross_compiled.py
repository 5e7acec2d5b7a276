"""Plane kernels for processors that are not here: compiled, looked at, not run."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest

import widegram
from machine_code import (
    CODES,
    PROCESSORS,
    arithmetic,
    assembly,
    assembly_of,
    calls,
    every_variant,
    innermost,
    moving,
    running_as,
    slow_lines,
)
from widegram import reference
from widegram.cpu.kernels.processors import Processor
from widegram.cpu.kernels.variants import Variant
from widegram.network import load_network

# In the place of loops that fill and copy; the C library of every process has these.
ALLOWED = {"memset", "memcpy", "memmove"}
QUICK = ("neoverse-n1", "x86-64-v2")
# Single lanes are moved where numbers of several inputs are put together, and halves of registers
# where they are transposed.
FINE = {
    "pack": r"ld1 |mov v\d+\.s\[|v?(insertps|pinsr)",
    "turn": r"mov v\d+\.d\[1\], v\d+\.d\[[01]\]",
}
SCALAR = """
define void @f(i64 %p, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = shl i64 %i, 2
  %address = add i64 %p, %at
  %pointer = inttoptr i64 %address to ptr
  %x = load float, ptr %pointer
  {}
  store float %y, ptr %pointer
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}
declare float @sinf(float)
"""


_HEAD = [{"layer": "Flatten"}, {"layer": "Dense"}]
NETWORKS = [
    {"input_shape": [6, 6, 2], "layers": [
        {"layer": "Conv", "filter_shape": [3, 3], "b_std": 0.1}, {"layer": "Relu"},
        {"layer": "Conv", "filter_shape": [3, 3]}, {"layer": "Rbf"}, *_HEAD]},
    {"input_shape": [72], "layers": [
        {"layer": "Dense"}, {"layer": "Erf"}, {"layer": "Dense"}, {"layer": "Relu"},
        {"layer": "Dense"}, {"layer": "Gabor"}, {"layer": "Dense"}]},
]  # fmt: skip


def representative() -> list[Variant]:
    """Each way of moving, each window, and activations with some window."""
    kinds = [Variant(kind, "relu", True, False, "float32") for kind in ("box8", "box", "large")]
    packed = [Variant(kind, "none", True, False, "float32", 1) for kind in ("box3+", "inputs")]
    codes = [
        Variant(("tap", "box3", "point")[n % 3], code, True, False, ("float32", "float64")[n % 2])
        for n, code in enumerate(CODES)
        if not code.startswith("rectified_power") or code.endswith("3")
    ]
    moves = [v for v in moving() if (v.ntk and not v.paired) or v.kind in ("pack", "map")]
    return [*kinds, *packed, *codes, *moves]


def check(variant: Variant, processor: Processor) -> None:
    text = assembly(variant, processor)
    fine = re.compile(FINE.get(variant.kind, "$"))
    bad = [line for line in slow_lines(text, processor) if not fine.match(line)]
    assert not bad, (variant, bad[:5])
    assert calls(text, processor) <= ALLOWED, variant


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROCESSORS],
)
def test_no_loop_works_lane_by_lane(name: str) -> None:
    for variant in representative():
        check(variant, PROCESSORS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSORS)
def test_no_loop_of_what_moves_works_lane_by_lane(name: str) -> None:
    for variant in moving():
        check(variant, PROCESSORS[name])


@pytest.mark.slow
@pytest.mark.parametrize("code", ["none", *CODES])
def test_no_loop_of_any_activation_works_lane_by_lane(code: str) -> None:
    """All of one processor, of the others each a share of its own."""
    variants = list(arithmetic(code))
    for n, processor in enumerate(PROCESSORS.values()):
        for variant in variants[n :: 16 if n else 1]:
            check(variant, processor)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(
    "body",
    [
        "%y = fadd float %x, 1.0\n  fence seq_cst",
        "%y = call float @sinf(float %x)",
    ],
    ids=["arithmetic", "call"],
)
def test_a_scalar_loop_is_found(name: str, body: str) -> None:
    text = assembly_of(SCALAR.format(body), "f", PROCESSORS[name])
    assert slow_lines(text, PROCESSORS[name])


def test_vectors_are_whole_registers_on_arm() -> None:
    variant = Variant("box3", "relu", True, False, "float32")
    text = assembly(variant, PROCESSORS["neoverse-n1"])
    (loop, *_) = sorted(innermost(text, PROCESSORS["neoverse-n1"]), key=len, reverse=True)
    assert sum(bool(re.match(r"fml[as] v\d+\.4s", line)) for line in loop) > 16
    # The stack stands on a cache line: the caller's is at a multiple of 16.
    assert re.search(r"and\s+sp, x\d+, #0xffffffffffffffc0", text)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="runs code of its architecture")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_fused_instructions_values_are_as_good(dtype: str) -> None:
    """Of vectors and of images, with square roots near c = 1 and exponentials; and that inner
    products of equal inputs are the bits of their squares."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 6, 6, 2))
    x[8] = x[0]
    x[7] = x[1] * (1 + 1e-4)
    # What is promised: in float32 between similar inputs, in float64 between any.
    tolerance = {"float32": 1e-4, "float64": 1e-10}[dtype]
    for network in NETWORKS:
        given = x if len(network["input_shape"]) == 3 else x.reshape(9, -1)
        with running_as(PROCESSORS["x86-64-v2"]):
            found = widegram.kernel(network, given, dtype=dtype)
        for one, wanted in zip(found, reference.kernel(load_network(network), given), strict=True):
            assert np.abs(one - wanted).max() <= tolerance * np.abs(wanted).max()
            assert one[0, 0] == one[0, 8] == one[8, 8]


def test_every_variant_is_walked() -> None:
    found = list(every_variant())
    assert len(found) == len(set(found)) > 10_000
