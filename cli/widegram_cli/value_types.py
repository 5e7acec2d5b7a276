"""What options take: sizes, shapes, depths, lists of numbers, times, and how far integers go."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar

import click

from widegram.errors import WidegramError, shown
from widegram.machine.budgets import parse_size
from widegram.validation import bounds
from widegram.validation.choices import KERNELS
from widegram.validation.kernel_names import in_order, listed

_DIGITS = 20  # more than any count has
_LARGEST = 2**63 - 1


class _Bounded(click.IntRange):
    """Integers that a 64-bit word holds; the help names the lower bound alone."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        digits = isinstance(value, str) and re.fullmatch(r"\s*[+-]?(\d+)\s*", value)
        if digits and (len(digits[1]) > _DIGITS or int(digits[1]) > _LARGEST):
            self.fail(f"{shown(value)} is beyond 2^63 - 1", param, ctx)
        return super().convert(value, param, ctx)

    def _describe_range(self) -> str:
        if self.max != _LARGEST:
            return super()._describe_range()
        return "" if self.min == -_LARGEST else f"x{'>' if self.min_open else '>='}{self.min}"


class _Ordered(click.FloatRange):
    """Numbers in a range, which NaN is not, though no bound is above or below it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{found} is not in the range {self._describe_range()}.", param, ctx)
        return found


class Size(click.ParamType):
    """A byte budget: ``500MB``, ``2GiB``, ``1.5G``, ``100000000``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes as an int."""
        try:
            return parse_size(value)
        except WidegramError as error:
            self.fail(str(error), param, ctx)


class Depths(click.ParamType):
    """Numbers and ranges, both ends included: ``1,2,5-10``."""

    name = "DEPTHS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The depths in ascending order, each once."""
        if isinstance(value, tuple):
            return value
        depths: set[int] = set()
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
            if match is None:
                self.fail(f"{part.strip()!r} is not a depth or range; give 1,2,5-10", param, ctx)
            if max(len(match[1]), len(match[2] or "")) > _DIGITS:
                self.fail(f"a depth is at most {bounds.LAYERS:,}", param, ctx)
            first = int(match[1])
            last = int(match[2] or first)
            if max(first, last) > bounds.LAYERS:
                self.fail(f"a depth is at most {bounds.LAYERS:,}, found {part}", param, ctx)
            if last < first:
                self.fail(f"the range {part.strip()} runs backwards", param, ctx)
            depths.update(range(first, last + 1))
        return tuple(sorted(depths))


class Shape(click.ParamType):
    """A shape: ``32,32,3`` or ``784``."""

    name = "SHAPE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The sizes as a tuple."""
        if isinstance(value, tuple):
            return value
        if re.fullmatch(r"\s*\d+\s*([,x]\s*\d+\s*)*", value) is None:
            self.fail(f"{value!r} is not a shape such as 32,32,3 or 784", param, ctx)
        if any(len(size.strip()) > _DIGITS for size in re.split("[,x]", value)):
            self.fail(f"a size in {value!r} has too many digits", param, ctx)
        return tuple(int(size) for size in re.split("[,x]", value))


class KernelNames(click.ParamType):
    """A choice of kernels: ``nngp``, ``ntk`` or ``nngp,ntk``."""

    name = "KERNELS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The kernels asked for, in the order nngp, ntk."""
        if isinstance(value, tuple):
            return value
        asked = listed(value)
        for name in asked:
            if name not in KERNELS:
                known = ", ".join(KERNELS)
                self.fail(f"{name!r} is not a kernel; choose from {known}", param, ctx)
        return in_order(asked)


class Duration(click.ParamType):
    """A time: ``90s``, ``30min``, ``8h``, ``2d``."""

    name = "TIME"
    _SECONDS: ClassVar = {"s": 1, "min": 60, "h": 3600, "d": 86400}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|min|h|d)\s*", value)
        if match is None or not float(match[1]):
            self.fail(f"{shown(value)} is not a time such as 90s, 30min, 8h or 2d", param, ctx)
        return float(match[1]) * self._SECONDS[match[2]]


class ShardNumber(click.ParamType):
    """A share of a matrix: ``3/8``."""

    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The :class:`widegram.sharding.Shard`."""
        from widegram.sharding import parse_shard

        try:
            return parse_shard(value)
        except WidegramError as error:
            self.fail(str(error), param, ctx)


class Floats(click.ParamType):
    """Numbers separated by commas: ``1e-4,1e-3``, at most ``bounds.PATH``; with ``positive`` each
    above 0 and finite."""

    name = "R1,R2,..."

    def __init__(self, positive: bool = False) -> None:
        self.positive = positive

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers as a tuple."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if len(parts) > bounds.PATH:
            self.fail(f"{len(parts):,} values, at most {bounds.PATH:,} are taken", param, ctx)
        try:
            numbers = tuple(float(part) for part in parts)
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1e-4,1e-3", param, ctx)
        if self.positive and not all(0 < number < math.inf for number in numbers):
            self.fail(f"{value!r}: every number must be positive and finite", param, ctx)
        return numbers


Tolerance = click.FloatRange(min=0.0, min_open=True, max=1.0)


def bounded(command: click.Command) -> click.Command:
    """``command`` with every integer option held to 64 bits, as files and arrays keep them, and
    ranges of numbers without NaN."""
    for parameter in command.params:
        kind = parameter.type
        if kind is click.INT:
            parameter.type = _Bounded(min=-_LARGEST, max=_LARGEST)
        elif isinstance(kind, click.IntRange) and kind.max is None:
            parameter.type = _Bounded(kind.min, _LARGEST, kind.min_open)
        elif isinstance(kind, click.FloatRange):
            parameter.type = _Ordered(kind.min, kind.max, kind.min_open, kind.max_open)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            bounded(inner)
    return command
