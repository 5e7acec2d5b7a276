"""Option types and options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

import click

from widegram.errors import WidegramError, shown
from widegram.machine.budgets import parse_size
from widegram.validation import bounds
from widegram.validation.choices import DEVICES, KERNELS
from widegram.validation.kernel_names import in_order, listed
from widegram_cli.files import InputFile, OutputFile

_DIGITS = 20  # more than any count has
_LARGEST = 2**63 - 1

Command = TypeVar("Command", bound=Callable[..., Any])
Record = TypeVar("Record")


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


class Size(click.ParamType):
    """A byte budget: ``500MB``, ``2GiB``, ``1.5G``, ``100000000``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes as an int."""
        try:
            return parse_size(value)
        except WidegramError as error:
            self.fail(str(error), param, ctx)


def inputs(ctx: click.Context, param: click.Parameter, value: tuple[Any, ...]) -> Any:
    """The value of an option; a tuple where it is given several times, for a network whose input is
    a list, None where it is not given."""
    return value if len(value) > 1 else next(iter(value), None)


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
        self._positive = positive

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
        if self._positive and not all(0 < number < math.inf for number in numbers):
            self.fail(f"{value!r}: every number must be positive and finite", param, ctx)
        return numbers


Tolerance = click.FloatRange(min=0.0, min_open=True, max=1.0)


def bounded(command: click.Command) -> click.Command:
    """``command`` with every integer option held to 64 bits, as files and arrays keep them."""
    for parameter in command.params:
        kind = parameter.type
        if kind is click.INT:
            parameter.type = _Bounded(min=-_LARGEST, max=_LARGEST)
        elif isinstance(kind, click.IntRange) and kind.max is None:
            parameter.type = _Bounded(kind.min, _LARGEST, kind.min_open)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            bounded(inner)
    return command


def taken(kind: type[Record], given: dict[str, Any]) -> Record:
    """The dataclass ``kind`` of those parameters that are its fields, which leave ``given``."""
    names = [field.name for field in fields(kind) if field.name in given]  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: given.pop(name) for name in names})


def grouped(kind: type[Any], name: str) -> Callable[[Command], Command]:
    """Hand the parameters that are fields of the dataclass ``kind`` to a command as one, ``name``.

    It stands last among the decorators of a command.
    """

    def add(function: Command) -> Command:
        @wraps(function)
        def called(**given: Any) -> Any:
            group = taken(kind, given)
            return function(**{name: group}, **given)

        return cast(Command, called)

    return add


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


def data_option(
    name: str, help: str, *, required: bool = False
) -> Callable[[Command], Command]:
    """An option that names inputs: given once, or once for each input of a list."""
    return click.option(
        name, type=InputFile(), multiple=True, callback=inputs, required=required,
        metavar="DATA", help=help,
    )  # fmt: skip


def out_option(
    metavar: str, help: str, *, required: bool = True
) -> Callable[[Command], Command]:
    """``--out``: the file that a command writes."""
    return click.option(
        "--out", type=OutputFile(), required=required, metavar=metavar, help=help
    )


def get_option(command: Command) -> Command:
    """``--get``: which kernels are computed."""
    return click.option(
        "--get", type=KernelNames(), default="nngp,ntk", show_default=True, help="Kernels."
    )(command)


def depths_option(command: Command) -> Command:
    """``--depths``: where a sweep is read out."""
    return click.option(
        "--depths", type=Depths(), help="Repeats to read out at, such as 1,2,5-10."
    )(command)


def limit_option(command: Command) -> Command:
    """``--limit``: of labels."""
    return click.option(
        "--limit", type=click.IntRange(min=1), help="Only the first N labels of --y."
    )(command)


def threads_option(command: Command) -> Command:
    """``--threads``: of the CPU."""
    return click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads [default: all usable]."
    )(command)


def device_option(command: Command) -> Command:
    """``--device``: where kernels are computed."""
    return click.option(
        "--device",
        metavar=f"{'|'.join(DEVICES)}|cuda:0,1",
        default="auto",
        show_default=True,
        help="Where to compute: the CPU, the first card, or several cards.",
    )(command)


def check_option(command: Command) -> Command:
    """``--check``: of a file that is gone on with."""
    return click.option(
        "--check",
        is_flag=True,
        help="Compare all finished tiles with their checksums, not a sample.",
    )(command)


def kernel_option(command: Command) -> Command:
    """``--kernel``: which kernel of a Gram file."""
    return click.option(
        "--kernel", type=click.Choice(KERNELS), default="ntk", show_default=True, help="Kernel."
    )(command)


def depth_option(command: Command) -> Command:
    """``--depth``: which readout of a Gram file with a depth sweep."""
    return click.option(
        "--depth", type=click.IntRange(min=0), help="Depth, of a file with a depth sweep."
    )(command)


def head_option(command: Command) -> Command:
    """``--head``: which head of a Gram file of a network with Readouts."""
    return click.option("--head", metavar="NAME", help="Head, of a network with Readouts.")(command)


def unit_option(command: Command) -> Command:
    """``--unit-diagonal``: kernels as correlations."""
    return click.option(
        "--unit-diagonal", is_flag=True, help="Scale to K_ij / sqrt(K_ii K_jj)."
    )(command)


def rows_option(what: str) -> Callable[[Command], Command]:
    """``--rows``: which rows, of what the help says."""
    return click.option(
        "--rows",
        type=InputFile(),
        metavar="FILE|a:b",
        help=f"{what}: 0:100, 0:40,80:200, or a file of row numbers or flags.",
    )


def refuse_kernel_of(file: str) -> None:
    """Refuse ``--kernel`` beside an array, which is one kernel."""
    from widegram.linalg.arrayfile import is_array

    source = click.get_current_context().get_parameter_source("kernel")
    if is_array(file) and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError(f"{file} is an array of one kernel; leave --kernel out")


def series_option(command: Command) -> Command:
    """``--accept-series-error``: what an activation's Hermite series may leave out, and what errors
    that are known before a run may add up to."""
    return click.option(
        "--accept-series-error",
        type=click.FloatRange(min=0.0),
        metavar="E",
        help="Accept this relative error: of activations by series [default: 0.001], of all that "
        "is announced [default: 0.1].",
    )(command)


def profile_option(command: Command) -> Command:
    """``--profile``: where the time of a run goes."""
    return click.option(
        "--profile", is_flag=True, help="Say where the time went: computing, waiting, writing."
    )(command)


def overwrite_option(command: Command) -> Command:
    """``--overwrite``: replace an existing output."""
    return click.option("--overwrite", is_flag=True, help="Replace an existing output file.")(
        command
    )


def dask_option(command: Command) -> Command:
    """``--dask``: workers of a scheduler, which share the work."""
    return click.option(
        "--dask",
        type=InputFile(),
        metavar="ADDRESS",
        help="Let Dask's workers compute: tcp://HOST:PORT of a scheduler, a scheduler file, or "
        "local:N for N processes here.",
    )(command)


def mixed_option(command: Command) -> Command:
    """``--mixed-workers``: those of a scheduler may differ."""
    return click.option(
        "--mixed-workers",
        is_flag=True,
        help="Take workers of several kinds together (CPU and GPU, unlike processors), whose last "
        "bits differ.",
    )(command)
