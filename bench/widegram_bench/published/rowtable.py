"""Published numbers as data: ``table.toml``, whose groups have commands and rows of numbers.

Words in braces in a group's commands are the row's own fields, or sources (see
:mod:`widegram_bench.published.sources`), whose place is filled in when it is known.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from widegram.errors import WidegramError, shown

SUITES = ("quick", "full")
_OF_A_ROW = ("name", "published", "why", "suite")


@dataclass(frozen=True)
class PublishedRow:
    """A published number and how ours is made.

    * ``name``, ``group``: of this row, and of those that share work
    * ``source``: who published the number, and where
    * ``published``: an accuracy, a share of 1; None where only a mean of several rows is known
    * ``needs``: names of sources and packages
    * ``commands``: lines for a shell, sources in braces; the last one's accuracy is ours
    * ``mean_of``: a pattern of the names of rows whose mean this row is; it has no commands then
    * ``disk``: bytes that the row's group takes while it is computed
    * ``why``: what explains a difference, empty where none is expected
    """

    name: str
    group: str
    source: str
    published: float | None
    needs: tuple[str, ...]
    commands: tuple[str, ...]
    mean_of: str
    disk: float
    why: str


@dataclass(frozen=True)
class _Group:
    """A group as the table writes it; ``rows`` are its own fields by column."""

    name: str
    suite: str
    source: str
    rows: Sequence[Mapping[str, Any]]
    needs: Sequence[str] = ()
    commands: Sequence[str] = ()
    mean_of: str = ""
    disk: float = 0.0
    why: str = ""


class _Sources(dict[str, Any]):
    """Fields of a row; a word that is none of them stays in its braces."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def rows(suite: str, only: str = "*") -> list[PublishedRow]:
    """The rows of a suite whose names match a pattern, in the table's order.

    ``full`` is all of the table, ``quick`` the rows marked so. Raises WidegramError for a pattern
    that matches none.
    """
    text = resources.files("widegram_bench.published").joinpath("table.toml").read_text("utf-8")
    found = [
        row
        for group in tomllib.loads(text)["groups"]
        for row in _of(_Group(**group), suite)
        if fnmatch.fnmatch(row.name, only)
    ]
    if not found:
        raise WidegramError(
            f"--rows {shown(only)}: no row of suite {suite} has such a name; "
            "give a pattern such as 'mnist-*'"
        )
    return found


def _of(group: _Group, suite: str) -> list[PublishedRow]:
    return [
        _row(group, row)
        for row in group.rows
        if suite == "full" or row.get("suite", group.suite) == suite
    ]


def _row(group: _Group, own: Mapping[str, Any]) -> PublishedRow:
    places = _Sources({key: value for key, value in own.items() if key not in _OF_A_ROW})
    return PublishedRow(
        name=own["name"],
        group=group.name.format_map(places),
        source=group.source,
        published=own.get("published"),
        needs=tuple(group.needs),
        commands=tuple(line.format_map(places) for line in group.commands),
        mean_of=group.mean_of,
        disk=own.get("disk", group.disk),
        why=own.get("why", group.why).format_map(places),
    )
