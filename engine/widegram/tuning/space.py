"""Networks to choose from: presets whose options have several values, ``fcn:depth={3,5}``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from widegram.errors import WidegramError, shown
from widegram.validation import bounds

_BRACES = re.compile(r"\{([^{}]*)\}")
_INTERVAL = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+)\s*")
_DIGITS = 6  # of numbers that are drawn: what is printed is what was used


class Interval(NamedTuple):
    """Numbers to draw from, uniformly."""

    low: float
    high: float


@dataclass(frozen=True)
class NetworkChoices:
    """A preset's text: its ``fixed`` pieces, and between them ``choices``, one for each pair of
    braces."""

    fixed: tuple[str, ...]
    choices: tuple[tuple[str, ...] | Interval, ...]

    @property
    def finite(self) -> bool:
        """Whether all combinations can be listed."""
        return not any(isinstance(choice, Interval) for choice in self.choices)

    @property
    def combinations(self) -> int:
        """How many combinations a finite space has."""
        return math.prod(len(choice) for choice in self.choices if not isinstance(choice, Interval))

    def texts(self) -> Iterator[str]:
        """The text of every combination of a finite space."""
        lists = [choice for choice in self.choices if not isinstance(choice, Interval)]
        return map(self.text, itertools.product(*lists))

    def text(self, chosen: Sequence[str]) -> str:
        """The text with one choice for each pair of braces."""
        pieces = itertools.zip_longest(self.fixed, chosen, fillvalue="")
        return "".join(itertools.chain.from_iterable(pieces))


def grid(texts: Sequence[str]) -> list[str]:
    """Every combination of every text, each once, in order.

    Raises WidegramError for braces that do not match or hold nothing, for an interval, whose
    numbers are drawn, and for more than ``bounds.PATH`` combinations.
    """
    spaces = [parse_choices(text) for text in texts]
    for text, space in zip(texts, spaces, strict=True):
        if not space.finite:
            raise WidegramError(
                f"{text}: an interval has no list of numbers; say how many networks to draw with "
                "--samples"
            )
    total = sum(space.combinations for space in spaces)
    if total > bounds.PATH:
        raise WidegramError(
            f"{total:,} networks, at most {bounds.PATH:,} are tried; draw some with --samples"
        )
    return list(dict.fromkeys(text for space in spaces for text in space.texts()))


def drawn(texts: Sequence[str], samples: int, seed: int) -> list[str]:
    """``samples`` different networks, drawn with ``seed``: a text, and a value for each of its
    braces, all with the same probability.

    Fewer where there are fewer. Raises WidegramError as :func:`grid` but for intervals.
    """
    if not 1 <= samples <= bounds.PATH:
        raise WidegramError(f"samples {samples}: give a number from 1 to {bounds.PATH:,}")
    spaces = [parse_choices(text) for text in texts]
    generator = np.random.default_rng(seed)
    if all(space.finite for space in spaces):
        samples = min(samples, sum(space.combinations for space in spaces))
    found: dict[str, None] = {}
    # Draws that repeat one are not counted; the bound ends a search among texts that are equal.
    for _ in range(100 * samples + 1000):
        space = spaces[int(generator.integers(len(spaces)))]
        found[space.text([_draw(choice, generator) for choice in space.choices])] = None
        if len(found) == samples:
            break
    return list(found)


def parse_choices(text: str) -> NetworkChoices:
    """The pieces of ``NAME:option={a,b},...``; ``{low..high}`` is an interval.

    Raises WidegramError for braces that do not match, hold nothing or no interval.
    """
    rest = _BRACES.sub("", text)
    if "{" in rest or "}" in rest:
        raise WidegramError(f"network {shown(text)}: its braces do not match; write depth={{3,5}}")
    fixed, choices, at = [], [], 0
    for match in _BRACES.finditer(text):
        fixed.append(text[at : match.start()])
        choices.append(_choices(match[1], text))
        at = match.end()
    return NetworkChoices((*fixed, text[at:]), tuple(choices))


def _choices(inside: str, text: str) -> tuple[str, ...] | Interval:
    interval = _INTERVAL.fullmatch(inside)
    if interval is not None and "," not in inside:
        try:
            low, high = float(interval[1]), float(interval[2])
        except ValueError:
            low, high = math.nan, math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise WidegramError(f"network {shown(text)}: {{{inside}}} is no interval; {_EXAMPLE}")
        return Interval(low, high)
    values = tuple(value.strip() for value in inside.split(","))
    if not all(values):
        raise WidegramError(f"network {shown(text)}: {{{inside}}} lacks a value; {_EXAMPLE}")
    return values


_EXAMPLE = "write {3,5} for a list and {0.5..2} for an interval"


def _draw(choice: tuple[str, ...] | Interval, generator: np.random.Generator) -> str:
    if isinstance(choice, Interval):
        return f"{generator.uniform(*choice):.{_DIGITS}g}"
    return choice[int(generator.integers(len(choice)))]
