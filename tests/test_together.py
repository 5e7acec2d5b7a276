"""Work that takes no time is done without the threads of a pool, to the same bits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest

from jobs import job
from network_specs import CONV, FLATTEN, GAP, RELU, load
from widegram.cpu import CpuEvaluator, together
from widegram.cpu.together import ALONE, LITTLE, is_little, results


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


@pytest.mark.parametrize("here", [False, True])
def test_where_work_is_done(pool: ThreadPoolExecutor, here: bool) -> None:
    found = list(results(pool, lambda n: (n, threading.get_ident()), range(5), here))
    assert sorted(n for n, _ in found) == list(range(5))
    assert {ident == threading.get_ident() for _, ident in found} == {here}
    with pytest.raises(ZeroDivisionError):
        list(results(pool, lambda n: 1 // n, range(2), here))


def test_one_thread_has_no_other_to_wait_for() -> None:
    for work in (LITTLE - 1, LITTLE, ALONE - 1, ALONE):
        assert is_little(work, 2) == (work < LITTLE)
        assert is_little(work, 1) == (work < ALONE)


@pytest.mark.parametrize("end", [GAP, FLATTEN])
def test_a_small_matrix_starts_no_thread(end: dict) -> None:
    x = np.random.default_rng(0).standard_normal((5, 6, 6, 2))
    of = job(load((6, 6, 2), CONV, RELU, CONV, RELU, end), x, threads=2)

    def made() -> tuple[dict[str, np.ndarray], int]:
        with CpuEvaluator(of) as evaluator:
            found = evaluator.tile(range(5), range(5), True)
            return found, len(evaluator._pool._threads)

    small, none = made()
    with mock.patch.multiple(together, LITTLE=1):
        shared, some = made()
    assert (none, bool(some)) == (0, True)
    for key, value in small.items():
        np.testing.assert_array_equal(value.view("u1"), shared[key].view("u1"))
