"""Planes computed at the same time: all of them once, and no two that add to the same one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widegram.cuda.rounds import most_at_once, rounds


def _base(height: int, width: int) -> np.ndarray:
    return np.stack(np.indices((height, width)), axis=-1).reshape(-1, 2)


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9)
)
def test_every_plane_once_and_none_beside_another_of_its_targets(
    oh: int, ow: int, sy: int, sx: int, width: int
) -> None:
    base = _base(oh * sy, ow * sx)
    found = rounds(base, [((sy, sx), (oh, ow))], width)
    assert found.shape[1] == width
    assert sorted(found[found >= 0]) == list(range(len(base)))
    for row in found:
        seen: set[tuple[int, int]] = set()
        for n in row[row >= 0]:
            # Tap (v, z) of a window meets, at displacement d, the window d + (v, z) further on.
            targets = {
                ((base[n, 0] + v) // sy % oh, (base[n, 1] + z) // sx % ow)
                for v in range(sy) for z in range(sx)
            }  # fmt: skip
            assert not seen & targets
            seen |= targets


def test_without_pools_planes_run_in_order() -> None:
    found = rounds(_base(3, 3), [], 4)
    assert found.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, -1, -1, -1]]


@pytest.mark.parametrize(
    ("size", "lanes", "limit", "wanted"),
    [(32, 1, 4, 4), (31, 1, 4, 4), (16, 2, 7, 4), (8, 4, 14, 8), (5, 6, 8, 5), (1, 1, 8, 1)],
)
def test_hardly_a_place_is_idle(size: int, lanes: int, limit: int, wanted: int) -> None:
    assert most_at_once(_base(size, size), [], lanes, limit) == wanted


def test_pooled_planes_fill_their_rounds() -> None:
    """1,024 planes that add to 256: four at a time leave no place idle."""
    pools = [((2, 2), (16, 16))]
    assert most_at_once(_base(32, 32), pools, 1, 4) == 4
