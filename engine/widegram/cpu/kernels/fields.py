"""Tables of integers that compiled code reads: their columns, by name."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Field(IntEnum):
    """Columns of a table, numbered from 0."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last: list[Any]) -> int:
        return count
