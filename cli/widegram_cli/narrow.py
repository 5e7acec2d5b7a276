"""Help that fits a narrow terminal: Click's own is never less than 50 columns wide."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable

import click

_CLICKS_LEAST = 52  # columns from which on Click's own width is that of the terminal
_INDENT = 4  # of what goes on on another line


class FittingFormatter(click.HelpFormatter):
    """Names of options take a third of the width at most; longer ones have a line of their own."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        there = shutil.get_terminal_size().columns
        if width is None and there < _CLICKS_LEAST:
            width = max(there - 1, 20)
        super().__init__(indent_increment, width, max_width)

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """As Click's, with lists of choices on as many lines as they need."""
        folded = [(self._folded(first), second) for first, second in rows]
        super().write_dl(folded, min(col_max, self.width // 3), col_spacing)

    def _folded(self, names: str) -> str:
        """``--option [one|two|...]`` broken behind its bars and spaces where it is too long."""
        room = self.width - self.current_indent
        if len(names) <= room:
            return names
        lines = [""]
        for part in re.findall(r"[^| ]*[| ]?", names):
            if len(lines[-1]) + len(part.rstrip()) > room - _INDENT:
                lines.append("")
            lines[-1] += part
        between = "\n" + " " * (self.current_indent + _INDENT)
        return between.join(line.rstrip() for line in lines)


class FittingContext(click.Context):
    """A context whose help fits."""

    formatter_class = FittingFormatter
