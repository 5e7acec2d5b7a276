"""Records with the methods that neural-tangents gives to its own."""

from __future__ import annotations

import dataclasses
from typing import Any, Self


class Record:
    """The base of a frozen dataclass."""

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the fields that are named."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]  # self is a dataclass

    def asdict(self) -> dict[str, Any]:
        """The fields by their names, arrays copied."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]  # self is a dataclass

    def astuple(self) -> tuple[Any, ...]:
        """The fields in their order, arrays copied."""
        return dataclasses.astuple(self)  # type: ignore[call-overload]  # self is a dataclass
