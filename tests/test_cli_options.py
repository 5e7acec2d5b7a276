"""Option types and printing helpers of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import numpy as np
import pytest

from widegram_cli.main import program
from widegram_cli.output import emit_json, emit_table, human_time
from widegram_cli.value_types import Depths, KernelNames, Shape, Size


def test_sizes_are_bytes():
    assert Size().convert("500MB", None, None) == 500 * 10**6
    assert Size().convert("2GiB", None, None) == 2**31


@pytest.mark.parametrize("text", ["", "lots", "-1", "5 XB", "1kB"])
def test_bad_sizes(text):
    with pytest.raises(click.BadParameter, match="memory"):
        Size().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "depths"),
    [
        ("3", (3,)),
        ("1,2,5-10", (1, 2, 5, 6, 7, 8, 9, 10)),
        ("4, 2 - 3,2", (2, 3, 4)),
        ("0-0", (0,)),
    ],
)
def test_depths(text, depths):
    assert Depths().convert(text, None, None) == depths


@pytest.mark.parametrize("text", ["", "1,,2", "-3", "a", "1-2-3", "1.5", "9-3"])
def test_bad_depths(text):
    with pytest.raises(click.BadParameter, match=r"depth|backwards"):
        Depths().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "shape"), [("784", (784,)), ("32,32,3", (32, 32, 3)), ("28x28x1", (28, 28, 1))]
)
def test_shapes(text, shape):
    assert Shape().convert(text, None, None) == shape


@pytest.mark.parametrize("text", ["", "8,,3", "8,8,", "-1", "a"])
def test_bad_shapes(text):
    with pytest.raises(click.BadParameter, match="is not a shape"):
        Shape().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "kernels"),
    [("ntk", ("ntk",)), ("ntk,nngp", ("nngp", "ntk")), ("NNGP, nngp", ("nngp",))],
)
def test_kernels(text, kernels):
    assert KernelNames().convert(text, None, None) == kernels


def ranges(command: click.Command, name: str) -> Iterator[tuple[str, click.Parameter]]:
    """Every option of a command, and of those below it, that takes a range of numbers."""
    for parameter in command.params:
        if isinstance(parameter.type, click.FloatRange):
            yield f"{name} {parameter.opts[-1]}", parameter
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from ranges(found, f"{name} {inner}".strip())


def test_no_range_of_numbers_has_nan():
    found = dict(ranges(program, ""))
    assert {"solve --tol", "eig --tol", "tune --holdout", "bench roof --seconds"} <= found.keys()
    for parameter in found.values():
        with pytest.raises(click.BadParameter, match="nan is not in the range"):
            parameter.type.convert("NaN", parameter, None)


def test_json_holds_numpy_values_and_no_nan(capsys):
    emit_json(
        {
            "i": np.int64(3),
            "f": np.float32(0.5),
            "bad": [float("nan"), np.float64("inf")],
            "nested": {1: (True, None, "text")},
        }
    )
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "i": 3,
        "f": 0.5,
        "bad": [None, None],
        "nested": {"1": [True, None, "text"]},
    }


def test_table_aligns_values(capsys):
    emit_table([("a", 1), ("long", "x")])
    assert capsys.readouterr().out == "a     1\nlong  x\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [
        (0.1234, "0.123 s"),
        (59, "59 s"),
        (59.99, "1 min 00 s"),
        (61.4, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (3723, "1 h 02 min"),
        (3929, "1 h 05 min"),
        (86399, "1 d 00 h"),
        (8.7e4, "1 d 00 h"),
        (3.7e8, "4,282 d 10 h"),
    ]
)
def test_human_time(seconds, text):
    assert human_time(seconds) == text


def test_table_breaks_lines_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setattr("widegram_cli.output.columns", lambda: 40)
    emit_table([("method", "cholesky: it fits in memory twice over"), ("n", 3)])
    emit_table([("negative log likelihood", "0.25 of something"), ("to", "/a/very/long/path" * 4)])
    assert capsys.readouterr().out.splitlines() == [
        "method  cholesky: it fits in memory",
        "        twice over",
        "n       3",
        "negative log likelihood",
        "    0.25 of something",
        "to",
        "    " + "/a/very/long/path" * 4,
    ]
