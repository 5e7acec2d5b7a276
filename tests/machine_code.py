"""Assembly of plane kernels for processors that are not here, and what its innermost loops do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from widegram.activations import FORMULAS
from widegram.cpu.kernels import compiled, inner_ir, map_ir, object_code, sum_ir
from widegram.cpu.kernels.emitting import emitted
from widegram.cpu.kernels.processors import Processor, machine, optimised
from widegram.cpu.kernels.variants import GAPS, PLUS, SQUARES, WRAPS, Variant

ARM, INTEL = "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"
PROCESSORS = {
    "neoverse-n1": Processor(ARM, "neoverse-n1", ""),
    "neoverse-v1": Processor(ARM, "neoverse-v1", ""),
    "sapphirerapids": Processor(INTEL, "sapphirerapids", "+avx512f,+avx,+fma,+sse4.1"),
    "x86-64-v3": Processor(INTEL, "x86-64-v3", "+avx,+fma,+sse4.1"),
    "x86-64-v2": Processor(INTEL, "x86-64-v2", "+sse4.1"),
}
WINDOWS = ("constant", "tap", *SQUARES, "box", "large")
MOVES = ("copy", "fill", "add", "multiply", "gather", "pool", "reduce", "cast", "count")
# Images with themselves, and nearly parallel ones, are computed in float64, one pair to a lane.
NUMBERS = (("float32", False), ("float64", False), ("float64", True))
# A plan has no step for the identity.
CODES = [code for code in FORMULAS if code != "identity"]


class _Looks(NamedTuple):
    """What must not stand in a loop, as regular expressions; ``branch`` finds loops, ``result`` the
    number of the register that an instruction fills, ``spread`` that it goes to all lanes."""

    branch: str
    scalar: str
    lane: str
    call: str
    result: str
    spread: str


_LOOKS = {
    "aarch64": _Looks(
        branch=r"(?:b(?:\.\w+)?|cbn?z|tbn?z)\s(?:.*\s)?(\.LBB\w+)$",
        scalar=r"(?:f(?!mov)\w+|[su]cvtf)\s+[hsd]\d",
        lane=r"(?:mov|ins)\s+v\d+\.\w\[|[us]?mov\s+[wx]\d+, v\d|ld1\s+\{ ?v\d+\.\w ?\}\[",
        call=r"blr?\s",
        result=r"\w+\s+\w(\d+)",
        spread=r"v{}\.\w\[0\]",
    ),
    "x86_64": _Looks(
        branch=r"j\w+\s+(\.LBB\w+)$",
        scalar=r"v?(?:add|sub|mul|div|sqrt|min|max|round|rndscale|fn?m(?:add|sub)\d+|u?comi)s[sd]\s"
        r"|v?cvt\w*(?:ss2|sd2|2ss|2sd)",
        lane=r"v?(?:insertps|extractps|pinsr\w|pextr\w)\s",
        call=r"call",
        result=r".*%[xyz]mm(\d+)$",
        spread=r"^(?:v?(?:broadcast|movddup|unpcklpd|movlhps)|shufp)\w*\s.*%[xyz]mm{}\b",
    ),
}


@contextmanager
def running_as(processor: Processor) -> Iterator[None]:
    """Inside, kernels are made for a processor whose code this one runs."""
    caches = compiled.written.cache_clear, object_code._machine.cache_clear
    with pytest.MonkeyPatch.context() as patch:
        for module in (compiled, object_code):
            patch.setattr(module, "host", lambda: processor)
        try:
            for clear in caches:
                clear()
            yield
        finally:
            for clear in caches:
                clear()


def assembly(variant: Variant, processor: Processor) -> str:
    """What a kernel becomes on a processor."""
    return assembly_of(*emitted(variant, processor), processor)


def assembly_of(text: str, entry: str, processor: Processor) -> str:
    """The same of an LLVM IR module with its function."""
    return machine(processor).emit_assembly(optimised(text, entry, entry, processor))


def innermost(text: str, processor: Processor) -> list[list[str]]:
    """The instructions of each loop that has no other one in it: what stands from a label to the
    last branch back to it."""
    branch = re.compile(_LOOKS[processor.architecture].branch)
    lines: list[str] = []
    labels: dict[str, int] = {}
    ends: dict[int, int] = {}
    for raw in text.splitlines():
        line = " ".join(re.split(r"\s[#/]", raw.strip(), maxsplit=1)[0].split())
        if line.endswith(":"):
            labels[line[:-1]] = len(lines)
        elif line and not line.startswith("."):
            lines.append(line)
            found = branch.match(line)
            if found and found[1] in labels:
                ends[labels[found[1]]] = len(lines)
    loops = ends.items()
    inner = [(a, b) for a, b in loops if not any(a <= c and d <= b and (a, b) != (c, d)
                                                 for c, d in loops)]  # fmt: skip
    return [lines[a:b] for a, b in inner]


def slow_lines(text: str, processor: Processor) -> list[str]:
    """What an innermost loop does for one lane after another: scalar arithmetic, moving single
    lanes, calls. What is computed once and goes to all lanes is not among it."""
    looks = _LOOKS[processor.architecture]
    bad = re.compile("|".join((looks.scalar, looks.call, looks.lane)))
    return [
        line
        for loop in innermost(text, processor)
        for line in loop
        if bad.match(line) and not (re.match(looks.scalar, line) and _is_spread(line, loop, looks))
    ]


def _is_spread(line: str, loop: list[str], looks: _Looks) -> bool:
    result = re.match(looks.result, line)
    if result is None:
        return False
    spread = re.compile(looks.spread.format(result[1]))
    return any(spread.search(other) for other in loop)


def calls(text: str, processor: Processor) -> set[str]:
    """What the code calls anywhere."""
    call = re.compile(rf"\s*(?:{_LOOKS[processor.architecture].call})\w*\s+(.+)")
    return {found[1] for line in text.splitlines() if (found := call.match(line))}


def every_variant() -> Iterator[Variant]:
    """What the plan of any network can ask for."""
    yield from moving()
    for code in ("none", *CODES):
        yield from arithmetic(code)


def moving() -> Iterator[Variant]:
    """Kernels without an activation or a window, and those of vectors and of maps."""
    for dtype, paired in NUMBERS:
        for ntk in (False, True):
            for kind in (*map_ir.KINDS, *sum_ir.KINDS):
                yield Variant(kind, "none", ntk, paired, dtype)
            for packed in (0, GAPS, WRAPS):
                yield Variant("input", "none", ntk, paired, dtype, packed)
            if paired:
                continue
            for kind in (*MOVES, *inner_ir.KINDS):
                if (kind, dtype) != ("close", "float64") and (kind, ntk) != ("pack", True):
                    yield Variant(kind, "none", ntk, False, dtype)
            for packed in (GAPS, WRAPS):
                yield Variant("inputs", "none", ntk, False, dtype, packed)


def arithmetic(code: str) -> Iterator[Variant]:
    """Kernels with a window or the activation ``code``."""
    plain = code == "none"
    for dtype, paired in NUMBERS:
        for packed in (0, GAPS, WRAPS):
            for ntk, contribution in ((False, False), (True, False), (True, True)):
                for hides in (False,) if plain else (False, True):
                    for kind in _kinds(plain, packed, contribution):
                        yield Variant(kind, code, ntk, paired, dtype, packed, contribution, hides)


def _kinds(plain: bool, packed: int, contribution: bool) -> Iterator[str]:
    """Of kernels with an activation, or ``plain`` without one."""
    yield from WINDOWS
    if not (plain or contribution):
        yield "point"
    if plain and packed:
        yield from (kind + PLUS for kind in WINDOWS if kind != "constant")
