"""ConvLocal: convolutions whose filters and biases are not shared between locations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agreement import PROMISED, cpu_agrees, generated_agrees
from jobs import job
from network_specs import DENSE, FLATTEN, GAP, RELU, load, residual
from widegram import reference, stax
from widegram.plan import build
from widegram.plan.masks import displacements

GOLDEN = Path(__file__).parent / "golden_local" / "values.npz"
PADDINGS = ("SAME", "VALID", "CIRCULAR")


def conv(name: str, rows: int, cols: int, padding: str = "SAME", strides: Any = (1, 1)) -> dict:
    return {
        "layer": name, "filter_shape": [rows, cols], "padding": padding, "strides": list(strides),
        "W_std": 1.3, "b_std": 0.2,
    }  # fmt: skip


def local(*args: Any, **kwargs: Any) -> dict:
    return conv("ConvLocal", *args, **kwargs)


def shared(*args: Any, **kwargs: Any) -> dict:
    return conv("Conv", *args, **kwargs)


def pool(*window: int) -> dict:
    return {"layer": "AvgPool", "window_shape": list(window), "strides": list(window)}


CASES: dict[str, tuple[tuple[int, int, int], list[dict]]] = {
    "first": ((4, 5, 2), [local(3, 3), RELU, shared(3, 3), {"layer": "Erf"}, GAP]),
    "flatten": ((4, 5, 2), [shared(3, 3), RELU, local(3, 3), RELU, FLATTEN, DENSE]),
    "last, without an activation": ((4, 4, 1), [shared(3, 3), RELU, local(3, 3), GAP]),
    "one pixel": ((1, 1, 3), [local(1, 1), RELU, local(1, 1), RELU, GAP]),
    "norm": ((3, 4, 2), [local(3, 3), {"layer": "LayerNorm"}, RELU, shared(2, 2), GAP]),
    "between pools": ((6, 4, 1), [shared(3, 3), RELU, pool(2, 2), local(2, 2), RELU, pool(3, 1),
                                  local(1, 1), GAP]),
    "sum with a window": ((4, 4, 1), [shared(3, 3), residual(RELU, local(3, 3)),
                          residual(RELU, shared(3, 3), shortcut=[local(3, 3)]), RELU, GAP]),
    "beside a pool": ((4, 4, 1), [shared(3, 3), residual(RELU, local(2, 2, strides=(2, 2)),
                      shortcut=[pool(2, 2), shared(1, 1)]), GAP]),
    "before a smaller torus": ((5, 5, 1), [local(3, 3), RELU, shared(3, 3, "VALID"), RELU,
                               shared(3, 3, "CIRCULAR"), RELU, GAP]),
    **{
        f"{padding}, strides": ((6, 5, 1), [shared(3, 3, padding), RELU,
                                local(3, 2, padding, (2, 1)), RELU, shared(2, 2, "CIRCULAR"),
                                RELU, GAP])
        for padding in PADDINGS
    },
    **{
        f"{padding}, twice": ((5, 6, 1), [local(2, 2, padding), RELU, local(2, 3, padding), RELU,
                              shared(2, 2, padding), RELU, GAP])
        for padding in PADDINGS
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    cpu_agrees(*CASES[name], dtype)


@pytest.mark.parametrize("name", CASES)
def test_generated_kernels_and_reference_agree(name: str) -> None:
    generated_agrees(*CASES[name])


@pytest.mark.parametrize("padding", PADDINGS)
def test_reference_meets_neural_tangents(padding: str) -> None:
    """Values of neural-tangents 0.6.5 (golden_local/README.md)."""
    golden = np.load(GOLDEN)
    strides, end = golden[f"{padding}/strides"].tolist(), str(golden[f"{padding}/end"])
    layers = [
        local(3, 2, padding, strides), RELU, local(2, 2, padding), RELU, shared(2, 2, padding),
        RELU, {"layer": end}, DENSE,
    ]  # fmt: skip
    x1, x2 = golden["x1"], golden["x2"]
    request = job(load(x1.shape[1:], *layers), x1, x2)  # fmt: skip
    found = reference.ReferenceEvaluator(request).tile(range(len(x1)), range(len(x2)), False)
    for kernel in ("nngp", "ntk"):
        # both in float64, eight layers
        np.testing.assert_allclose(found[kernel], golden[f"{padding}/{kernel}"], rtol=1e-11)


def test_nothing_but_equal_pixels_is_computed_before_it() -> None:
    plan = build(load((6, 5, 2), shared(3, 3), RELU, shared(3, 3), RELU, local(3, 3), RELU, GAP))
    before = [displacements(mask).tolist() for mask in plan.cross.masks[:5]]
    assert before == [[[0, 0]]] * 5
    pixels = 6 * 5
    # two layers of equal pixels; of the third all pairs of pixels
    assert plan.element_layers == 2 * pixels + pixels**2


def test_stax_makes_the_same_network() -> None:
    _, _, kernel_fn = stax.serial(
        stax.ConvLocal(7, (3, 2), (2, 1), "CIRCULAR", 1.3, 0.2), stax.Relu(), stax.GlobalAvgPool()
    )
    wanted = load((6, 5, 2), local(3, 2, "CIRCULAR", (2, 1)), RELU, GAP)
    assert kernel_fn.network((6, 5, 2)) == wanted
