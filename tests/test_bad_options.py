"""Every option of the whole command line: bad values, and what has no effect beside the others.

The walk over files, outputs and effects is `campaigns/walk.py`; what follows needs no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from campaigns import good_values, hostile_words, walk
from cli_support import refused, run
from widegram.validation.choices import SOLVE_METHODS
from widegram_cli.files import InputFile, OutputFile
from widegram_cli.main import program
from widegram_cli.serving import Serving

COMMANDS = dict(hostile_words.commands(program))
# Kinds whose values are judged before anything is opened.
PARSED = {
    "int", "float", "size", "depths", "shape", "kernels", "choice", "floats", "floats above 0",
    "duration", "shard", "picture",
}  # fmt: skip
def options(command: click.Command) -> Iterator[click.Parameter]:
    """Parameters that have a value."""
    for parameter in command.params:
        if not getattr(parameter, "is_flag", False):
            yield parameter


def serving() -> list[tuple[str, Serving]]:
    """Options that count only beside others, with their command."""
    found = []
    for name, command in COMMANDS.items():
        required = {option for one in command.params if one.required for option in one.opts}
        for one in command.params:
            if isinstance(one, Serving) and required.isdisjoint(one.serves):
                found += [(name, one)] if one.serves or one.idle else []
    return found


def words_of(name: str, option: str) -> list[str]:
    """An option with a good value."""
    value = good_values.good_value(name, option)
    return [option] if value is None else [option, value]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_place_in_the_walk(name: str) -> None:
    """A new command needs good calls, a new option a good value, and a kind of bad ones."""
    assert good_values.LINES[name]
    for parameter in COMMANDS[name].params:
        option = parameter.opts[0]
        if option.startswith("-") and option not in good_values.NEUTRAL:
            flag = getattr(parameter, "is_flag", False)
            assert (good_values.good_value(name, option) is None) is flag
    for parameter in options(COMMANDS[name]):
        assert hostile_words.NEVER[hostile_words.kind_of(parameter)], parameter.opts[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_values_are_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    for parameter in options(COMMANDS[name]):
        kind, named = hostile_words.kind_of(parameter), parameter.type
        bad = [] if kind not in PARSED else [*hostile_words.NEVER[kind][:5], *walk.ends(parameter)]
        if named is click.FLOAT:
            bad.remove("nan")  # a number for Click; the library refuses it
        if isinstance(named, InputFile | OutputFile):
            bad.append("")
        line = good_values.LINES[name][0].split()
        for value in bad:
            words = hostile_words.replaced(COMMANDS[name], line, parameter, value)
            message = refused("", *name.split(), *words)
            assert walk.is_named(message, parameter, value), (words, message)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "option"), serving(), ids=lambda one: one if isinstance(one, str) else one.opts[0]
)
def test_an_option_beside_nothing_that_it_serves_is_refused(name: str, option: Serving) -> None:
    line = good_values.LINES[name][0].split()
    given = words_of(name, option.opts[0])
    if option.serves:
        message = f"{option.opts[0]} serves {option.serves[0]}.*given"
        refused(message, *name.split(), *without(line, option), *given)
    for word in option.idle:
        message = f"{option.opts[0]} has no effect with {word}; leave one of them out"
        refused(message, *name.split(), *line, *given, *word.split())


def without(line: list[str], option: Serving) -> list[str]:
    """A call without what an option serves, and with another value where the default is that."""
    for word in option.serves:
        name = word.split()[0]
        if name in line:
            at = line.index(name)
            line = line[:at] + line[at + 2 :]
    if "--method auto" not in option.serves:
        return line
    others = (one for one in SOLVE_METHODS if f"--method {one}" not in option.serves)
    return [*line, "--method", next(others)]


def test_what_auto_left_unused_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("K.npy", np.eye(12) + 1.0)
    np.save("y.npy", np.arange(12) % 3)
    given = ["solve", "K.npy", "--y", "y.npy", "--diag-reg", "0.1", "--out"]
    plain = run(*given, "a.h5")
    assert (plain.exit_code, plain.stderr) == (0, "")
    noted = run(*given, "b.h5", "--max-iter", 5, "--rank", 2, "--seed", 1)
    assert noted.exit_code == 0
    unused = "--max-iter, --rank, --seed"
    assert noted.stderr == f"widegram: note: solved by cholesky; unused: {unused}\n"
    for method, option in (("cg", "--tol"), ("cholesky", "--factor-dtype")):
        value = good_values.good_value("solve", option)
        used = run(*given, f"{method}.h5", "--method", method, option, value)
        assert (used.exit_code, used.stderr) == (0, "")


def test_what_a_full_spectrum_leaves_unused_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "K.npy", np.eye(12) + 1.0)
    noted = run("eig", tmp_path / "K.npy", "--probes", 4)
    assert noted.exit_code == 0
    assert noted.stderr == (
        "widegram: note: every eigenvalue was computed, 12 rows fit in memory; unused: --probes\n"
    )
    assert run("eig", tmp_path / "K.npy", "--density", "--probes", 4, "--steps", 4).stderr == ""


def test_options_of_gram_files_are_named_where_another_file_is_verified(tmp_path: Path) -> None:
    data = tmp_path / "d.h5"
    assert run("data", "prepare", "digits", "--train", 9, "--out", data).exit_code == 0
    noted = run("verify", data, "--sample", 2, "--seed", 1)
    assert noted.exit_code == 0
    assert noted.stderr == (
        f"widegram: note: {data}: prepared data, of which nothing is computed again; unused: "
        "--sample, --seed\n"
    )
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    refused("is no gram file, nothing of it is computed again", "verify", data, "--x",
            tmp_path / "x.npy")  # fmt: skip


def test_seeds_and_unseen_texts_of_what_has_none(tmp_path: Path) -> None:
    out = tmp_path / "d.h5"
    refused("accept_unseen .--accept-unseen. is of tables", "data", "prepare", "digits", "--out",
            out, "--accept-unseen")  # fmt: skip
    assert not out.exists()
