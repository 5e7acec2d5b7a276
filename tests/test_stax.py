"""``widegram.stax``: return types, what maps to which layer, and everything that is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import widegram
from widegram import WidegramError, stax
from widegram.network.layers import Activation, Conv, Dense, Pool, Repeat, Residual

X = np.random.default_rng(0).standard_normal((5, 4))
IMAGES = np.random.default_rng(1).standard_normal((3, 5, 4, 2))
NETWORK = stax.serial(stax.Dense(512, 1.2, 0.1), stax.Relu(), stax.Dense(1))
# One dtype's rounding, a few operations deep.
EXACT = 1e-12


def refused(message: str, call: Any) -> None:
    with pytest.raises(WidegramError, match=message):
        call()


class TestKernelFn:
    def test_string_gives_an_array(self) -> None:
        ntk = NETWORK[2](X, X[:2], "ntk")
        expected = widegram.kernel(NETWORK[2].network((4,)), X, X[:2], "ntk")
        np.testing.assert_array_equal(ntk, expected)
        assert ntk.dtype == np.float64
        np.testing.assert_array_equal(NETWORK[2](X, X[:2], "NTK"), ntk)

    def test_tuple_gives_a_named_tuple_in_the_order_asked(self) -> None:
        both = NETWORK[2](X, None, ("ntk", "cov1", "nngp"))
        assert type(both).__name__ == "AnalyticKernel"
        assert both._fields == ("ntk", "cov1", "nngp")
        np.testing.assert_array_equal(both.cov1, np.diag(both.nngp))

    def test_none_gives_an_object(self) -> None:
        kernel = NETWORK[2](X, X[:2] + 1)
        assert isinstance(kernel, stax.Kernel)
        assert kernel.nngp.shape == kernel.ntk.shape == (5, 2)
        assert not kernel.x1_is_x2
        own = NETWORK[2](X[:2] + 1, None, "nngp")
        np.testing.assert_allclose(kernel.cov2, np.diag(own), rtol=EXACT)
        np.testing.assert_allclose(kernel.cov1, np.diag(NETWORK[2](X).nngp), rtol=EXACT)

    def test_x2_equal_to_x1_is_symmetric(self) -> None:
        kernel = NETWORK[2](X, X.copy())
        assert kernel.x1_is_x2
        np.testing.assert_array_equal(kernel.nngp, kernel.nngp.T)
        np.testing.assert_array_equal(kernel.cov2, kernel.cov1)
        assert NETWORK[2](X).cov2 is None

    def test_dropout_sees_equal_inputs(self) -> None:
        fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dropout(0.5), stax.Dense(1))[2]
        np.testing.assert_array_equal(fn(X, X.copy(), "ntk"), fn(X, None, "ntk"))
        assert not np.allclose(np.diag(fn(X, None, "ntk")), np.diag(fn(X, X + 1e-9, "ntk")))

    def test_kernel_of_a_kernel_continues_the_network(self) -> None:
        whole = stax.serial(NETWORK, stax.Relu(), stax.Dense(1))[2](X, X[1:])
        top = stax.serial(stax.Relu(), stax.Dense(1))[2]
        continued = top(NETWORK[2](X, X[1:]))
        for name in ("nngp", "ntk", "cov1", "cov2"):
            np.testing.assert_allclose(
                getattr(continued, name), getattr(whole, name), rtol=EXACT
            )
        refused("without x2", lambda: top(NETWORK[2](X), X))

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [("f4", "f4", "f4"), ("f4", "f8", "f8"), ("f2", None, "f4"), ("i8", None, "f8")],
    )
    def test_dtype_follows_the_inputs(self, first: str, second: str | None, expected: str) -> None:
        x1 = X.astype(first)
        kernel = NETWORK[2](x1, None if second is None else X[:2].astype(second))
        assert {kernel.nngp.dtype, kernel.ntk.dtype, kernel.cov1.dtype} == {np.dtype(expected)}

    def test_any_array_like_of_other_libraries(self) -> None:
        class Foreign:
            def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
                return X

        np.testing.assert_array_equal(NETWORK[2](Foreign(), None, "nngp"), NETWORK[2](X).nngp)

    @pytest.mark.parametrize(
        ("message", "arguments"),
        [
            ("x1 is a list", ([[1.0]],)),
            ("shape \\(5, 4, 1, 1, 1\\).*\\(n, L, C\\)", (X[..., None, None, None],)),
            ("complex", (X + 1j,)),
            ("rows must have one shape", (X, X[:, :2])),
            ("get is empty", (X, None, ())),
            ("twice", (X, None, ("ntk", "NTK"))),
            ("get='shape' is not supported", (X, None, "shape")),
            ("NaN", (X * np.nan,)),
        ],
    )
    def test_bad_arguments(self, message: str, arguments: tuple[Any, ...]) -> None:
        refused(message, lambda: NETWORK[2](*arguments))

    def test_options_without_meaning(self) -> None:
        fn = NETWORK[2]
        # As neural-tangents': layers other than Aggregate let patterns pass.
        same = fn(X, pattern=(np.ones((len(X), 2, 2)), None))
        np.testing.assert_array_equal(same.nngp, fn(X).nngp)
        refused("diagonal_batch", lambda: fn(X, diagonal_batch=False))
        fn(X, diagonal_batch=True, diagonal_spatial=True)
        pooled = stax.serial(stax.Conv(1, (2, 2)), stax.GlobalAvgPool())[2]
        refused("diagonal_spatial", lambda: pooled(IMAGES, diagonal_spatial=True))
        with pytest.raises(TypeError, match="rng"):
            fn(X, rng=0)

    def test_ntk_of_a_kernel_made_without_it(self) -> None:
        kernel = NETWORK[2](X)
        refused("without ntk", lambda: NETWORK[2](kernel.replace(ntk=None), None, "ntk"))
        assert NETWORK[2](kernel.replace(ntk=None)).ntk is None

    def test_finite_networks_are_refused_with_the_alternative(self) -> None:
        init_fn, apply_fn, _ = NETWORK
        refused("init_fn: .*neural_tangents", lambda: init_fn(0, (1, 2)))
        refused("apply_fn: .*widegram.predict", lambda: apply_fn((), X))


class TestStructure:
    def layers(self, *triples: Any) -> Any:
        return stax.serial(*triples)[2].network((8, 8, 3)).layers

    def test_serial_nests(self) -> None:
        inner = stax.serial(stax.Conv(1, (3, 3)), stax.serial(stax.Relu()))
        assert self.layers(inner, stax.Flatten())[:2] == (Conv((3, 3)), Activation("Relu"))

    def test_repeat(self) -> None:
        block = stax.serial(stax.Dense(1), stax.Erf())
        (repeat, _) = self.layers(stax.repeat(block, 3), stax.Flatten())
        assert isinstance(repeat, Repeat)
        assert repeat.times == 3
        once = stax.serial(stax.repeat(block, 0), stax.Flatten())[2]
        np.testing.assert_allclose(
            once(IMAGES, None, "nngp"), stax.Flatten()[2](IMAGES, None, "nngp"), rtol=EXACT
        )
        refused("n must be an integer", lambda: stax.repeat(block, -1))

    def test_branches_may_stand_in_several_serials(self) -> None:
        fan = stax.serial(stax.Conv(1, (1, 1)), stax.FanOut(2))
        a = stax.parallel(stax.Relu(), stax.Identity())
        b = stax.serial(stax.parallel(stax.Dense(1), stax.Identity()), stax.FanInSum())
        residual = self.layers(fan, a, b, stax.Flatten())[1]
        assert residual == Residual((Activation("Relu"), Dense()), ())

    def test_one_branch_is_no_branch(self) -> None:
        layers = self.layers(
            stax.FanOut(1), stax.parallel(stax.Dense(1)), stax.FanInSum(), stax.Flatten()
        )
        assert layers[0] == Dense()

    @pytest.mark.parametrize(
        ("message", "build"),
        [
            ("FanInSum: nothing to join", lambda: (stax.FanInSum(),)),
            ("FanInProd: nothing to join", lambda: (stax.FanInProd(),)),
            ("left open", lambda: (stax.FanOut(2),)),
            ("put it into a branch", lambda: (stax.FanOut(2), stax.Relu())),
            ("follows another FanOut", lambda: (stax.FanOut(2), stax.FanOut(2))),
            ("put stax.FanOut before it", lambda: (stax.parallel(stax.Relu()),)),
            ("1 branches for the 2", lambda: (stax.FanOut(2), stax.parallel(stax.Relu()))),
            ("input must be Gaussian", lambda: (stax.Dense(1), stax.Relu(), stax.Relu())),
            ("output is still an image", lambda: (stax.Conv(1, (3, 3)),)),
        ],
    )
    def test_what_does_not_fit(self, message: str, build: Any) -> None:
        refused(message, lambda: self.layers(*build()))

    def test_arguments_of_combinators(self) -> None:
        refused("argument 2 must be .*call it", lambda: stax.serial(stax.Dense(1), stax.Relu))
        refused("argument 1 must be", lambda: stax.parallel((None, None, None)))
        refused("num must be", lambda: stax.FanOut(0))


class TestLayers:
    def test_widths_are_ignored(self) -> None:
        narrow = stax.Conv(1, (3, 3), W_std=1.5, b_std=0.1)
        wide = stax.Conv(4096, [3, 3], None, "VALID", np.float32(1.5), 0.1, s=(2, 2))
        narrow, wide = (stax.serial(one, stax.Flatten())[2] for one in (narrow, wide))
        assert narrow.network((5, 5, 3)) == wide.network((5, 5, 3))

    def test_padding_as_enumeration_or_text(self) -> None:
        pool = stax.AvgPool((2, 2), padding=stax.Padding.CIRCULAR)[2]
        assert pool.items == stax.AvgPool((2, 2), padding="CIRCULAR")[2].items
        assert pool.items == (Pool("avg", (2, 2), padding="CIRCULAR"),)

    def test_known_dimension_numbers(self) -> None:
        same = stax.Conv(1, (3, 3), dimension_numbers=("NHWC", "HWIO", "NHWC"))[2]
        assert same.items == stax.Conv(1, (3, 3))[2].items

    def test_dropout_in_test_mode_is_nothing(self) -> None:
        fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dropout(0.3, "test"), stax.Dense(1))[2]
        plain = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))[2]
        np.testing.assert_array_equal(fn(X, None, "ntk"), plain(X, None, "ntk"))

    @pytest.mark.parametrize(
        "name",
        ["Tanh", "Sigmoid", "Softplus", "Swish", "Silu", "Mish", "Softsign", "Arctan", "Elu"],
    )
    def test_smooth_activations_beyond_the_peer(self, name: str) -> None:
        fn = stax.serial(stax.Dense(1), getattr(stax, name)(), stax.Dense(1))[2]
        expected = widegram.kernel(
            {"input_shape": [4], "layers": [{"layer": n} for n in ("Dense", name, "Dense")]}, X
        )
        np.testing.assert_array_equal(fn(X).ntk, expected.ntk)

    @pytest.mark.parametrize(
        ("message", "call"),
        [
            ("Dense: parameterization", lambda: stax.Dense(1, parameterization="mup")),
            ("Conv: s must be", lambda: stax.Conv(1, (3, 3), parameterization="standard", s=(1,))),
            ("Dense: width must be", lambda: stax.Dense(0, parameterization="standard")),
            ("ConvLocal: W_rate must be", lambda: stax.ConvLocal(1, (3, 3), W_rate=-1)),
            ("Conv: filter_shape=\\(3, 3, 3\\)", lambda: stax.Conv(1, (3, 3, 3))),
            ("Conv: strides \\(2,\\) and window \\(3, 3\\)", lambda: stax.Conv(1, (3, 3), (2,))),
            ("Conv: padding must be", lambda: stax.Conv(1, (3, 3), padding="REFLECT")),
            ("Conv: W_std", lambda: stax.Conv(1, (3, 3), W_std=-1)),
            ("AvgPool: window_shape=", lambda: stax.AvgPool((2, 2, 2))),
            ("LayerNorm: eps must be > 0", lambda: stax.LayerNorm(eps=0)),
            ("Dropout: mode", lambda: stax.Dropout(0.5, "eval")),
            ("Dropout: rate", lambda: stax.Dropout(0.0)),
            ("Gaussian: b must be", lambda: stax.Gaussian(2, "x")),
            ("Exp: a must be", lambda: stax.Exp(np.inf)),
            ("ExpNormalized: gamma must be >= 0", lambda: stax.ExpNormalized(-1)),
            ("ExpNormalized: gamma must be <= 1e", lambda: stax.ExpNormalized(1e7)),
            ("ExpNormalized: gamma .1 . shift", lambda: stax.ExpNormalized(10, 10)),
            ("ExpNormalized: do_clip must be", lambda: stax.ExpNormalized(1, 1, "yes")),
            ("Hermite: degree must be an integer from 0 to 64", lambda: stax.Hermite(-1)),
            ("Monomial: degree must be an integer", lambda: stax.Monomial(2.5)),
            ("Monomial: degree must be an integer", lambda: stax.Monomial(True)),
            ("RectifiedMonomial: degree .* from 0 to 16", lambda: stax.RectifiedMonomial(17)),
            ("Polynomial: coef must be a list of 1 to 65", lambda: stax.Polynomial([])),
            ("Polynomial: coef must be .*, found nan", lambda: stax.Polynomial([1, np.nan])),
            ("Polynomial: coef must be a list", lambda: stax.Polynomial("123")),
        ],
    )
    def test_refused_arguments(self, message: str, call: Any) -> None:
        refused(message, call)

    def test_a_name_that_nobody_has(self) -> None:
        with pytest.raises(AttributeError, match="BatchNorm"):
            stax.BatchNorm  # noqa: B018


def test_import_stays_light() -> None:
    code = (
        "import sys; import widegram; from widegram import stax; "
        "f = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1)); "
        "print([m for m in ('numba', 'h5py') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_arrays_are_no_integers_and_no_flags() -> None:
    several = np.ones((2, 2))
    standard = {"parameterization": "standard"}
    refused("width must be", lambda: stax.Dense(several, **standard))
    assert stax.Dense(several)[2](X).nngp.shape == (len(X), len(X))  # of no meaning in 'ntk'
    refused("filter_shape must be", lambda: stax.Conv(1, (several, 2)))
    refused("normalize_edges must be", lambda: stax.AvgPool((2, 2), None, "SAME", several))
    refused("deg must be", lambda: stax.ElementwiseNumerical(np.tanh, several))
    refused("mode", lambda: stax.Dropout(0.5, several))
    refused("padding must be", lambda: stax.AvgPool((2, 2), None, several))
    refused("batch_axis_out must be", lambda: stax.Flatten(0, several))
    image = stax.serial(stax.Conv(1, (1, 1)))[2]
    refused("diagonal_spatial must", lambda: image(np.ones((1, 2, 2, 1)), diagonal_spatial=several))
    refused("x1 is empty", lambda: image(np.ones((0, 2, 2, 1))))
