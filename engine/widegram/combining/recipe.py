"""What a combined Gram file says of itself: which kernels, where they are read out, and how they
are put together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from widegram.errors import WidegramError, shown
from widegram.tiling import End
from widegram.validation.choices import COMBINATIONS

_KEY = "combine"


class Ingredient(NamedTuple):
    """One of the kernels.

    * ``fingerprint``: of its network, hex
    * ``weight``: what it is multiplied by
    * ``end``: where it is read out; depth and head are None where the file has none, or all of them
      are combined
    * ``network``: as a dict
    * ``file``: where it was read, an absolute path
    """

    fingerprint: str
    weight: float
    end: End
    network: dict[str, Any]
    file: str

    def identity(self) -> list[Any]:
        """What decides its values, and its place among others."""
        return [self.fingerprint, self.weight, self.end.depth or 0, self.end.head or ""]


class Recipe(NamedTuple):
    """Ingredients, in one order however they were named, and whether their entries are added
    ('sum') or multiplied ('product')."""

    op: str
    ingredients: tuple[Ingredient, ...]

    def to_json(self) -> str:
        """For the attribute ``network`` of a Gram file."""
        of = [
            {
                "network": ingredient.network,
                "fingerprint": ingredient.fingerprint,
                "weight": ingredient.weight,
                "depth": ingredient.end.depth,
                "head": ingredient.end.head,
                "file": ingredient.file,
            }
            for ingredient in self.ingredients
        ]
        return json.dumps({_KEY: self.op, "of": of})

    def fingerprint(self) -> str:
        """The hex SHA-256 of what decides the values: not of where files lie."""
        text = json.dumps([self.op, *(ingredient.identity() for ingredient in self.ingredients)])
        return hashlib.sha256(text.encode()).hexdigest()


def recipe(op: str, ingredients: Sequence[Ingredient]) -> Recipe:
    """The recipe of some ingredients; the order in which they are given does not matter."""
    return Recipe(op, tuple(sorted(ingredients, key=Ingredient.identity)))


def is_combined(network: dict[str, Any]) -> bool:
    """Whether a Gram file's ``network`` is a recipe."""
    return _KEY in network


def is_product(network: dict[str, Any]) -> bool:
    """Whether a Gram file's ``network`` is a product, or combines one."""
    inside = [one["network"] for one in network["of"]] if is_combined(network) else []
    return network.get(_KEY) == "product" or any(map(is_product, inside))


def read_recipe(network: dict[str, Any]) -> Recipe:
    """The recipe that :meth:`Recipe.to_json` wrote; WidegramError for any other."""
    try:
        ingredients = [
            Ingredient(
                fingerprint=str(ingredient["fingerprint"]),
                weight=float(ingredient["weight"]),
                end=End(ingredient["depth"], ingredient["head"]),
                network=ingredient["network"],
                file=str(ingredient["file"]),
            )
            for ingredient in network["of"]
        ]
        return Recipe(str(network[_KEY]), tuple(ingredients))
    except (KeyError, TypeError, ValueError) as error:
        raise WidegramError(f"its recipe cannot be read: {error}") from error


def check_op(op: Any) -> str:
    """Refuse what is none of :data:`COMBINATIONS`."""
    if op not in COMBINATIONS:
        raise WidegramError(f"op {shown(op)} is unknown; choose {' or '.join(COMBINATIONS)}")
    return str(op)


def check_weights(weights: Sequence[float] | None, count: int, op: str) -> tuple[float, ...]:
    """A weight for each of ``count`` kernels, 1 by default.

    Raises WidegramError for another number of them, for what is not a finite positive number (a
    difference of kernels need not be one), and for weights of a product, which scale all of it.
    """
    if weights is None:
        return (1.0,) * count
    if op != "sum":
        raise WidegramError("weights are of a sum: those of a product only scale the whole of it")
    try:
        values = tuple(float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise WidegramError(f"weights {shown(weights)}: give a number for each file") from None
    if len(values) != count:
        raise WidegramError(f"{len(values)} weights for {count} files; give one for each")
    wrong = [value for value in values if not (value > 0 and math.isfinite(value))]
    if wrong:
        raise WidegramError(
            f"weight {wrong[0]:g}: give finite numbers above 0; a difference need not be a kernel"
        )
    return values
