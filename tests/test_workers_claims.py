"""Who does what among workers, without any: every item once, whatever happens to its worker."""

from __future__ import annotations

import random

import pytest

from widegram.workers.claims import Claim, Claims


@pytest.mark.parametrize("seed", range(20))
def test_every_item_comes_back_once_whatever_happens(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randrange(1, 200)
    claims, now = Claims(count), 0.0
    workers = [f"w{k}" for k in range(4)]
    flying: list[Claim] = []
    seen: list[int] = []
    while claims.left:
        now += draw.random()
        event = draw.random()
        if event < 0.5 or not flying:
            group = claims.take(draw.choice(workers), draw.randrange(1, 9), now)
            if group is not None:
                flying.append(group)
        elif event < 0.8:
            seen += claims.finish(flying.pop(draw.randrange(len(flying))), now)
        else:  # A worker dies with all that it has.
            dead = draw.choice(workers)
            for group in [g for g in flying if g.worker == dead]:
                flying.remove(group)
                claims.give_back(group)
            claims.leave(dead)
    assert sorted(seen) == list(range(count))
    assert claims.take("w0", 5, now) is None or claims.in_work


def test_each_worker_goes_through_a_stretch_of_its_own() -> None:
    claims = Claims(100)
    first = [claims.take("a", 5, 0.0) for _ in range(2)]
    other = claims.take("b", 5, 0.0)
    again = claims.take("a", 5, 0.0)
    assert [g.items for g in first if g] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert other is not None
    assert again is not None
    assert other.items == [55, 56, 57, 58, 59]
    assert again.items == [10, 11, 12, 13, 14]


def test_what_was_lost_comes_first_and_what_is_late_is_given_to_another() -> None:
    claims = Claims(2)
    lost, late = claims.take("a", 1, 0.0), claims.take("b", 1, 0.0)
    assert lost is not None
    assert late is not None
    assert claims.give_back(lost)
    assert not claims.give_back(lost)
    claims.leave("a")
    again = claims.take("c", 2, 1.0)
    assert again is not None
    assert again.items == lost.items
    assert claims.finish(again, 1.5) == again.items
    assert claims.take("c", 2, 1.6) is None
    assert not claims.late(1.6)
    assert claims.late(60.0)
    second = claims.take("c", 2, 60.0)
    assert second is not None
    assert second.items == late.items
    assert claims.take("d", 2, 60.0) is None
    assert claims.finish(second, 61.0) == late.items
    assert claims.finish(late, 62.0) == []
    assert claims.left == 0
    assert not claims.in_work


def test_after_a_stop_nothing_is_begun() -> None:
    claims = Claims(10)
    group = claims.take("a", 3, 0.0)
    claims.stop()
    assert claims.take("a", 3, 0.0) is None
    assert claims.in_work
    assert group is not None
    assert claims.finish(group, 1.0) == [0, 1, 2]
    assert not claims.in_work
