"""Tables of plans that are kept: the next evaluator of such a plan has them without work."""

from __future__ import annotations

from typing import NamedTuple
from weakref import ref

from widegram.cpu.tables import Tables, encode
from widegram.machine.budgets import KEPT_TABLES
from widegram.machine.byte_cache import ByteCache
from widegram.machine.remembering import held_bytes
from widegram.plan.formulas import FactorLayout
from widegram.plan.plan import Plan, Schedule


class _Kept(NamedTuple):
    """``plan`` and ``schedule``: what they are of, while that is there."""

    plan: ref[Plan]
    schedule: ref[Schedule]
    tables: Tables
    nbytes: int


_kept: ByteCache[object, _Kept] = ByteCache(KEPT_TABLES)


def tables_of(
    plan: Plan, schedule: Schedule, layout: FactorLayout, dtype: str, paired: bool
) -> Tables:
    """What :func:`~widegram.cpu.tables.encode` makes of the same, never changed; made again where
    it is no more kept. Threads may share it.

    A plan stands for itself alone; formulas of one class differ in their constants and number of
    factors.
    """
    formulas = [(i, type(f), f.n_factors, f.constants) for i, f in layout.formulas.items()]
    of = id(plan), id(schedule), tuple(formulas), tuple(layout.offsets.items()), dtype, paired
    known = _kept.find(of)
    # Another plan may stand where one stood.
    if known is not None and known.plan() is plan and known.schedule() is schedule:
        return known.tables
    made = encode(plan, schedule, layout, dtype, paired)
    found = _Kept(ref(plan), ref(schedule), made, held_bytes(made))
    if found.nbytes <= KEPT_TABLES:
        _kept.keep(of, found)
    return made
