"""What the README shows works: its commands parse, its network loads, its lists are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from widegram import activations
from widegram.network import PRESETS, load_network
from widegram_cli.main import COMMANDS, program

README = (Path(__file__).parent.parent / "README.md").read_text()
SHELL = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("widegram ")
]


def test_there_are_commands_to_check():
    assert len(SHELL) > 5


@pytest.mark.parametrize("line", SHELL)
def test_shell_commands_parse(line: str):
    context, arguments = None, shlex.split(line, comments=True)[1:]
    command = program
    while hasattr(command, "get_command"):
        name = arguments.pop(0)
        command = command.get_command(context, name)
        assert command is not None, name
    command.make_context("widegram", arguments)  # raises for an unknown option or a bad value


def test_every_command_is_in_the_table():
    shown = set(re.findall(r"`widegram ([a-z]+)", README))
    assert set(COMMANDS) <= shown


def test_network_loads():
    (text,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert load_network(text).input_shape == (32, 32, 3)


def test_activations_and_presets_are_all_listed():
    for name in [*activations.DEFAULTS, *PRESETS]:
        assert f"`{name}`" in README, name
