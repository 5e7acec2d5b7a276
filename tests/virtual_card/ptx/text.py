"""PTX text taken apart: one kernel's parameters, shared arrays and instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\((.*?)\)\s*(?:\.\w+[^{]*)?\{(.*?)\n\}", re.DOTALL)
_PARAM = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.[busf](\d+)\s+([\w$]+)(?:\[(\d+)\])?")
_DYNAMIC = re.compile(r"\.extern\s+\.shared\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[\]")
_SHARED = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]")
_REGISTER = re.compile(r"\.reg\s+\.(\w+)\s+(%\w+)")
_LINE = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*(.*)", re.DOTALL)
# Declarations that say nothing about what is computed.
_IGNORED = (".reg", ".loc", ".file", ".pragma", ".maxntid", ".minnctapersm")


class Unsupported(Exception):
    """What this machine cannot do, with the text that asks for it."""


@dataclass(frozen=True)
class Instruction:
    """``guard``: predicate register, '' for none; ``negated``: runs where that is false."""

    name: str
    operands: tuple[str, ...]
    guard: str = ""
    negated: bool = False
    line: int = 0

    def __str__(self) -> str:
        text = f"{self.name} {', '.join(self.operands)}"
        return f"line {self.line}: {text}"


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter: where it lies among the parameters' bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Program:
    """One kernel. ``kinds``: types of registers by the start of their names; ``labels``: positions
    in ``code``; ``shared``: bytes of the shared arrays, -1 where a launch says how many."""

    name: str
    parameters: tuple[Parameter, ...]
    shared: dict[str, int]
    code: tuple[Instruction, ...]
    labels: dict[str, int]
    kinds: dict[str, str]

    def kind(self, register: str) -> str:
        """The type that a register is declared with."""
        found = self.kinds.get(register) or self.kinds.get(register.rstrip("0123456789"))
        if found is None:
            raise Unsupported(f"register {register}")
        return found


def programs(text: str) -> list[Program]:
    """The kernels of a PTX text.

    Raises :class:`Unsupported` for functions, local memory and what else does not occur.
    """
    text = re.sub(r"//[^\n]*", "", text)
    if ".local" in text or ".func" in text:
        raise Unsupported("local memory or functions")
    shared = {name: int(size) for _, name, size in _SHARED.findall(text)}
    shared |= dict.fromkeys(_DYNAMIC.findall(text), -1)
    return [_program(text, match, shared) for match in _ENTRY.finditer(text)]


def _program(text: str, match: re.Match[str], shared: dict[str, int]) -> Program:
    name, parameters, body = match.groups()
    code, labels = _body(text, match)
    kinds = {register: kind for kind, register in _REGISTER.findall(body)}
    return Program(name, _parameters(parameters), _used(shared, body), code, labels, kinds)


def _used(shared: dict[str, int], body: str) -> dict[str, int]:
    return {name: size for name, size in shared.items() if re.search(rf"\b{name}\b", body)}


def _parameters(text: str) -> tuple[Parameter, ...]:
    found, offset = [], 0
    for bits, name, count in _PARAM.findall(text):
        size = _SIZES[bits] * int(count or 1)
        offset = -(-offset // _SIZES[bits]) * _SIZES[bits]
        found.append(Parameter(name, offset, size))
        offset += size
    return tuple(found)


def _body(text: str, match: re.Match[str]) -> tuple[tuple[Instruction, ...], dict[str, int]]:
    """Instructions and labels of a kernel; lines are counted from the top of the text."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    line = text[: match.start(3)].count("\n") + 1
    for part in re.split(r"(?<=[;:])", match[3]):
        # Braces around a few instructions declare registers of their own, whose names differ.
        rest = part.lstrip("{} \t\n")
        here = line + part[: len(part) - len(rest)].count("\n")
        line += part.count("\n")
        part = rest.strip()
        if part.endswith(":"):
            labels[part[:-1]] = len(code)
        elif part.endswith(";") and not part.startswith(_IGNORED):
            code += _instructions(part[:-1], here)
    if not code or code[-1].name not in ("ret", "bra", "bra.uni"):
        raise Unsupported("a kernel that does not end")
    return tuple(code), labels


def _instructions(text: str, line: int) -> list[Instruction]:
    """One instruction; a load of a vector as a check of its address and loads of its numbers."""
    found = re.fullmatch(
        r"(ld\.shared)\.v(\d)\.([bf])(\d+)\s*\{(.*)\},\s*\[([\w$%]+)\+?(\d*)\]", text, re.DOTALL
    )
    if found is None:
        return [_instruction(text, line)]
    name, count, kind, bits, targets, base, offset = found.groups()
    size, first = _SIZES[bits], int(offset or 0)
    check = Instruction("aligned", (base, str(first), str(int(count) * size)), line=line)
    names = [target.strip() for target in targets.split(",")]
    return [check] + [
        Instruction(f"{name}.{kind}{bits}", (target, f"[{base}+{first + n * size}]"), line=line)
        for n, target in enumerate(names)
    ]


def _instruction(text: str, line: int) -> Instruction:
    found = _LINE.fullmatch(text)
    if found is None:
        raise Unsupported(f"line {line}: {text}")
    negated, guard, name, rest = found.groups()
    if "{" in rest:
        # Two halves of a register: instructions of our own names.
        if name != "mov.b64":
            raise Unsupported(f"line {line}: {text}")
        name = "unpack" if rest.startswith("{") else "pack"
        rest = rest.replace("{", "").replace("}", "")
    # A destination with a predicate beside it, as shuffles have, is two operands.
    operands = [o.strip() for part in rest.split(",") for o in part.split("|")]
    return Instruction(name, tuple(o for o in operands if o), guard or "", bool(negated), line)
