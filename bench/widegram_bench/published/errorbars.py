"""A measured accuracy beside a published one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from widegram_bench.published.rowtable import PublishedRow

ERRORS = 3.0  # a difference beyond so many binomial errors wants an explanation


def binomial(share: float, tested: int) -> float:
    """The standard deviation of the share of right answers among ``tested`` independent ones."""
    return math.sqrt(share * (1.0 - share) / tested)


def judged(row: PublishedRow, ours: float, error: float) -> dict[str, Any]:
    """``ours`` and its error beside what was published.

    * ``difference``: ours less the published number
    * ``within``: whether it is at most ``ERRORS`` errors
    * ``why``: what explains one that is not

    All three None where nothing was published for this row alone.
    """
    if row.published is None:
        return {"ours": ours, "difference": None, "error": error, "within": None, "why": None}
    difference = ours - row.published
    within = abs(difference) <= ERRORS * error
    why = None if within else row.why or "not explained"
    return {"ours": ours, "difference": difference, "error": error, "within": within, "why": why}


def mean(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The mean of rows' accuracies, and its error, their errors taken as independent."""
    ours = math.fsum(row["ours"] for row in rows) / len(rows)
    return ours, math.sqrt(math.fsum(row["error"] ** 2 for row in rows)) / len(rows)
