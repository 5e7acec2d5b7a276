"""A bad input: the words of a command, the files that it needs, and how it may end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BASE = "../base"  # the folder of good inputs, from the folder in which commands run


@dataclass(frozen=True)
class Case:
    """``make`` puts files into the folder in which ``widegram WORDS`` then runs, with the variables
    of ``environment``."""

    kind: str
    label: str
    words: tuple[str, ...]
    codes: tuple[int, ...] = (0, 2)
    make: Callable[[Path], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
