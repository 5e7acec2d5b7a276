"""Option types and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from widegram.errors import WidegramError
from widegram.memory import parse_size

Command = TypeVar("Command", bound=Callable[..., Any])


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
            first = int(match[1])
            last = int(match[2] or first)
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
        return tuple(int(size) for size in re.split("[,x]", value))


class Kernels(click.ParamType):
    """A choice of kernels: ``nngp``, ``ntk`` or ``nngp,ntk``."""

    name = "KERNELS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The kernels asked for, in the order nngp, ntk."""
        if isinstance(value, tuple):
            return value
        asked = [part.strip().lower() for part in value.split(",")]
        for name in asked:
            if name not in ("nngp", "ntk"):
                self.fail(f"{name!r} is not a kernel; choose from nngp, ntk", param, ctx)
        return tuple(name for name in ("nngp", "ntk") if name in asked)


Tolerance = click.FloatRange(min=0.0, min_open=True, max=1.0)


def json_option(command: Command) -> Command:
    """``--json``: one JSON object on stdout and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def memory_option(command: Command) -> Command:
    """``--memory``: the byte budget of the command."""
    return click.option(
        "--memory",
        type=Size(),
        help="Memory to use, such as 500MB [default: a quarter of what is free].",
    )(command)


def series_option(command: Command) -> Command:
    """``--accept-series-error``: what an activation's Hermite series may leave out."""
    return click.option(
        "--accept-series-error",
        type=click.FloatRange(min=0.0),
        metavar="E",
        help="Accept this relative error of activations by Hermite series [default: 0.001].",
    )(command)


def overwrite_option(command: Command) -> Command:
    """``--overwrite``: replace an existing output."""
    return click.option("--overwrite", is_flag=True, help="Replace an existing output file.")(
        command
    )
