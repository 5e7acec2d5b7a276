"""The benchmark of heads: what it measures, on images of a few pixels."""

from __future__ import annotations

import pytest

from widegram_bench.heads import measure, with_heads


def test_every_head_is_measured() -> None:
    found = measure(6, (1, 2), (0, 1, 2), "float64", 0.0)
    assert set(found["seconds_entry"]) == {"all", "gap at all depths", "gap", "c0", "c1", "c2"}
    assert all(seconds > 0 for seconds in found["seconds_entry"].values())
    spent = found["seconds_entry"]
    assert found["heads"]["gap"] == pytest.approx(spent["all"] / spent["gap"])
    # two layers: 6 x 6 pairs of equal pixels of 36 x 36, and a Dense layer of one number each
    assert found["elements"]["c0"] == pytest.approx((2 * 36**2 + 1) / (2 * 36 + 1))


def test_heads_are_named_by_their_reach() -> None:
    assert with_heads(8, 3, (0, 4)).heads == ("c0", "c4", "gap")
