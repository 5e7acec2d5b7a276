"""Mistakes in the arguments of ``widegram.predict`` are named; nothing of NumPy's shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from widegram import WidegramError, stax
from widegram.predict import (
    gp_inference,
    gradient_descent_mse,
    gradient_descent_mse_ensemble,
    max_learning_rate,
)

RNG = np.random.default_rng(5)
X, X_TEST, Y = RNG.standard_normal((9, 4)), RNG.standard_normal((3, 4)), RNG.standard_normal((9, 2))
KERNEL_FN = stax.serial(stax.Dense(1, 1.5, 0.1), stax.Erf(), stax.Dense(1))[2]
K, CROSS = KERNEL_FN(X, None, "ntk"), KERNEL_FN(X_TEST, X, "ntk")
HOLE = np.where(np.arange(81).reshape(9, 9) == 12, np.nan, K)
LOPSIDED = K + np.triu(np.full((9, 9), 0.1), 1)


def ensemble(y: Any = Y, x: Any = X, t: Any = None, **options: Any) -> Any:
    made = gradient_descent_mse_ensemble(KERNEL_FN, x, y, diag_reg=0.1, **options)
    return made(t=t, x_test=X_TEST, get="ntk")


CASES: dict[str, tuple[str, Callable[[], Any]]] = {
    "flat y": ("y_train has shape .*y_train\\[:, None\\]", lambda: gp_inference(K, Y[:, 0])),
    "flat y, flow": ("y_train\\[:, None\\]", lambda: gradient_descent_mse(K, Y[:, 0])),
    "flat y, ensemble": ("y_train\\[:, None\\]", lambda: ensemble(Y[:, 0])),
    "few y": ("number of training points", lambda: gp_inference(K, Y[:7])(get="ntk")),
    "few y, flow": ("number of training points", lambda: gradient_descent_mse(K, Y[:7])(1.0)),
    "few y, ensemble": ("x_train has 9 rows", lambda: ensemble(Y[:7])),
    "no y": ("must hold rows", lambda: gp_inference(K, np.zeros((0, 2)))),
    "NaN in y": (
        "y_train holds nan at \\[0, 0\\]",
        lambda: gp_inference(K, np.full((9, 2), np.nan)),
    ),
    "text as y": ("y_train holds <U1", lambda: gp_inference(K, np.full((9, 2), "a"))),
    "ragged y": ("y_train is not an array", lambda: gp_inference(K, [[1.0], [1.0, 2.0]])),
    "masked y": ("y_train is a masked array", lambda: ensemble(np.ma.masked_less(Y, 0))),
    "masked K": ("masked array", lambda: gp_inference(np.ma.masked_less(K, 0.5), Y)(get="ntk")),
    "masked x": ("x2 is a masked array", lambda: ensemble(x=np.ma.masked_less(X, 0))),
    "hole": ("k_train_train holds nan at \\[1, 3\\]", lambda: gp_inference(HOLE, Y)(get="ntk")),
    "hole, flow": ("k_train_train holds nan", lambda: gradient_descent_mse(HOLE, Y)()),
    "hole in cross": (
        "k_test_train holds nan",
        lambda: gp_inference(K, Y)(get="ntk", k_test_train=HOLE),
    ),
    "asymmetric": ("not symmetric: \\[0, 1\\]", lambda: gp_inference(LOPSIDED, Y)(get="ntk")),
    "not square": ("must be square", lambda: gp_inference(CROSS, Y)(get="ntk")),
    "transposed": ("; transpose it", lambda: gp_inference(K, Y)(get="ntk", k_test_train=CROSS.T)),
    "transposed, flow": (
        "; transpose it",
        lambda: gradient_descent_mse(K, Y)(1.0, 0.0, 0.0, CROSS.T),
    ),
    "k_test_test of training": (
        "k_test_test has shape \\(9, 9\\).* 3 test points",
        lambda: gp_inference(K, Y)(get="ntkgp", k_test_train=CROSS, k_test_test=K),
    ),
    "no times": ("t is empty", lambda: gradient_descent_mse(K, Y)([], 0.0, 0.0, CROSS)),
    "no times, ensemble": ("t is empty", lambda: ensemble(t=[])),
    "NaN time": ("negative time or NaN", lambda: gradient_descent_mse(K, Y)(np.nan)),
    "negative time": ("negative time", lambda: ensemble(t=[1.0, -1.0])),
    "rate": ("learning_rate is nan", lambda: gradient_descent_mse(K, Y, learning_rate=np.nan)),
    "rate of text": ("learning_rate is 'fast'", lambda: ensemble(learning_rate="fast")),
    "fx_train_0": (
        "fx_train_0 has shape \\(5,\\), the outputs \\(9, 2\\)",
        lambda: gradient_descent_mse(K, Y)(1.0, np.zeros(5)),
    ),
    "fx_test_0": (
        "fx_test_0 has shape \\(9, 2\\), the outputs \\(3, 2\\)",
        lambda: gradient_descent_mse(K, Y)(1.0, 0.0, Y, CROSS),
    ),
    "trace axis of rows": ("trace_axes=\\(0,\\)", lambda: gp_inference(K, Y, trace_axes=0)),
    "trace axis beyond": ("trace_axes=\\(-5,\\)", lambda: gp_inference(K, Y, trace_axes=(-5,))),
    "no diag_reg": ("diag_reg is nan", lambda: gp_inference(K, Y, np.nan)),
    "kernel_fn": ("kernel_fn is a list", lambda: gradient_descent_mse_ensemble([], X, Y)),
    "get": ("get=5", lambda: gp_inference(K, Y)(get=5)),
    "learning rate, not square": ("not square", lambda: max_learning_rate(CROSS, 5)),
    "learning rate, NaN": ("holds nan", lambda: max_learning_rate(HOLE, 9)),
    "learning rate, momentum": ("momentum is nan", lambda: max_learning_rate(K, 9, np.nan)),
    "learning rate, size": ("y_train_size is 0", lambda: max_learning_rate(K, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_name_the_argument(name: str) -> None:
    message, call = CASES[name]
    with pytest.raises(WidegramError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_infinite_times_are_the_limit() -> None:
    flow, whole = gradient_descent_mse(K, Y), (None, 0.0, 0.0, CROSS)
    limit = flow(*whole)[1]
    at = flow([1.0, np.inf], 0.0, 0.0, CROSS)[1]
    # The same system by the same factor.
    np.testing.assert_allclose(at[1], limit, rtol=1e-12)
    assert not np.allclose(at[0], limit)
    np.testing.assert_allclose(ensemble(t=np.inf), ensemble(), rtol=1e-12)


def test_an_unmasked_masked_array_is_an_array() -> None:
    found = gp_inference(np.ma.masked_array(K), np.ma.masked_array(Y))(get="ntk")
    np.testing.assert_array_equal(found, Y)
