"""Defaults of options from the environment and from a file, ``widegram.toml``.

An option on the command line goes before its variable, ``WIDEGRAM_THREADS`` before the file's
``threads``, and the file before what the help says. The file is the one that ``WIDEGRAM_CONFIG``
names, else ``widegram.toml`` in the working directory, else in ``~/.config/widegram`` (or
``$XDG_CONFIG_HOME/widegram``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from widegram.errors import WidegramError, shown
from widegram_cli.value_types import Size

FILE = "widegram.toml"
PREFIX = "WIDEGRAM_"
# What may be set, and what it must be.
KINDS: dict[str, click.ParamType] = {
    "device": click.STRING,
    "threads": click.IntRange(min=1),
    "memory": Size(),
    "dask": click.STRING,
}
# Commands that take none of it: they measure or describe. And `solve --dask` goes with one method.
_APART: dict[str, tuple[str, ...]] = {
    "bench": tuple(KINDS),
    "net": tuple(KINDS),
    "doctor": tuple(KINDS),
    "solve": ("dask",),
}
_LARGEST_FILE = 1 << 20


class SetOption(NamedTuple):
    """The value of an option and what set it: a variable or a file."""

    value: Any
    source: str


def preferences() -> dict[str, SetOption]:
    """The options that are set, by name.

    Raises WidegramError, naming the file or the variable, for a file that cannot be read, an
    unknown name and a value of the wrong kind.
    """
    found = {name: SetOption(value, source) for name, value, source in _in_file()}
    for name in KINDS:
        value = os.environ.get(PREFIX + name.upper(), "")
        if value:
            found[name] = SetOption(value, PREFIX + name.upper())
    return {name: _checked(name, setting) for name, setting in found.items()}


def defaults(command: click.Command, name: str) -> dict[str, Any]:
    """Click's ``default_map`` of the command of that name, and of the commands below it."""
    apart = _APART.get(name, ())
    found = preferences() if set(apart) != set(KINDS) else {}
    return _below(command, {key: found[key].value for key in found if key not in apart})


def _below(command: click.Command, values: dict[str, Any]) -> dict[str, Any]:
    own = {p.name: values[p.name] for p in command.params if p.name and p.name in values}
    if isinstance(command, click.Group):
        own |= {name: _below(inner, values) for name, inner in command.commands.items()}
    return own


def _checked(name: str, setting: SetOption) -> SetOption:
    if isinstance(setting.value, (bool, float, list, dict)):
        raise WidegramError(f"{setting.source}: {name} is no {type(setting.value).__name__}")
    try:
        KINDS[name].convert(str(setting.value), None, None)
    except click.BadParameter as error:
        raise WidegramError(f"{setting.source}: {name}: {error.message}") from error
    return setting._replace(value=str(setting.value))


def _in_file() -> Iterator[tuple[str, Any, str]]:
    """Name, value and file of each line."""
    path = _path()
    if path is None:
        return
    import tomllib

    try:
        with open(path, "rb", opener=_without_waiting) as file:
            _trusted(path, os.fstat(file.fileno()))  # what is open, whatever has its name by now
            table = tomllib.loads(file.read(_LARGEST_FILE).decode("utf-8-sig"))
    except OSError as error:
        raise WidegramError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, too many digits, too deep
        raise WidegramError(f"{path}: is no TOML: {error}") from error
    for name, value in table.items():
        if name not in KINDS:
            raise WidegramError(
                f"{path}: unknown setting {shown(name)}; there are {', '.join(KINDS)}"
            )
        yield name, value, str(path)


def _without_waiting(path: str, flags: int) -> int:
    """A descriptor of a file; a named pipe is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _trusted(path: Path, found: os.stat_result) -> None:
    """Refuse what is no ordinary small file, and what somebody else can have written: a scheduler's
    address lets others run code here."""
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_FILE:
        raise WidegramError(f"{path}: is no file of settings")
    if found.st_uid not in (0, os.getuid()) or found.st_mode & stat.S_IWOTH:
        raise WidegramError(
            f"{path}: others can write it; make it yours alone (chmod o-w), or name another file "
            f"in {PREFIX}CONFIG"
        )


def _path() -> Path | None:
    """The file that counts, if there is one."""
    named = os.environ.get(PREFIX + "CONFIG", "")
    if named:
        return Path(named).expanduser()
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    found = (Path(FILE), home / "widegram" / FILE)
    return next((path for path in map(Path.expanduser, found) if path.is_file()), None)
