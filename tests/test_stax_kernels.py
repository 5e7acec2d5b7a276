"""``stax.Kernel``: fields, methods, kernels of images, and going on from a Kernel.

``golden_kernels/values.npz`` was written by neural-tangents 0.6.5 (``golden_kernels/README.md``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernel_examples
import widegram
from widegram import WidegramError, predict, stax
from widegram.reference import pieces

GOLDEN = Path(__file__).parent / "golden_kernels" / "values.npz"
IMAGES, VECTORS = kernel_examples.IMAGES, kernel_examples.VECTORS
# Of the largest entry, both in float64.
RTOL = 1e-10
# Equal pixels of equal images, behind Relu: neural-tangents takes the acos of what rounding leaves
# of 1, and is off by up to 1e-9 there. test_flatten_behind_is_the_mean_over_equal_pixels has these.
COINCIDE = {"images/dropout diagonal same/ntk", "images/residual diagonal same/ntk"}
COINCIDE |= {"images/flat/ntk", "images/valid diagonal same/ntk"}
# The same a few layers deep.
EXACT = 1e-12

CONV = stax.Conv(1, (3, 3), padding="SAME", W_std=1.3, b_std=0.2)
RELU = stax.Relu()
DENSE = stax.Dense(1, 1.2, 0.1)
IMAGE = stax.serial(CONV, RELU, CONV)[2]


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def check(found: dict[str, np.ndarray], prefix: str) -> None:
    expected = {name: v for name, v in stored().items() if name.startswith(prefix)}
    assert sorted(found) == sorted(expected)
    wrong = {}
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        largest = np.max(np.abs(value), initial=1e-300)
        error = np.max(np.abs(found[name] - value), initial=0.0) / largest
        if not error <= (1e-9 if name in COINCIDE else RTOL):
            wrong[name] = float(error)
    assert not wrong


@pytest.mark.parametrize("family", kernel_examples.FAMILIES)
def test_stored_values(family: str) -> None:
    check(kernel_examples.run(stax, [family]), f"{family}/")


def close(found: Any, expected: Any, rtol: float = EXACT) -> None:
    assert np.shape(found) == np.shape(expected)
    assert np.max(np.abs(found - expected)) <= rtol * np.max(np.abs(expected))


NONE = ((), ()), ((), ())
FIRST, BATCH, SIDE = (((0,), (1,)), ((), ())), (((0,), (0,)), ((), ())), (((), ()), ((0,), (0,)))


class TestImages:
    def test_flatten_behind_is_the_mean_over_equal_pixels(self) -> None:
        flat = stax.serial(CONV, RELU, CONV, stax.Flatten())[2]
        for x in ((IMAGES[:2], IMAGES[1:]), (IMAGES, IMAGES)):
            whole, pixels = flat(*x), IMAGE(*x, diagonal_spatial=True)
            for field in kernel_examples.ARRAYS:
                close(getattr(pixels, field).mean(axis=(-2, -1)), getattr(whole, field))

    def test_a_global_pool_behind_is_the_mean_over_pairs(self) -> None:
        whole = stax.serial(CONV, RELU, CONV, stax.GlobalAvgPool())[2](IMAGES)
        pixels = IMAGE(IMAGES)
        assert pixels.nngp.shape == (3, 3, 4, 4, 5, 5)
        close(pixels.nngp.mean(axis=(2, 3, 4, 5)), whole.nngp)
        close(pixels.ntk.mean(axis=(2, 3, 4, 5)), whole.ntk)
        close(pixels.cov1.mean(axis=(1, 2, 3, 4)), whole.cov1)

    def test_equal_pixels_are_those_of_all_pairs(self) -> None:
        every, equal = IMAGE(IMAGES), IMAGE(IMAGES, diagonal_spatial=True)
        np.testing.assert_array_equal(np.einsum("abhhww->abhw", every.ntk), equal.ntk)
        np.testing.assert_array_equal(np.einsum("ahhww->ahw", every.cov1), equal.cov1)

    def test_both_sides_are_exactly_symmetric(self) -> None:
        kernel = IMAGE(IMAGES, IMAGES.copy())
        assert kernel.x1_is_x2
        np.testing.assert_array_equal(kernel.ntk, kernel.ntk.transpose(1, 0, 3, 2, 5, 4))
        np.testing.assert_array_equal(kernel.cov2, kernel.cov1)

    def test_blocks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = IMAGE(IMAGES[:2], IMAGES[1:])
        monkeypatch.setattr(pieces, "_BLOCK_BYTES", 1)  # one pair at a time
        for field in kernel_examples.ARRAYS:
            np.testing.assert_array_equal(
                getattr(IMAGE(IMAGES[:2], IMAGES[1:]), field), getattr(whole, field)
            )

    def test_dtype_follows_the_inputs(self) -> None:
        kernel = IMAGE(IMAGES.astype(np.float32), None, ("nngp", "cov1"))
        assert {kernel.nngp.dtype, kernel.cov1.dtype} == {np.dtype(np.float32)}
        assert IMAGE(IMAGES, None, "nngp").dtype == np.float64

    def test_files_refuse_them_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(WidegramError, match=r"output is still an image .* add Flatten"):
            widegram.gram(IMAGE, IMAGES, out=tmp_path / "k.h5")

    @pytest.mark.parametrize("readout", [stax.AvgPool((2, 2)), stax.GlobalAvgPool()])
    def test_pools_need_what_the_diagonal_leaves_out(self, readout: Any) -> None:
        branch = stax.serial(CONV, readout)
        nested = stax.serial(stax.FanOut(2), stax.parallel(branch, branch), stax.FanInSum())
        for network in (branch, nested, stax.repeat(branch, 1)):
            with pytest.raises(WidegramError, match=r"pairs of pixels that .*Pool needs"):
                network[2](IMAGES, diagonal_spatial=True)
            with pytest.raises(WidegramError, match=r"pairs of pixels that .*Pool needs"):
                network[2](IMAGE(IMAGES, diagonal_spatial=True))

    def test_what_memory_does_not_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pieces, "budget", lambda _: 10**5)
        with pytest.raises(WidegramError, match=r"3 and 3 images need .*; take fewer"):
            IMAGE(IMAGES)

    def test_variances_that_leave_the_range(self) -> None:
        for factor in (1e-155, 1e155):
            with pytest.raises(WidegramError, match="leave the range of float64"):
                stax.serial(stax.Conv(1, (3, 3)), RELU)[2](IMAGES * factor)

    @pytest.mark.parametrize("diagonal", [False, True])
    def test_errors_near_one_are_said_or_refused(
        self, diagonal: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As of networks that end in vectors: a Sign is, four of them are refused."""
        layers = [stax.Conv(1, (1, 1)), stax.Sign()]
        x = np.random.default_rng(0).standard_normal((2, 3, 2, 1))
        options = {"diagonal_spatial": diagonal}
        few, many = (stax.serial(*n * layers)[2] for n in (1, 4))
        few(x, None, "nngp", **options)
        assert "layers[1] Sign: between inputs, or pixels of images, that nearly" in caplog.text
        message = r"layers\[7\] Sign: .* by up to 0.\d+, which is no result"
        with pytest.raises(WidegramError, match=message):
            many(x, None, "nngp", **options)
        assert np.isfinite(many(x, None, "nngp", accept_series_error=0.9, **options)).all()

    def test_what_float32_left_out_of_a_kernel_is_said_behind_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two Signs behind an array of float32: its rounding, and a root of that, and one more."""
        conv, sign = stax.Conv(1, (1, 1)), stax.Sign()
        x = np.random.default_rng(0).standard_normal((2, 3, 2, 1))
        behind = stax.serial(conv, sign, conv, sign)[2]
        kernel = conv[2](x)
        behind(kernel)
        assert "by up to 2e-04" in caplog.text  # 2 / pi sqrt(4 / pi sqrt(32 2^-52))
        behind(conv[2](x.astype(np.float32)))
        assert "by up to 3e-02" in caplog.text

    def test_activations_that_cannot_be_computed(self) -> None:
        rough = stax.serial(stax.Conv(1, (3, 3), W_std=1e8), stax.Erf())[2]
        with pytest.raises(WidegramError, match=r"layers\[1\] Erf: variances up to"):
            rough(IMAGES)
        rough = stax.serial(stax.Conv(1, (3, 3), W_std=1e3), stax.Mish())[2]
        with pytest.raises(WidegramError, match="accept_series_error"):
            rough(IMAGES)
        assert rough(IMAGES, None, "nngp", accept_series_error=1.0).shape[:2] == (3, 3)


class TestGoingOn:
    def test_nothing_is_computed_again(self) -> None:
        kernel = stax.serial(DENSE, RELU, DENSE)[2](VECTORS)
        other = stax.serial(RELU, DENSE)[2](4.0 * kernel)
        close(other.nngp, 16.0 * stax.serial(RELU, stax.Dense(1, 1.2))[2](kernel).nngp + 0.01)

    def test_a_pool_then_more(self) -> None:
        pool, top = stax.AvgPool((2, 2)), stax.serial(RELU, stax.GlobalAvgPool(), DENSE)
        whole = stax.serial(CONV, RELU, CONV, pool, CONV, top)[2](IMAGES)
        gone_on = stax.serial(pool, CONV, top)[2](IMAGE(IMAGES))
        close(gone_on.nngp, whole.nngp)
        close(gone_on.ntk, whole.ntk)

    def test_predictions_from_it(self) -> None:
        top = stax.serial(RELU, DENSE)[2]
        first = DENSE[2]
        train, cross = top(first(VECTORS)), top(first(VECTORS[:2] + 0.1, VECTORS))
        found = predict.gp_inference(train, np.eye(4), 1e-2)("ntk", cross)
        whole = stax.serial(DENSE, RELU, DENSE)[2]
        k, c = whole(VECTORS), whole(VECTORS[:2] + 0.1, VECTORS)
        close(found, predict.gp_inference(k, np.eye(4), 1e-2)("ntk", c), 1e-9)

    def test_fields_may_be_asked_for(self) -> None:
        kernel = DENSE[2](VECTORS)
        found = RELU[2](kernel, None, ("ntk", "is_gaussian", "shape1"))
        assert found._fields == ("ntk", "is_gaussian", "shape1")
        assert found.is_gaussian is False
        assert found.shape1 == (4, 1)
        assert stax.Identity()[2](VECTORS, None, "shape2") == (4, 5)

    def test_float32_arrays_stay_so(self) -> None:
        kernel = RELU[2](DENSE[2](VECTORS.astype(np.float32)))
        assert {kernel.nngp.dtype, kernel.ntk.dtype, kernel.cov1.dtype} == {np.dtype(np.float32)}

    def test_reversed_axes_are_put_in_order(self) -> None:
        kernel, top = IMAGE(IMAGES), stax.serial(RELU, stax.Conv(1, (2, 1)))[2]
        np.testing.assert_array_equal(top(kernel.reverse()).ntk, top(kernel).ntk)

    @pytest.mark.parametrize(
        ("message", "call"),
        [
            ("input must be Gaussian", lambda k: RELU[2](RELU[2](k))),
            ("without x2", lambda k: RELU[2](k, VECTORS)),
            (r"mask1 of the Kernel has shape \(4,\); it must be \(4, 1\)",
             lambda k: RELU[2](k.replace(mask1=np.zeros(4, bool)))),
            ("make it anew", lambda k: RELU[2](k, diagonal_spatial=True)),
            (r"nngp of the Kernel has shape \(2, 4\)", lambda k: RELU[2](cut(k, "nngp"))),
            (r"cov1 of the Kernel has shape \(2,\)", lambda k: RELU[2](cut(k, "cov1"))),
            ("not finite", lambda k: RELU[2](k.replace(cov1=np.full(4, np.nan)))),
            ("needs an image", lambda k: CONV[2](k)),
            ("other2 is missing; give two arrays", lambda k: k.dot_general(1, None, True, NONE)),
            (r"dot_general: dimension_numbers \(\) are", lambda k: k.dot_general(1, 1, True, ())),
            ("other1 has shape .* give as many", lambda k: k.dot_general(1, [1], True, NONE)),
            ("channels take no part in it", lambda k: k.dot_general([1], [1], True, FIRST)),
            ("the batch goes side by side", lambda k: k.dot_general([1], [1], False, BATCH)),
            ("axis 0 of other1, of 3, meets axis 0 of the outputs, of 4",
             lambda k: k.dot_general([1, 2, 3], [1, 2, 3], False, SIDE)),
            ("takes two slices", lambda k: k.slice(0, 1)),
            ("no order of the 0 spatial axes", lambda k: k.transpose((0,))),
            ("divided by 0", lambda k: k / 0.0),
            ("a factor is 'x'", lambda k: k * "x"),
            ("leave the channels whole", lambda k: k[:, :2]),
            ("leave the channels whole", lambda k: k[0]),
            ("leave the channels whole", lambda k: k[:, :, :]),
            ("leave the channels whole", lambda k: k[[0, 1]]),
        ],
    )
    def test_refusals(self, message: str, call: Any) -> None:
        with pytest.raises(WidegramError, match=message) as error:
            call(DENSE[2](VECTORS))
        assert "\n" not in str(error.value)

    def test_products_are_those_of_the_layer(self) -> None:
        """What DotGeneral makes of a Kernel, shapes and masks too."""
        numbers = (((1,), (0,)), ((), ()))
        array = np.array([1.0, 0.0, -0.5, 2.0])
        x1, x2 = IMAGES[:2].copy(), IMAGES[1:].copy()
        x1[0, 1:3], x2[1, :, :2], x2[0, [0, 2]] = np.nan, np.nan, np.nan
        found = IMAGE(x1, x2, mask_constant=np.nan).dot_general(array, array, False, numbers)
        layer = stax.DotGeneral(rhs=array, dimension_numbers=numbers)
        wanted = stax.serial(CONV, RELU, CONV, layer)[2](x1, x2, mask_constant=np.nan)
        for field in kernel_examples.ARRAYS:
            close(getattr(found, field), getattr(wanted, field))
        for field in ("mask1", "mask2", "shape1", "shape2", *kernel_examples.FLAGS):
            np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))

    def test_products_with_arrays_of_two_inputs_are_not_the_same(self) -> None:
        kernel = IMAGE(IMAGES)
        found = kernel.dot_general([1.0, 2.0], [3.0, 1.0], True, NONE)
        assert not found.x1_is_x2
        close(found.cov2[:, 1, 1], kernel.cov1)
        assert (found.batch_axis, found.channel_axis, found.shape2[0]) == (1, 4, 2)
        for method in (lambda k: k.slice(slice(1), slice(1)), lambda k: k[:1], lambda k: RELU[2](k),
                       lambda k: k.transpose(), lambda k: k.mask(None, None)):  # fmt: skip
            with pytest.raises(WidegramError, match="the batch first and channels last"):
                method(found)

    def test_pixels_that_are_not_there_are_not_summed(self) -> None:
        kernel = IMAGE(IMAGES, diagonal_spatial=True)
        with pytest.raises(WidegramError, match="leaves out the pairs of pixels that it sums"):
            kernel.dot_general([1] * 4, [1] * 4, False, (((1,), (0,)), ((), ())))

    def test_an_index_outside(self) -> None:
        with pytest.raises(WidegramError, match="4 is outside an axis of 4"):
            IMAGE(IMAGES)[:, 4]


def cut(kernel: Any, field: str) -> Any:
    return kernel.replace(**{field: getattr(kernel, field)[:2]})


class TestMethods:
    def test_transposed_axes(self) -> None:
        kernel = IMAGE(IMAGES)
        turned = kernel.transpose((1, 0))
        assert turned.shape1 == (3, 5, 4, 1)
        turned_inputs = stax.serial(CONV, RELU, CONV)[2](IMAGES.transpose(0, 2, 1, 3))
        close(turned.ntk, turned_inputs.ntk)
        close(turned.cov1, turned_inputs.cov1)
        np.testing.assert_array_equal(kernel.transpose().nngp, kernel.nngp)
        equal = IMAGE(IMAGES, diagonal_spatial=True).transpose([1, 0])
        close(equal.ntk, np.einsum("abhhww->abhw", turned.ntk))

    def test_reversed_axes(self) -> None:
        kernel = IMAGE(IMAGES)
        back = kernel.reverse()
        assert back.is_reversed
        assert back.nngp.shape == (3, 3, 5, 5, 4, 4)
        np.testing.assert_array_equal(back.reverse().ntk, kernel.ntk)
        np.testing.assert_array_equal(back[:, 1].cov1, kernel[:, 1].cov1)

    def test_slices_of_one_batch_are_two(self) -> None:
        kernel = IMAGE(IMAGES)
        assert kernel.slice(slice(0, 2), slice(0, 2)).x1_is_x2
        assert not kernel.slice(slice(0, 2), slice(1, 3)).x1_is_x2

    def test_records(self) -> None:
        kernel = DENSE[2](VECTORS)
        assert list(kernel.asdict()) == list(widegram.Kernel.__dataclass_fields__)
        assert len(kernel.astuple()) == 16
