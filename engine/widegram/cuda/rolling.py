"""Repetitions among the steps of a program, written as loops: its text does not grow with depth.

From one repetition to the next only the steps' ``at`` moves on. Runs of one step become loops
first, and may then be repeated themselves: a network read out after every tenth layer is a loop of
ten layers and a readout, whose ten layers are a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from widegram.cuda.writer import Writer
from widegram.plan.steps import Step

_LONGEST_PERIOD = 24


@dataclass(frozen=True)
class Repetition:
    """``times`` repetitions of ``items``; each adds ``shifts`` to ``at`` of all steps in them."""

    items: tuple[Step | Repetition, ...]
    times: int
    shifts: tuple[int, ...]


Item = Step | Repetition


def rolled(steps: Sequence[Step]) -> list[Item]:
    """The steps with repeated runs as loops, the shortest first."""
    items: list[Item] = list(steps)
    period = 1
    while period <= min(_LONGEST_PERIOD, len(items) // 2):
        shorter = _rolled(items, period)
        period = 1 if len(shorter) < len(items) else period + 1
        items = shorter
    return items


def write_steps(write: Writer, steps: Sequence[Step], one: Callable[[Any, str], None]) -> None:
    """Write all steps, repeated runs as loops; ``one`` writes a step, given its ``at``."""
    _write(write, rolled(steps), one, [""] * len(steps))


def _write(
    write: Writer, items: Sequence[Item], one: Callable[[Any, str], None], around: Sequence[str]
) -> None:
    """``around``: what the loops around them add to ``at`` of all steps."""
    adding = iter(around)
    for item in items:
        if isinstance(item, Step):
            one(item, f"{item.at}{next(adding)}")
            continue
        with _loop_over(write, item) as turns:
            inside = [next(adding) + turns[shift] for shift in item.shifts]
            _write(write, item.items, one, inside)


@contextmanager
def _loop_over(write: Writer, loop: Repetition) -> Iterator[dict[int, str]]:
    """A loop over repetitions; gives what the current one adds for every shift.

    It counts in the shifts themselves, so that no product is left for the compiler to take out.
    """
    counters = {shift: write.name("r") for shift in dict.fromkeys(loop.shifts) if shift}
    counters = counters or {1: write.name("r")}
    write(*(f"{counter} = 0" for counter in counters.values()))
    step, first = next(iter(counters.items()))
    with write.block(f"while {first} < {loop.times * step}:"):
        yield {0: "", **{shift: f" + {counter}" for shift, counter in counters.items()}}
        write(*(f"{counter} += {shift}" for shift, counter in counters.items()))


def _rolled(items: list[Item], period: int) -> list[Item]:
    """The items with repetitions of ``period`` of them as loops."""
    shapes = [_shape(item) for item in items]
    places = [[step.at for step in _steps(item)] for item in items]
    out: list[Item] = []
    n = 0
    while n < len(items):
        times = _repeats(shapes, places, n, period)
        if times > 1:
            shifts = _shifts(places, n, n + period, period)
            out.append(Repetition(tuple(items[n : n + period]), times, shifts))
            n += times * period
        else:
            out.append(items[n])
            n += 1
    return out


def _repeats(shapes: list[Any], places: list[list[int]], n: int, period: int) -> int:
    """How often the ``period`` items from n on stand one after the other."""
    times, shifts = 1, None
    while (to := n + times * period) + period <= len(shapes):
        if shapes[n : n + period] != shapes[to : to + period]:
            break
        found = _shifts(places, to - period, to, period)
        if min(found) < 0 or found != (shifts or found):
            break
        times, shifts = times + 1, found
    return times


def _shifts(places: list[list[int]], n: int, to: int, period: int) -> tuple[int, ...]:
    """How far the steps of ``period`` items from n on stand before those from ``to`` on."""
    both = zip(places[n : n + period], places[to : to + period], strict=True)
    return tuple(b - a for one, two in both for a, b in zip(one, two, strict=True))


def _shape(item: Item) -> Any:
    """Equal for items with the same text but for ``at``."""
    if isinstance(item, Step):
        return item.signature()
    return item.times, item.shifts, tuple(_shape(inner) for inner in item.items)


def _steps(item: Item) -> list[Step]:
    """All steps of an item, in order."""
    return [item] if isinstance(item, Step) else [step for i in item.items for step in _steps(i)]
