"""Masks of the drop-in's kernel_fn and of its Kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mask_examples
from widegram import stax
from widegram.errors import WidegramError


def test_kernel_fn_reads_masks_in_the_dtype_of_its_inputs() -> None:
    _, _, kernel_fn = stax.serial(stax.Dense(1, 1.0, 0.2), stax.Relu(), stax.Dense(1))
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float16)
    x[1] = 0.1
    found = kernel_fn(x, None, "nngp", mask_constant=0.1)
    assert found.dtype == np.float32
    assert not found[1].any()
    assert found[0, 0] > 0
    whole = np.array([[1, -1], [2, 3]])
    assert kernel_fn(whole, None, mask_constant=-1).mask1.tolist() == [[False], [False]]
    assert kernel_fn(whole, None, ("mask1", "mask2"), mask_constant=9) == (
        pytest.approx(np.zeros((2, 1))), None
    )  # fmt: skip
    assert kernel_fn(x).mask1 is None


@pytest.mark.parametrize(("mask1", "message"), [
    (np.zeros((3, 1)), "mask1 holds float64; it must be boolean, True where masked"),
    (np.zeros((2, 1), bool), r"mask1 has shape \(2, 1\); it must be \(3, 1\)"),
    (np.zeros(3, bool), r"mask1 has shape \(3,\); it must be \(3, 1\)"),
    (np.zeros((3, 2), bool), r"mask1 has shape \(3, 2\); it must be \(3, 1\)"),
])  # fmt: skip
def test_masks_of_a_kernel_are_checked(mask1: Any, message: str) -> None:
    _, _, kernel_fn = stax.Dense(1)
    made = kernel_fn(np.eye(3))
    with pytest.raises(WidegramError, match=f"^Kernel.mask: {message}$"):
        made.mask(mask1, None)
    if mask1.ndim == 2 and mask1.shape != (3, 2):
        with pytest.raises(WidegramError, match=f"^kernel_fn: mask1 of the Kernel {message[6:]}$"):
            kernel_fn(made.replace(mask1=mask1))


def test_kernels_keep_their_masks() -> None:
    x1, x2 = mask_examples.holed("kept", (4, 5, 2), np.nan)
    _, _, kernel_fn = stax.serial(stax.Conv(1, (3, 3), padding="SAME"), stax.Relu())
    made = kernel_fn(x1, x2, mask_constant=np.nan)
    assert made.mask1.shape == (3, 4, 5, 1)
    assert made.mask2.shape == (2, 4, 5, 1)
    turned = made.transpose((1, 0))
    np.testing.assert_array_equal(turned.mask1, made.mask1.transpose(0, 2, 1, 3))
    again = made.reverse().mask(made.mask1, made.mask2).reverse()
    for field in ("nngp", "ntk", "cov1", "cov2"):
        np.testing.assert_array_equal(getattr(again, field), getattr(made, field))
    same = kernel_fn(x1, mask_constant=np.nan)
    part = same.slice(slice(0, 1), slice(1, 3))
    np.testing.assert_array_equal(part.mask1, made.mask1[:1])
    np.testing.assert_array_equal(part.mask2, made.mask1[1:])
    on_equal_pixels = kernel_fn(x1, x2, diagonal_spatial=True, mask_constant=np.nan)
    again = on_equal_pixels.mask(made.mask1, made.mask2)
    np.testing.assert_array_equal(again.nngp, on_equal_pixels.nngp)


def test_a_mask_that_hides_all_hides_all() -> None:
    x = np.random.default_rng(2).standard_normal((3, 4, 5, 2))
    made = stax.Conv(1, (3, 3))[2](x)
    rows = np.array([True, False, True]).reshape(3, 1, 1, 1)
    hidden = made.mask(np.broadcast_to(rows, (3, 2, 3, 1)), None)
    assert not hidden.nngp[0].any()
    assert not hidden.nngp[:, 2].any()
    assert not hidden.cov1[0].any()
    np.testing.assert_array_equal(hidden.nngp[1, 1], made.nngp[1, 1])
