"""What commands print on stdout: one JSON object, or aligned lines for people."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import click


def line(message: str) -> str:
    """A message of the program for stderr; where that is no terminal, with the time it was said."""
    stamp = "" if sys.stderr.isatty() else time.strftime("%Y-%m-%d %H:%M:%S ")
    return f"widegram: {stamp}{message}"


def emit_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that JSON cannot hold (NaN, infinities) become null."""
    click.echo(json.dumps(_plain(values), allow_nan=False))


def emit_table(rows: Iterable[tuple[str, Any]]) -> None:
    """Print ``name  value`` lines with the values aligned."""
    pairs = [(name, str(value)) for name, value in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {value}")


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
