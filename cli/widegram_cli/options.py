"""Options that several commands share, and groups of a command's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, cast

import click

from widegram.validation.choices import DEVICES, KERNELS
from widegram_cli.files import InputFile, OutputFile
from widegram_cli.serving import Serving, is_given
from widegram_cli.value_types import Depths, KernelNames, Size

Command = TypeVar("Command", bound=Callable[..., Any])
Record = TypeVar("Record")


def inputs(ctx: click.Context, param: click.Parameter, value: tuple[Any, ...]) -> Any:
    """The value of an option; a tuple where it is given several times, for a network whose input is
    a list, None where it is not given."""
    return value if len(value) > 1 else next(iter(value), None)


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
    name: str, help: str, *, required: bool = False, **beside: tuple[str, ...]
) -> Callable[[Command], Command]:
    """An option that names inputs: given once, or once for each input of a list; what it counts
    ``beside`` as in :class:`Serving`."""
    return click.option(
        name, cls=Serving, type=InputFile(), multiple=True, callback=inputs, required=required,
        metavar="DATA", help=help, **beside,
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
        "--limit", cls=Serving, serves=("--y",), type=click.IntRange(min=1),
        help="Only the first N labels of --y.",
    )(command)  # fmt: skip


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
        cls=Serving,
        idle=("--overwrite",),
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

    if is_array(file) and is_given(click.get_current_context(), "kernel"):
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


def overwrite_of(*outputs: str) -> Callable[[Command], Command]:
    """``--overwrite`` of a command that need not write any of these."""
    return click.option(
        "--overwrite", cls=Serving, serves=outputs, is_flag=True, help="Replace existing outputs."
    )


def dask_option(
    *idle: str, unless: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """``--dask``: workers of a scheduler, which share the work; ``idle`` and ``unless`` as in
    :class:`Serving`."""
    return click.option(
        "--dask",
        cls=Serving,
        idle=idle,
        unless=unless,
        type=InputFile(),
        metavar="ADDRESS",
        help="Let Dask's workers compute: tcp://HOST:PORT of a scheduler, a scheduler file, or "
        "local:N for N processes here.",
    )


def mixed_option(command: Command) -> Command:
    """``--mixed-workers``: those of a scheduler may differ."""
    return click.option(
        "--mixed-workers",
        cls=Serving,
        serves=("--dask",),
        is_flag=True,
        help="Take workers of several kinds together (CPU and GPU, unlike processors), whose last "
        "bits differ.",
    )(command)
