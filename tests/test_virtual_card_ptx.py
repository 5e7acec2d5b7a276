"""The machine that runs PTX: instructions on hand-written kernels, and the faults that it finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from virtual_card.ptx.machine import Launch, Machine
from virtual_card.ptx.memory import Fault, Memory
from virtual_card.ptx.numbers import Approximate
from virtual_card.ptx.text import Unsupported, programs

_FRAME = """
.version 9.0
.target sm_90
.shared .align 8 .b8 cells[256];
.shared .align 8 .b8 other[256];
.visible .entry tiny(.param .u64 into, .param .u64 from)
{{
.reg .pred %p<9>;
.reg .b32 %r<20>;
.reg .f32 %f<20>;
.reg .b64 %rd<20>;
.reg .f64 %fd<20>;
ld.param.u64 %rd1, [into];
ld.param.u64 %rd2, [from];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd3, %r1, {width};
add.s64 %rd1, %rd1, %rd3;
mul.wide.u32 %rd3, %r1, {stride};
add.s64 %rd2, %rd2, %rd3;
{body}
ret;
}}
"""


def _run(
    body: str, values: Any, out: Any, blocks: int = 1, threads: int | None = None, **options: Any
) -> np.ndarray:
    """What a kernel writes: %rd1 and %rd2 are a thread's places in ``out`` and ``values``."""
    values, found = np.atleast_2d(values), np.zeros_like(out)
    text = _FRAME.format(body=body, width=found.itemsize, stride=values[0].nbytes)
    memory = Memory()
    addresses = [memory.add_array(a, name) for a, name in ((found, "out"), (values, "in"))]
    parameters = np.array(addresses, dtype=np.uint64).tobytes()
    size = threads or len(values)
    Machine(programs(text)[0], **options).run(Launch((blocks, 1), (size, 1), parameters), memory)
    return found


def _float(instruction: str, *rows: tuple[float, ...]) -> np.ndarray:
    """A float32 instruction of as many operands as a row has numbers."""
    values = np.array(rows, dtype=np.float32)
    names = [f"%f{n + 1}" for n in range(values.shape[1])]
    loads = "".join(f"ld.global.f32 {f}, [%rd2+{4 * n}];\n" for n, f in enumerate(names))
    body = f"{loads}{instruction} %f9, {', '.join(names)};\nst.global.f32 [%rd1], %f9;"
    return _run(body, values, np.zeros(len(rows), dtype=np.float32))


def _double(instruction: str, *rows: tuple[float, ...], **options: Any) -> np.ndarray:
    values = np.array(rows, dtype=np.float64)
    names = [f"%fd{n + 1}" for n in range(values.shape[1])]
    loads = "".join(f"ld.global.f64 {f}, [%rd2+{8 * n}];\n" for n, f in enumerate(names))
    body = f"{loads}{instruction} %fd9, {', '.join(names)};\nst.global.f64 [%rd1], %fd9;"
    return _run(body, values, np.zeros(len(rows)), **options)


def _whole(instruction: str, kind: str, *rows: tuple[int, ...]) -> np.ndarray:
    """A 64-bit integer instruction; its last operand may be a shift's distance."""
    values = np.array(rows, dtype=np.int64)
    names = [f"%rd{n + 5}" for n in range(values.shape[1])]
    loads = "".join(f"ld.global.u64 {r}, [%rd2+{8 * n}];\n" for n, r in enumerate(names))
    if "sh" in instruction:
        loads += f"cvt.u32.u64 %r5, {names[-1]};\n"
        names[-1] = "%r5"
    body = f"{loads}{instruction} %rd9, {', '.join(names)};\nst.global.u64 [%rd1], %rd9;"
    return _run(body, values, np.zeros(len(rows), dtype=kind))


def test_float32_rounds_once_and_flushes_what_is_subnormal() -> None:
    tiny, one = 2.0**-126, 1.0 + 2.0**-12
    # 1 + 2^-11 + 2^-24 less 1 + 2^-11: a product that is rounded first leaves nothing.
    assert _float("fma.rn.ftz.f32", (one, one, -(1 + 2.0**-11)))[0] == np.float32(2.0**-24)
    assert _float("add.ftz.f32", (1.5 * tiny, -tiny))[0] == 0.0
    assert _float("add.rn.f32", (1.5 * tiny, -tiny))[0] == np.float32(0.5 * tiny)
    assert np.signbit(_float("mul.ftz.f32", (-tiny, 0.5))[0])
    assert _float("mul.ftz.f32", (0.5 * tiny, 2.0**100))[0] == 0.0


def test_saturation_minimum_and_maximum_of_what_is_no_number() -> None:
    rows = (2.0, 1.0, 0.5), (-1.0, 1.0, 0.0), (np.nan, 1.0, 1.0), (0.5, 0.5, 0.25)
    np.testing.assert_array_equal(_float("fma.rn.ftz.sat.f32", *rows), [1, 0, 0, 0.5])
    rows = (np.nan, 2.0), (1.0, np.nan), (3.0, -4.0)
    np.testing.assert_array_equal(_float("max.ftz.f32", *rows), [2, 1, 3])
    np.testing.assert_array_equal(_double("min.f64", *rows), [2, 1, -4])


def test_float64_fma_rounds_once() -> None:
    one = 1.0 + 2.0**-27
    found = _double("fma.rn.f64", (one, one, -(1.0 + 2.0**-26)), (0.1, 10.0, -1.0))
    assert list(found) == [2.0**-54, 2.0**-54]


@pytest.mark.parametrize("worst", [False, True])
def test_approximate_instructions_are_as_wrong_as_documented(worst: bool) -> None:
    approximate = Approximate(worst)
    rng = np.random.default_rng(0)
    a, b = (np.exp(rng.uniform(-5, 5, 4000)).astype(np.float32) for _ in range(2))
    exact = a.astype(np.float64) / b
    # PTX ISA: 2 units in the last place for div.approx, 2^-23 relative for sqrt.approx.
    units = np.abs(approximate.divide(a, b) - exact) / np.spacing(exact.astype(np.float32))
    assert units.max() <= 2.0
    assert (units.max() > 1.9) == worst
    root = np.abs(approximate.root(a) / np.sqrt(a.astype(np.float64)) - 1.0).max()
    assert root <= 2.0**-23
    assert (root > 2.0**-24) == worst
    exponent = rng.uniform(-20, 20, 4000).astype(np.float32)
    power = np.abs(approximate.power(exponent) / np.exp2(exponent.astype(np.float64)) - 1.0).max()
    assert power <= 2.0**-22
    assert (power > 2.0**-24) == worst
    x = np.exp(rng.uniform(-5, 5, 4000))
    for found, wanted in (
        (approximate.reciprocal(x), 1 / x), (approximate.inverse_root(x), 1 / np.sqrt(x)),
    ):  # fmt: skip
        # Upper halves alone: 20 bits of the operand, 20 of the result.
        assert not (found.view(np.uint64) & np.uint64(0xFFFFFFFF)).any()
        off = np.abs(found / wanted - 1).max()
        assert 2.0**-21 < off < (3.1 if worst else 2.1) * 2.0**-20
    with np.errstate(divide="ignore"):
        assert np.isinf(approximate.reciprocal(np.array([0.0, 1e-310]))).all()


def test_whole_numbers() -> None:
    high = 2**62
    assert _whole("mul.hi.s64", "i8", (high, -12), (-high, high))[0] == high * -12 >> 64
    assert _whole("mul.hi.s64", "i8", (-high, high))[0] == -high * high >> 64
    assert _whole("mul.hi.u64", "u8", (-high, 5))[0] == (2**64 - high) * 5 >> 64
    assert _whole("div.u64", "u8", (-1, 10))[0] == (2**64 - 1) // 10
    assert _whole("rem.u64", "u8", (-1, 10))[0] == (2**64 - 1) % 10
    np.testing.assert_array_equal(_whole("shr.s64", "i8", (-8, 1), (-8, 200)), [-4, -1])
    np.testing.assert_array_equal(_whole("shl.b64", "i8", (3, 2), (3, 64)), [12, 0])
    assert _whole("shr.u64", "u8", (-1, 60))[0] == 15
    np.testing.assert_array_equal(_whole("min.s64", "i8", (-1, 5)), [-1])


def test_loads_and_conversions_extend_the_sign() -> None:
    body = "ld.global.s32 %rd5, [%rd2];\nst.global.u64 [%rd1], %rd5;"
    out = np.zeros(1, dtype=np.int64)
    assert _run(body, np.array([-3], dtype=np.int32), out)[0] == -3
    assert _run(body.replace("s32", "u32"), np.array([-3], dtype=np.int32), out)[0] == 2**32 - 3
    body = "ld.global.u32 %r5, [%rd2];\ncvt.s64.s32 %rd5, %r5;\nst.global.u64 [%rd1], %rd5;"
    assert _run(body, np.array([-3], dtype=np.int32), out)[0] == -3


def test_halves_of_a_register() -> None:
    body = """
ld.global.f64 %fd1, [%rd2];
{
.reg .b32 %temp;
mov.b64 {%r5, %temp}, %fd1;
	}
{
.reg .b32 %temp;
mov.b64 {%temp, %r6}, %fd1;
	}
mov.b64 %fd2, {%r6, %r5};
st.global.f64 [%rd1], %fd2;"""
    found = _run(body, np.array([np.pi]), np.zeros(1)).view(np.uint32)
    np.testing.assert_array_equal(found[::-1], np.array([np.pi]).view(np.uint32))


def test_threads_part_and_meet_again() -> None:
    # Each thread counts to its own number; then a shuffle, which all must reach together.
    body = """
mov.u32 %r2, 0;
$loop:
add.s32 %r2, %r2, 1;
setp.lt.s32 %p1, %r2, %r1;
@%p1 bra $loop;
sub.s32 %r3, 31, %r1;
shfl.sync.idx.b32 %r4|%p2, %r2, %r3, 31, -1;
st.global.u32 [%rd1], %r4;"""
    out = np.zeros(32, dtype=np.uint32)
    found = _run(body, np.zeros((32, 1), dtype=np.float32), out)
    np.testing.assert_array_equal(found, np.maximum(np.arange(32)[::-1], 1))


def test_a_shuffle_by_the_bits_in_which_lanes_differ() -> None:
    body = "shfl.sync.bfly.b32 %r4|%p2, %r1, 5, 31, -1;\nst.global.u32 [%rd1], %r4;"
    out = np.zeros(64, dtype=np.uint32)
    found = _run(body, np.zeros((64, 1), dtype=np.float32), out)
    np.testing.assert_array_equal(found, np.arange(64) ^ 5)


_EXCHANGE = """
shl.b32 %r2, %r1, 2;
cvt.u64.u32 %rd5, %r2;
mov.u64 %rd6, cells;
add.s64 %rd5, %rd6, %rd5;
st.shared.u32 [%rd5], %r1;
bar.sync 0;
xor.b32 %r3, %r1, 32;
shl.b32 %r3, %r3, 2;
cvt.u64.u32 %rd7, %r3;
add.s64 %rd7, %rd6, %rd7;
ld.shared.u32 %r4, [%rd7];
st.global.u32 [%rd1], %r4;"""


def _exchange(body: str) -> np.ndarray:
    out = np.zeros(64, dtype=np.uint32)
    return _run(body, np.zeros((64, 1), dtype=np.float32), out)


def test_a_barrier_orders_what_warps_share() -> None:
    np.testing.assert_array_equal(_exchange(_EXCHANGE), np.arange(64) ^ 32)
    with pytest.raises(Fault, match=r"tiny, line \d+: ld.shared.u32 .*: race: thread 0 of block 0"):
        _exchange(_EXCHANGE.replace("bar.sync 0;", ""))


def test_a_barrier_that_some_threads_never_reach() -> None:
    body = "setp.lt.s32 %p1, %r1, 40;\n@%p1 bra $end;\nbar.sync 0;\n$end:"
    with pytest.raises(Fault, match="threads wait for ever"):
        _exchange(body)


def test_writes_of_two_blocks_to_one_place_race() -> None:
    body = "st.global.u32 [%rd1], %r1;"
    out, values = np.zeros(64, dtype=np.uint32), np.zeros((64, 1), dtype=np.float32)
    np.testing.assert_array_equal(_run(body, values, out), np.arange(64))
    with pytest.raises(Fault, match="race: thread 0 of block 0"):
        _run(body, values, out, blocks=2)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("st.global.u32 [%rd1+128], %r1;", r"access at .* bytes into out of 128"),
        ("st.global.u32 [%rd1+-4], %r1;", "access at"),
        ("st.global.u32 [%rd1+2], %r1;", "misaligned"),
        ("mov.u64 %rd5, cells;\nst.shared.u32 [%rd5+256], %r1;", "256 bytes into shared memory"),
        ("ld.shared.u32 %r2, [%rd1];", "outside of shared memory"),
    ],
)
def test_accesses_outside_of_memory(body: str, message: str) -> None:
    out = np.zeros(32, dtype=np.uint32)
    with pytest.raises(Fault, match=message):
        _run(body, np.zeros((32, 1), dtype=np.float32), out)


def test_shared_memory_starts_as_no_number() -> None:
    body = "mov.u64 %rd5, other;\nld.shared.f32 %f1, [%rd5];\nst.global.f32 [%rd1], %f1;"
    assert np.isnan(_run(body, np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.float32)))[0]


@pytest.mark.parametrize(
    "instruction",
    ["lg2.approx.ftz.f32 %f1, %f2", "vote.sync.all.pred %p1, %p2, -1", "add.ftz.f64 %fd1, %fd2, 0",
     "ld.local.f32 %f1, [%rd1]", "call.uni vprintf", "@%p1 add.s32 %r2, %r2, 1",
     "shfl.sync.down.b32 %r2|%p1, %r3, 1, 31, -1", "bar.sync 1", "cvt.rzi.s32.f32 %r2, %f1"],
)  # fmt: skip
def test_what_it_does_not_know_it_refuses(instruction: str) -> None:
    with pytest.raises(Unsupported, match=r"tiny, line 20: |local memory"):
        _run(f"{instruction};", np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.float32))
