"""Settings by name: the keywords of `widegram.solve`, `eig` and `predict`, for the records that the
commands fill too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from math import inf
from os import PathLike, fspath
from typing import Any

from widegram.errors import WidegramError, shown
from widegram.network.checks import nearest
from widegram.validation.arrays import file_path, integer, number


def by_name(where: str, given: Mapping[str, Any], *kinds: type[Any]) -> list[dict[str, Any]]:
    """``given`` shared out among the dataclasses ``kinds``, whose fields they are: for each kind a
    dict to make it from.

    Files may be text or paths, lists of numbers any sequence. Raises WidegramError for a name that
    no kind has, naming the nearest, and for a value of another type than the field's.
    """
    records = {kind.__name__ for kind in kinds}
    known = [
        {field.name: str(field.type) for field in fields(kind) if field.type not in records}
        for kind in kinds
    ]
    shares: list[dict[str, Any]] = [{} for _ in kinds]
    for name, value in given.items():
        home = next((place for place, types in enumerate(known) if name in types), None)
        if home is None:
            hint = nearest(name, [one for types in known for one in types])
            raise WidegramError(f"{where}: unknown setting {shown(name)}{hint}")
        shares[home][name] = _value(name, value, known[home][name])
    return shares


def _value(name: str, value: Any, annotation: str) -> Any:
    """``value`` as the annotation of its field has it; as it is where others read it."""
    kinds = annotation.split(" | ")
    if value is None and "None" in kinds:
        return None
    read = _READ.get(kinds[0])
    return value if read is None or len(set(kinds) - {"None"}) > 1 else read(value, name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str | PathLike):
        raise WidegramError(f"{name} is {shown(value)}; it must be the name of what a file holds")
    return str(fspath(value))


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise WidegramError(f"{name} is {shown(value)}; it must be True or False")
    return value


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in value)
    except (TypeError, ValueError):
        raise WidegramError(f"{name} is {shown(value)}; it must be a list of numbers") from None


_READ: dict[str, Callable[[Any, str], Any]] = {
    "Path": file_path,
    "str": _text,
    "bool": _flag,
    "int": partial(integer, least=0),
    "float": partial(number, least=-inf),
    "tuple[float, ...]": _numbers,
}
