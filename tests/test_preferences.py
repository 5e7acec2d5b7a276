"""Defaults from WIDEGRAM_... variables and widegram.toml; -v, -q and --version."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import click
import numpy as np
import pytest
from click.shell_completion import BashComplete, ShellComplete, ZshComplete
from click.testing import CliRunner, Result

import widegram
from widegram_cli import preferences
from widegram_cli.main import COMMANDS, listen_to_the_library, program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WIDEGRAM_")]:
        if name != "WIDEGRAM_CACHE_DIR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def _defaults(name: str) -> dict[str, object]:
    context = click.Context(program)
    command = program.get_command(context, name)
    assert command is not None
    assert context.default_map is not None
    return dict(context.default_map[name])


def _error(*arguments: str) -> str:
    done = CliRunner().invoke(program, arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_line_goes_before_the_variable_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", np.eye(4, 3))
    run = ["gram", "--net", "fcn:depth=1", "--x", "x.npy", "--json"]

    def device(out: str, *more: str) -> Result:
        return CliRunner().invoke(program, [*run, "--out", out, *more])

    Path(preferences.FILE).write_text('device = "tpu"\n')
    assert "tpu" in device("a.h5").stderr
    monkeypatch.setenv("WIDEGRAM_DEVICE", "cpu")
    assert device("a.h5").exit_code == 0
    monkeypatch.setenv("WIDEGRAM_DEVICE", "tpu")
    assert device("b.h5").exit_code == 2
    assert device("b.h5", "--device", "cpu").exit_code == 0


def test_the_file_named_then_the_folder_then_the_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "config" / "widegram"
    home.mkdir(parents=True)
    (home / preferences.FILE).write_text("threads = 1\n")
    assert preferences.preferences()["threads"].value == "1"
    Path(preferences.FILE).write_text("threads = 2\n")
    assert preferences.preferences()["threads"].value == "2"
    named = folder / "named.toml"
    named.write_text("threads = 3\n")
    monkeypatch.setenv("WIDEGRAM_CONFIG", str(named))
    assert preferences.preferences()["threads"] == ("3", str(named))


def test_commands_take_the_settings_that_they_have_options_for(folder: Path) -> None:
    Path(preferences.FILE).write_text(
        'device = "cpu"\nthreads = 2\nmemory = "1GB"\ndask = "local:2"\n'
    )
    assert set(_defaults("gram")) == set(preferences.KINDS)
    assert set(_defaults("solve")) == {"threads", "memory"} & set(_names("solve"))
    assert set(_defaults("meanfield")["trainability"]) == {"threads", "memory", "dask"}
    assert not any(_defaults(name) for name in ("net", "doctor"))


_GRAM = ("gram", "--net", "fcn:depth=1", "--x", "x.npy", "--device", "cpu", "--out", "k.h5")
_NO_WORKERS = 'dask = "local:0"\n'  # refused wherever it is used


def test_an_option_may_serve_what_a_setting_gives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", np.eye(4, 3))
    alone = "--mixed-workers serves --dask, which is not given"
    assert alone in _error(*_GRAM, "--mixed-workers")
    Path(preferences.FILE).write_text(_NO_WORKERS)
    assert "give local:N" in _error(*_GRAM, "--mixed-workers")
    assert alone in _error(*_GRAM, "--plan", "--mixed-workers")
    Path(preferences.FILE).unlink()
    monkeypatch.setenv("WIDEGRAM_DASK", "local:0")
    assert "give local:N" in _error(*_GRAM, "--mixed-workers")


def test_a_setting_that_serves_nothing_is_left_out(folder: Path) -> None:
    def done(*arguments: str) -> None:
        found = CliRunner().invoke(program, arguments)
        assert found.exit_code == 0, found.stderr

    np.save("x.npy", np.eye(4, 3))
    done(*_GRAM, "--limit", "3")
    Path(preferences.FILE).write_text(_NO_WORKERS)
    used: list[tuple[str, ...]] = [(*_GRAM[:-1], "new.h5"), ("verify", "k.h5")]
    used.append(("verify", "k.h5", "--sample", "0", "--repair"))
    for words in used:
        assert "give local:N" in _error(*words)
    for words in ((*_GRAM, "--append"), (*_GRAM, "--plan"), ("verify", "k.h5", "--sample", "0")):
        done(*words)
        what = "--sample 0" if words[0] == "verify" else words[-1]
        assert f"--dask has no effect with {what}" in _error(*words, "--dask", "local:1")


def test_every_setting_is_an_option(folder: Path) -> None:
    names = {name for command in COMMANDS for name in _names(command)}
    assert set(preferences.KINDS) <= names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("threads = 0", "threads"),
        ("threads = 1.5", "float"),
        ('memory = "much"', "memory"),
        ("trheads = 1", "unknown setting 'trheads'"),
        ("threads = ", "is no TOML"),
        ("threads = " + "9" * 5000, "is no TOML"),
        ("threads = " + "[" * 5000, "is no TOML"),
        ("threads = [1]", "list"),
    ],
)
def test_bad_files_are_refused_in_one_line(folder: Path, text: str, message: str) -> None:
    Path(preferences.FILE).write_text(text)
    error = _error("info", "k.h5")
    assert preferences.FILE in error
    assert message in error


def test_bad_variables_and_missing_files_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIDEGRAM_THREADS", "many")
    assert "WIDEGRAM_THREADS" in _error("info", "k.h5")
    monkeypatch.delenv("WIDEGRAM_THREADS")
    monkeypatch.setenv("WIDEGRAM_CONFIG", "nowhere.toml")
    assert "nowhere.toml: No such file" in _error("info", "k.h5")
    os.mkfifo("pipe")
    monkeypatch.setenv("WIDEGRAM_CONFIG", "pipe")
    assert "is no file of settings" in _error("info", "k.h5")


def test_what_others_can_write_is_refused(folder: Path) -> None:
    Path(preferences.FILE).write_text("threads = 1\n")
    Path(preferences.FILE).chmod(0o666)
    assert "others can write it" in _error("info", "k.h5")


def test_the_file_that_was_looked_at_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may have its name a moment later."""
    Path(preferences.FILE).write_text("threads = 1\n")
    trusted = preferences._trusted

    def swap(path: Path, found: os.stat_result) -> None:
        trusted(path, found)
        Path("other").write_text("threads = 2\n")
        os.replace("other", path)

    monkeypatch.setattr(preferences, "_trusted", swap)
    assert preferences.preferences()["threads"].value == "1"


def test_verbose_says_where_settings_come_from_and_quiet_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(preferences.FILE).write_text("threads = 1\n")
    logger = logging.getLogger("widegram")
    before, level = list(logger.handlers), logger.level
    try:
        listen_to_the_library()
        CliRunner().invoke(program, ["-v", "info", "k.h5"])
        said = capsys.readouterr().err
        assert "threads 1, from widegram.toml" in said
        assert said.startswith("widegram: 2")  # a date: nobody watches a terminal
        CliRunner().invoke(program, ["-q", "info", "k.h5"])
        assert not logger.isEnabledFor(logging.INFO)
        assert logger.isEnabledFor(logging.WARNING)
    finally:
        logger.handlers[:], logger.propagate = before, True
        logger.setLevel(level)
    assert "exclude each other" in _error("-v", "-q", "info", "k.h5")


@pytest.mark.parametrize("order", [("--version", "--json"), ("--json", "--version")])
def test_versions_as_json(order: tuple[str, str]) -> None:
    found = json.loads(CliRunner().invoke(program, order).stdout)
    assert found["widegram"] == widegram.__version__
    assert found["numpy"] == np.__version__


def _names(command: str) -> list[str]:
    """The options of a command and of those below it."""
    found = program.get_command(click.Context(program), command)
    assert found is not None
    inner = found.commands.values() if isinstance(found, click.Group) else ()
    return [str(p.name) for each in (found, *inner) for p in each.params]


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete])
def test_shells_complete_commands_and_options(shell: type[ShellComplete], folder: Path) -> None:
    complete = shell(program, {}, "widegram", "_WIDEGRAM_COMPLETE")
    assert [item.value for item in complete.get_completions([], "ver")] == ["verify"]
    assert "--threads" in [item.value for item in complete.get_completions(["gram"], "--th")]
    assert "widegram" in complete.source()
