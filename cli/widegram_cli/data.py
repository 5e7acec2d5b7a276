"""``widegram data``: preparing raw data sets, drawing rows, looking into data files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from widegram.validation.choices import NORMALIZATIONS
from widegram_cli.datafile import print_contents, shape_text
from widegram_cli.files import FileGroup, InputFile
from widegram_cli.options import Command, json_option, memory_option, out_option, overwrite_option
from widegram_cli.output import emit_json, emit_table

_MOST_CLASSES = 20


def labels_option(command: Command) -> Command:
    """``--labels``: of inputs whose file does not hold them."""
    return click.option(
        "--labels",
        type=InputFile(),
        metavar="DATA",
        help="Labels of an array file that does not hold them.",
    )(command)


class ColumnName(click.ParamType):
    """The name of a column of a table."""

    name = "column"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is; the command looks for it."""
        return str(value)


def unseen_option(command: Command) -> Command:
    """``--accept-unseen``: of categories of tables."""
    return click.option(
        "--accept-unseen",
        is_flag=True,
        help="Give texts that no training row of a table holds zeros, and say so.",
    )(command)


@click.group("data", cls=FileGroup)
def command() -> None:
    """Prepare data sets, draw rows of them, look into data files."""


@command.command("prepare")
@click.argument("source", type=InputFile())
@out_option("DATA.h5", "The HDF5 file to write.")
@click.option("--train", type=click.IntRange(min=1), help="Training inputs to draw [default: all].")
@click.option("--test", type=click.IntRange(min=0), help="Test inputs to draw [default: all].")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZATIONS),
    default="standardize",
    show_default=True,
    help="How to scale inputs; statistics are those of the training inputs.",
)
@click.option(
    "--zca",
    type=float,
    metavar="EPS",
    help="Whiten what --normalize made; EPS times the mean eigenvalue is added to eigenvalues.",
)
@click.option(
    "--balanced", is_flag=True, help="As many training inputs of each class as of any other."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of draws.")
@click.option("--target", type=ColumnName(), help="The column of labels, of a table.")
@click.option(
    "--category",
    type=ColumnName(),
    multiple=True,
    help="A column of a table whose numbers are categories; as often as needed.",
)
@click.option(
    "--drop", type=ColumnName(), multiple=True, help="A column of a table to leave out; as often."
)
@unseen_option
@labels_option
@memory_option
@overwrite_option
@json_option
def prepare_command(source: str, out: str, as_json: bool, **options: Any) -> None:
    """Write /train/x, /train/y, /test/x and /test/y of SOURCE.

    SOURCE is `digits` (8x8 images, embedded), a file or directory of IDX files (MNIST,
    Fashion-MNIST; .gz or not), a CIFAR-10 or CIFAR-100 directory (binary or python version; of
    CIFAR-100 the fine labels), .npy, .npz, .h5 or .mat with labels, or a table (.csv, .tsv,
    .parquet), whose columns of texts become a column for each text of the training rows.
    /statistics has what `data apply` does to other inputs.
    """
    from widegram.data import prepare

    prepared = prepare(source, out, **options)
    if _told(prepared, as_json):
        return
    test_line = "none" if prepared.test_shape is None else shape_text(prepared.test_shape)
    emit_table(
        [
            ("written", prepared.out),
            ("train/x", shape_text(prepared.train_shape)),
            ("test/x", test_line),
            ("labels", "yes" if prepared.labels else "none found"),
            *([("classes", _counted(prepared.classes))] if prepared.classes else []),
            ("normalize", prepared.normalize),
            *([("columns", prepared.columns)] if prepared.columns else []),
            ("treatment", prepared.treatment),
        ]
    )


@command.command("apply")
@click.argument("statistics", type=InputFile(), metavar="STATS.h5")
@click.argument("source", type=InputFile(), metavar="NEW")
@out_option("D.h5", "The HDF5 file to write.")
@unseen_option
@labels_option
@memory_option
@overwrite_option
@json_option
def apply_command(statistics: str, source: str, out: str, as_json: bool, **options: Any) -> None:
    """Do to all inputs of NEW what was done to the training inputs of STATS.h5.

    STATS.h5 is a file of `data prepare`, NEW anything that it takes. Writes /x, and /y where there
    are labels; of a NEW with a test split of its own /train/x, /train/y, /test/x and /test/y.
    """
    from widegram.data import apply

    applied = apply(statistics, source, out, **options)
    if _told(applied, as_json):
        return
    emit_table(
        [
            ("written", applied.out),
            *((name, shape_text(shape)) for name, shape in applied.shapes.items()),
            ("labels", "yes" if applied.labels else "none found"),
            ("treatment", applied.treatment),
        ]
    )


def _told(made: Any, as_json: bool) -> bool:
    """Print the note of a record, and the record where JSON is asked for."""
    if made.note:
        click.echo(f"widegram: note: {made.note}", err=True)
    if as_json:
        _emit(made)
    return as_json


def _emit(made: Any) -> None:
    """Print a record as JSON, the file that was written as ``file``."""
    found = dataclasses.asdict(made)
    emit_json({"file": found.pop("out"), **found})


def _counted(classes: Mapping[Any, int]) -> str:
    """``0: 142, 1: 145, ...``."""
    shown = [f"{label}: {rows}" for label, rows in list(classes.items())[:_MOST_CLASSES]]
    return ", ".join([*shown, *(["..."] if len(classes) > len(shown) else [])])


@command.command("sample")
@click.argument("data", type=InputFile())
@click.option("--n", type=click.IntRange(min=1), required=True, help="Rows to draw.")
@out_option("C.h5", "The HDF5 file to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of it.")
@click.option(
    "--labels",
    type=InputFile(),
    metavar="LABELS",
    help="Labels of DATA [default: those beside it, such as train/y of train/x].",
)
@memory_option
@overwrite_option
@json_option
def sample_command(data: str, out: str, as_json: bool, **options: Any) -> None:
    """Draw rows of DATA, such as the centers of `solve --method nystrom`, and write them as /x.

    DATA is what `gram --x` takes, and so is C.h5:x. /index has the rows' numbers, /y their labels.
    Of labels that are classes every one is drawn equally often, as far as it has rows.
    """
    from widegram.data import sample

    drawn = sample(data, out, **options)
    if as_json:
        _emit(drawn)
        return
    emit_table(
        [
            ("written", f"{drawn.out}:x"),
            ("shape", shape_text(drawn.shape)),
            ("rows of each class", _counted(drawn.classes) or "drawn without regard to classes"),
        ]
    )


@command.command("info")
@click.argument("file", type=InputFile())
@json_option
def info_command(file: str, as_json: bool) -> None:
    """List the arrays of FILE (.npy, .npz or .h5) with their shapes."""
    print_contents(file, as_json)
