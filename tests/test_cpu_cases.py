"""Networks that once went wrong on the CPU, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from jobs import job
from network_specs import DENSE, FLATTEN, GAP, load, residual
from widegram import reference
from widegram.cpu import CpuEvaluator
from widegram.data import open_source


def conv(
    *window: int, padding: str = "CIRCULAR", strides: tuple[int, int] = (1, 1)
) -> dict[str, object]:
    return {
        "layer": "Conv", "filter_shape": list(window), "padding": padding, "b_std": 0.2,
        "strides": list(strides),
    }  # fmt: skip


def pool(*window: int, padding: str = "CIRCULAR", strides: tuple[int, int] = (1, 1)) -> dict:
    return {
        "layer": "AvgPool", "window_shape": list(window), "padding": padding,
        "strides": list(strides),
    }  # fmt: skip


RELU, POOL = {"layer": "Relu"}, pool(2, 2, padding="SAME")
SUM = {**POOL, "layer": "SumPool"}
CASES = {
    # The windows of the first and the last pixel wrap in opposite directions.
    "circular pool of a row": ((1, 4, 1), [pool(1, 3), DENSE, GAP]),
    "circular pool": ((5, 4, 2), [conv(3, 3), pool(3, 2), DENSE, GAP]),
    "circular pool with strides": ((5, 6, 2), [pool(4, 4, strides=(2, 3)), DENSE, GAP]),
    "circular pool wider than the image": ((2, 3, 1), [DENSE, pool(5, 8), DENSE, GAP]),
    "circular pool before a pool": (
        (4, 5, 1),
        [pool(4, 4), DENSE, pool(3, 3, padding="SAME"), DENSE, FLATTEN],
    ),
    # Behind the stride the torus of columns is not the image's; rows wrap inside its segments.
    "column filter behind a stride that does not divide": (
        (4, 5, 1),
        [conv(1, 2, strides=(1, 2)), {"layer": "Erf"}, conv(3, 1), {"layer": "Erf"}, GAP],
    ),
    "row filter behind a stride that does not divide": (
        (7, 3, 1),
        [conv(3, 2, strides=(3, 1)), {"layer": "Erf"}, conv(1, 3), {"layer": "Erf"}, GAP],
    ),
    # A torus that wraps rows alone: its plane's halves are segments 0 and 2.
    "column filter": ((4, 1, 1), [conv(3, 1), {"layer": "Erf"}, conv(2, 1), GAP]),
    "column filter on an image": ((4, 3, 2), [conv(3, 1), {"layer": "Erf"}, conv(2, 1), GAP]),
    "row filter on an image": ((4, 3, 2), [conv(1, 3), {"layer": "Erf"}, conv(1, 2), GAP]),
    "column filter beside a pool": (
        (2, 1, 1),
        [residual(pool(2, 1), DENSE, shortcut=[conv(2, 1)]), FLATTEN],
    ),
    "two tori and none": (
        (4, 4, 1),
        [residual(conv(2, 1, padding="SAME"), shortcut=[conv(3, 1)]), GAP],
    ),
    # A store is read where the residual ends; one made of it is read before that.
    "pool, then a residual that pools": (
        (4, 4, 1),
        [conv(3, 3), POOL, residual(POOL, conv(3, 3), RELU, conv(3, 3)), GAP],
    ),
    "pools of one pixel": (
        (1, 1, 1),
        [conv(1, 1), pool(1, 1), residual(pool(1, 1), DENSE), GAP],
    ),
    "pool, then a residual whose branch and shortcut pool": (
        (5, 4, 2),
        [conv(3, 3), POOL, residual(POOL, conv(3, 3), shortcut=[POOL, POOL]), RELU, GAP],
    ),
    "pool, then nested residuals that pool": (
        (4, 5, 1),
        [
            conv(2, 3), POOL,
            residual(POOL, residual(POOL, conv(3, 3)), RELU, DENSE),
            residual(residual(POOL, POOL, DENSE), conv(1, 3)),
            FLATTEN,
        ],
    ),
    "pooled input, then a residual that sums windows": (
        (4, 4, 2),
        [POOL, residual(SUM, DENSE, RELU, DENSE, shortcut=[SUM, SUM, DENSE]), GAP],
    ),
    "pool, then a residual that pools and goes round": (
        (4, 4, 1),
        [
            conv(3, 3), POOL, residual(POOL, conv(3, 3, padding="SAME"), RELU, conv(3, 2)), RELU,
            conv(2, 2, padding="VALID"), POOL, residual(POOL, conv(3, 3)), GAP,
        ],
    ),
    "pool, then repeats of a residual that pools": (
        (4, 3, 1),
        [conv(3, 3), POOL, *[residual(POOL, RELU, conv(3, 3))] * 3, FLATTEN],
    ),
    "strides, then a residual that pools": (
        (6, 6, 1),
        [
            conv(3, 3, padding="SAME", strides=(2, 2)), POOL,
            residual(POOL, conv(2, 2, padding="SAME")), RELU,
            conv(3, 3, strides=(3, 3)), POOL, residual(POOL, DENSE), GAP,
        ],
    ),
    "variances behind a residual that pools": (
        (3, 4, 1),
        [conv(3, 3), POOL, residual(POOL, POOL, DENSE), RELU, DENSE, {"layer": "LayerNorm"}, GAP],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("own", [True, False], ids=["own", "cross"])
def test_case(name: str, own: bool) -> None:
    shape, layers = CASES[name]
    network = load(shape, *layers)
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((3, *shape)), None if own else rng.standard_normal((2, *shape))
    wanted = reference.kernel(network, x, y)
    second = None if y is None else open_source(y)
    evaluator = CpuEvaluator(job(network, x, second, threads=1))
    found = evaluator.tile(range(3), range(3 if own else 2), own)
    for key, value in found.items():
        want = getattr(wanted, key)
        # a few layers of sums of order one in another order
        np.testing.assert_allclose(value, want, rtol=0, atol=1e-13 * np.abs(want).max())
