"""``widegram demo``: the main job on the embedded digits, every command shown as it runs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import click

from widegram.errors import WidegramError
from widegram_cli.files import FileCommand, OutputFile

_GRAM = "gram --net cnn-p:depth=3 --x"
# What is done, and the commands that do it in the folder of the demonstration.
_STEPS = (
    (
        "Prepare the embedded digits (8 x 8 images): floating point, standardised",
        ("data prepare digits --train 1000 --test 500 --out digits.h5",),
    ),
    (
        "The network: three circular convolutions with ReLU, global average pooling",
        ("net cnn-p:depth=3 --input-shape 8,8,1",),
    ),
    (
        "NNGP and NTK of the training images with each other, and of test with training images",
        (
            f"{_GRAM} digits.h5:train/x --out train.h5",
            f"{_GRAM} digits.h5:test/x --x2 digits.h5:train/x --out test-train.h5",
        ),
    ),
    (
        "The same command again finds its work done (after a kill it would resume)",
        (f"{_GRAM} digits.h5:train/x --out train.h5",),
    ),
    ("Check the file: every checksum, and some tiles computed again", ("verify train.h5",)),
    (
        "What is in it, and a copy for programs that read .npy",
        ("info train.h5", "export train.h5 --kernel ntk --to ntk.npy"),
    ),
    (
        "Ridge regression with the NTK, its accuracy on the test images, and the spectrum",
        (
            "solve train.h5 --kernel ntk --y digits.h5:train/y --diag-reg 1e-4 --out alpha.h5",
            "predict alpha.h5 --cross test-train.h5 --y digits.h5:test/y --out predicted.h5",
            "eig train.h5 --kernel ntk",
        ),
    ),
)
_PICTURE = " --plot spectrum.png"


@click.command("demo", cls=FileCommand)
@click.argument("folder", type=OutputFile(), metavar="[FOLDER]", default="widegram-demo")
@click.pass_context
def command(ctx: click.Context, folder: str) -> None:
    """Run the main job on the embedded digits, start to finish, in a new FOLDER (widegram-demo).

    Each command is printed before it runs, to be changed and run again. Half a minute, and 30 MB.
    """
    from widegram.durable.outputs import file_system_errors

    place = Path(folder)
    with file_system_errors(place):
        try:
            place.mkdir()
        except FileExistsError as error:
            raise WidegramError(f"{place}: exists; name another folder") from error
    here = os.getcwd()
    os.chdir(place)
    try:
        for number, (done, lines) in enumerate(_STEPS, 1):
            click.echo(f"\n=== {number}. {done}")
            for line in lines:
                _run(ctx, line)
    finally:
        os.chdir(here)
    click.echo(f"\nThe files are in {place}")


def _run(ctx: click.Context, line: str) -> None:
    """Run a command of the program in this process; another exit code than 0 ends this one."""
    from widegram_cli.main import program

    if line.startswith("eig ") and find_spec("matplotlib"):
        line += _PICTURE
    click.echo(f"$ widegram {line}")
    code = program.main(line.split(), standalone_mode=False)
    if code:
        ctx.exit(code)
