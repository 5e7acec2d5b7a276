"""Each PTX instruction as a function that runs it on the active threads of a wave."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virtual_card.ptx.memory import Fault
from virtual_card.ptx.numbers import Approximate
from virtual_card.ptx.semantics import KINDS, meaning
from virtual_card.ptx.text import Instruction, Program, Unsupported

Array = NDArray[Any]
# The wave (of virtual_card.ptx.machine) is untyped here: the two modules would import each other.
Step = Callable[[Any], None]
Fetch = Callable[[Any], Array]
_U32, _U64, _BOOL = KINDS["u32"], KINDS["u64"], KINDS["pred"]
_ADDRESS = re.compile(r"\[(%?[\w$]+)(?:\+(-?\d+))?\]")
_WARP = 32
_FULL = 0xFFFFFFFF


@dataclass(frozen=True)
class Branch:
    """Where a branch goes, None for the kernel's end; the register that guards it, if any."""

    target: int | None
    guard: int | None
    negated: bool


@dataclass(frozen=True)
class Decoded:
    """A kernel ready to run. ``kinds``: types of the registers; ``ends``: where the instructions
    from each position on stop running one after the other; ``waits``: 'block' or 'warp' at barriers
    and shuffles."""

    kinds: list[np.dtype[Any]]
    steps: list[Step]
    ends: list[int]
    branches: dict[int, Branch]
    waits: dict[int, str]


def decode(program: Program, approximate: Approximate) -> Decoded:
    """Raises :class:`Unsupported` with the instruction that this machine does not have."""
    return _Decoder(program, approximate).decoded()


class _Decoder:
    def __init__(self, program: Program, approximate: Approximate) -> None:
        self.program, self.approximate = program, approximate
        self.registers: dict[str, int] = {}
        self.parameters = {p.name: p for p in program.parameters}
        self.branches: dict[int, Branch] = {}
        self.waits: dict[int, str] = {}

    def decoded(self) -> Decoded:
        steps = []
        for position, instruction in enumerate(self.program.code):
            try:
                steps.append(self._step(position, instruction))
            except Unsupported as error:
                raise Unsupported(f"{self.program.name[:60]}, {instruction}: {error}") from None
        kinds = [self._kind(name) for name in self.registers]
        return Decoded(kinds, steps, self._ends(), self.branches, self.waits)

    def _kind(self, register: str) -> np.dtype[Any]:
        """A register's declared type."""
        kind = KINDS.get(self.program.kind(register))
        if kind is None:
            raise Unsupported(f"register {register}")
        return kind

    def _ends(self) -> list[int]:
        """A run of instructions stops at a branch, before a label, and before a wait."""
        count = len(self.program.code)
        stops = set(self.program.labels.values()) | set(self.waits) | {count}
        ends = [0] * (count + 1)
        for position in reversed(range(count)):
            if position in self.branches:
                ends[position] = position
            elif position + 1 in stops:
                ends[position] = position + 1
            else:
                ends[position] = ends[position + 1]
        return ends

    def _register(self, name: str) -> int:
        if not name.startswith("%"):
            raise Unsupported(f"{name} is no register")
        return self.registers.setdefault(name, len(self.registers))

    def _step(self, position: int, instruction: Instruction) -> Step:
        name, operands = instruction.name, instruction.operands
        base = name.split(".")[0]
        if base in ("bra", "ret"):
            target = self.program.labels[operands[0]] if base == "bra" else None
            guard = self._register(instruction.guard) if instruction.guard else None
            if base == "ret" and guard is not None:
                raise Unsupported("a guarded return")
            self.branches[position] = Branch(target, guard, instruction.negated)
            return _nothing
        if instruction.guard:
            raise Unsupported("a guard")
        if base == "bar":
            return self._barrier(position, name, operands)
        if base == "shfl":
            return self._shuffle(position, name, operands)
        if base == "aligned":
            return self._aligned(operands)
        if base in ("ld", "st"):
            return self._access(name, operands)
        if base in ("pack", "unpack"):
            return self._halves(base, operands)
        if name == "cvta.to.global.u64":
            name = "mov.u64"
        return self._compute(name, operands)

    def _compute(self, name: str, operands: tuple[str, ...]) -> Step:
        found = meaning(name, self.approximate)
        if len(operands) != 1 + len(found.takes):
            raise Unsupported("another number of operands")
        target = self._register(operands[0])
        function, gives = found.function, found.gives
        fetches = [
            self._operand(o, kind) for o, kind in zip(operands[1:], found.takes, strict=True)
        ]

        def step(wave: Any) -> None:
            values = function(*[fetch(wave) for fetch in fetches])
            wave.keep(target, values if values.dtype == gives else values.astype(gives))

        return step

    def _halves(self, name: str, operands: tuple[str, ...]) -> Step:
        """mov.b64 from or to two registers, the lower half first."""
        count = np.uint64(32)
        if name == "pack":
            target = self._register(operands[0])
            low, high = (self._operand(o, _U32) for o in operands[1:])

            def pack(wave: Any) -> None:
                wave.keep(target, high(wave).astype(_U64) << count | low(wave))

            return pack
        targets = [self._register(o) for o in operands[:2]]
        whole = self._operand(operands[2], _U64)

        def unpack(wave: Any) -> None:
            value = whole(wave)
            for target, half in zip(targets, (value, value >> count), strict=True):
                wave.keep(target, half.astype(_U32))

        return unpack

    def _operand(self, text: str, kind: np.dtype[Any]) -> Fetch:
        """A register, a constant, an index or the address of a shared array, as a type."""
        if re.fullmatch(r"%n?(tid|ctaid)\.[xy]", text):
            return lambda wave: wave.pick(wave.index[text]).view(kind)
        if text == "%dynamic_smem_size":
            return lambda wave: np.array([wave.launch.dynamic], dtype=kind)
        if text.startswith("%"):
            return self._read(text, kind)
        if text in self.program.shared:
            return lambda wave: np.array([wave.shared.addresses[text]], dtype=kind)
        constant = _constant(text, kind)
        return lambda wave: constant

    def _read(self, name: str, kind: np.dtype[Any]) -> Fetch:
        """A register as a type; of a wider register the lower bits."""
        register, whole = self._register(name), self._kind(name)
        if whole.itemsize < kind.itemsize or (whole == _BOOL) != (kind == _BOOL):
            raise Unsupported(f"{name} as {kind}")
        bits = np.dtype(f"u{kind.itemsize}")
        wide = np.dtype(f"u{whole.itemsize}")

        def fetch(wave: Any) -> Array:
            values: Array = wave.fetch(register)
            if whole.itemsize > kind.itemsize:
                values = values.view(wide).astype(bits)
            return values if values.dtype == kind else values.view(kind)

        return fetch

    def _barrier(self, position: int, name: str, operands: tuple[str, ...]) -> Step:
        if name not in ("bar.sync", "barrier.sync") or operands != ("0",):
            raise Unsupported("another barrier")
        self.waits[position] = "block"

        def step(wave: Any) -> None:
            if wave.active is None:
                wave.epoch += 1
            else:
                wave.epoch[wave.active] += 1

        return step

    def _shuffle(self, position: int, name: str, operands: tuple[str, ...]) -> Step:
        """shfl.sync of whole warps: the value of the lane that a lane names (idx), or that differs
        from it in the bits it names (bfly)."""
        if name not in ("shfl.sync.idx.b32", "shfl.sync.bfly.b32"):
            raise Unsupported("another shuffle")
        self.waits[position] = "warp"
        outside = self._register(operands[1]) if len(operands) == 6 else None
        target = self._register(operands[0])
        value, lane, control, members = (self._operand(o, _U32) for o in operands[-4:])

        def step(wave: Any) -> None:
            if (members(wave) != _FULL).any() or (control(wave) != _WARP - 1).any():
                raise Fault("a shuffle of a part of a warp")
            sent = value(wave)
            whole = np.zeros(wave.total, dtype=_U32)
            threads = np.arange(wave.total) if wave.active is None else wave.active
            whole[threads] = sent
            named, own = lane(wave) & np.uint32(_WARP - 1), wave.lanes[threads]
            source = threads - own + (own ^ named if "bfly" in name else named)
            inside = source < wave.total
            inside[inside] = wave.warps[source[inside]] == wave.warps[threads[inside]]
            if not inside.all() or not wave.alive[source].all():
                raise Fault("a shuffle reads a lane that is not there")
            wave.keep(target, whole[source])
            if outside is not None:
                wave.keep(outside, np.ones(len(threads), dtype=_BOOL))

        return step

    def _access(self, name: str, operands: tuple[str, ...]) -> Step:
        base, space, *rest = name.split(".")
        kind = KINDS.get(rest[0]) if len(rest) == 1 else None
        if kind is None or space not in ("param", "global", "shared"):
            raise Unsupported("another access to memory")
        address = _ADDRESS.fullmatch(operands[0 if base == "st" else 1])
        if address is None:
            raise Unsupported("another address")
        offset = int(address[2] or 0)
        if space == "param":
            return self._parameter(operands[0], address[1], offset, kind)
        where = self._address(address[1], offset)
        if base == "ld":
            return _load(space, kind, self._register(operands[0]), self._kind(operands[0]), where)
        return _store(space, kind, self._operand(operands[1], kind), where)

    def _aligned(self, operands: tuple[str, ...]) -> Step:
        """Nothing; an error where an address is no multiple of a size."""
        where, size = self._address(operands[0], int(operands[1])), np.uint64(operands[2])

        def step(wave: Any) -> None:
            if (where(wave) % size).any():
                raise Fault(f"misaligned access of {size} bytes")

        return step

    def _address(self, text: str, offset: int) -> Fetch:
        base, added = self._operand(text, _U64), np.uint64(offset % 2**64)

        def fetch(wave: Any) -> Array:
            found = base(wave) + added
            count = wave.total if wave.active is None else len(wave.active)
            return np.repeat(found, count) if len(found) != count else found

        return fetch

    def _parameter(self, target: str, name: str, offset: int, kind: np.dtype[Any]) -> Step:
        register, place = self._register(target), self.parameters[name].offset + offset

        def step(wave: Any) -> None:
            wave.keep(register, np.frombuffer(wave.launch.parameters, kind, 1, place).copy())

        return step


def _nothing(wave: Any) -> None:
    """What a branch does besides branching."""


def _who(wave: Any) -> tuple[Any, ...]:
    return wave.pick(wave.who), wave.pick(wave.epoch), wave.size


def _load(
    space: str, kind: np.dtype[Any], register: int, whole: np.dtype[Any], where: Fetch
) -> Step:
    """A load; into a wider register with the sign or zeros in front."""
    widened = np.dtype(f"{kind.kind}{whole.itemsize}")

    def step(wave: Any) -> None:
        if space == "global":
            values = wave.memory.load(kind, where(wave), *_who(wave))
        else:
            slots = wave.pick(wave.slots)
            values = wave.shared.load(kind, where(wave), *_who(wave), slots)
        wave.keep(register, values if kind.itemsize == whole.itemsize else values.astype(widened))

    return step


def _store(space: str, kind: np.dtype[Any], value: Fetch, where: Fetch) -> Step:
    def step(wave: Any) -> None:
        addresses, values = where(wave), value(wave)
        values = np.broadcast_to(values, addresses.shape)
        if space == "global":
            wave.memory.store(kind, addresses, values, *_who(wave))
        else:
            slots = wave.pick(wave.slots)
            wave.shared.store(kind, addresses, values, *_who(wave), slots)

    return step


def _constant(text: str, kind: np.dtype[Any]) -> Array:
    """A constant: 0f and 0d are bits of floating-point numbers."""
    if text.startswith("0f"):
        return np.array([struct.unpack(">f", bytes.fromhex(text[2:]))[0]], dtype=np.float32)
    if text.startswith("0d"):
        return np.array([struct.unpack(">d", bytes.fromhex(text[2:]))[0]], dtype=np.float64)
    if kind == _BOOL and text in ("0", "1", "-1"):
        return np.array([text != "0"])
    if kind == _BOOL or not re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", text):
        raise Unsupported(f"operand {text}")
    return np.array([int(text, 0) % 2 ** (8 * kind.itemsize)], dtype=f"u{kind.itemsize}").view(kind)
