"""What commands print on stdout: one JSON object, or aligned lines for people."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping
from typing import Any

import click

_ROOM = 24  # characters of a value beside its name


def line(message: str) -> str:
    """A message of the program for stderr; where that is no terminal, with the time it was said."""
    stamp = "" if sys.stderr.isatty() else time.strftime("%Y-%m-%d %H:%M:%S ")
    return f"widegram: {stamp}{message}"


def emit_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that JSON cannot hold (NaN, infinities) become null."""
    click.echo(json.dumps(_plain(values), allow_nan=False))


def columns() -> int | None:
    """Width of the terminal that stdout is; None where it is none, and lines stay as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def emit_table(rows: Iterable[tuple[str, Any]]) -> None:
    """Print ``name  value`` lines with the values aligned; on a terminal broken between words."""
    pairs = [(name, str(value)) for name, value in rows]
    width, limit = max((len(name) for name, _ in pairs), default=0), columns()
    for name, value in pairs:
        click.echo("\n".join(_row(name, value, width, limit)))


def _row(name: str, value: str, width: int, limit: int | None) -> list[str]:
    """The lines of a row; below its name where little room is left beside that."""
    whole = f"{name:<{width}}  {value}"
    if limit is None or len(whole) <= limit:
        return [whole]
    if limit - width - 2 < _ROOM:
        return [name, *_broken(value, limit, "    ")]
    first, *others = _broken(value, limit, " " * (width + 2))
    return [f"{name:<{width}}{first[width:]}", *others]


def _broken(text: str, limit: int, indent: str) -> list[str]:
    """Lines of a text; a word that is longer than a line, such as a path, stays whole."""
    return textwrap.wrap(
        text,
        limit,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def human_rate(rate: float) -> str:
    """``12,345`` or ``1.23``: three digits, never an exponent."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def human_time(seconds: float) -> str:
    """``45 s``, ``12 min 03 s``, ``1 h 05 min`` or ``3 d 07 h``: two units, the second rounded."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    for unit, part, name, smaller in ((60, 1, "min", "s"), (3600, 60, "h", "min")):
        whole, rest = divmod(round(seconds / part), unit // part)
        if whole < (60 if unit == 60 else 24):
            return f"{whole} {name} {rest:02d} {smaller}"
    whole, rest = divmod(round(seconds / 3600), 24)
    return f"{whole:,} d {rest:02d} h"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
