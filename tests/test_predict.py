"""The drop-in prediction functions against values stored from neural-tangents."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from linalg_support import write_gram
from widegram import WidegramError
from widegram.predict import (
    gp_inference,
    gradient_descent_mse,
    gradient_descent_mse_ensemble,
    max_learning_rate,
)

Pair = namedtuple("Pair", "nngp ntk")
REGS = [(1e-3, False), (0.05, True)]
# Both sides solve a system of condition number up to 1e5 (after regularisation) in float64.
RTOL = 1e-9


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "golden_predict" / "values.npz") as file:
        return dict(file)


def pairs(stored):
    return tuple(Pair(stored[f"{k}_nngp"], stored[f"{k}_ntk"]) for k in ("dd", "td", "tt"))


def times_of(stored, label):
    return {"inf": None, "one": 2.5, "many": stored["times"]}[label]


def check(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=RTOL * np.abs(expected).max() + 1e-15)


@pytest.mark.parametrize(("reg", "absolute"), REGS)
@pytest.mark.parametrize("mode", ["nngp", "ntk", "ntkgp"])
def test_gp_inference(stored, reg, absolute, mode):
    dd, td, tt = pairs(stored)
    predict = gp_inference(dd, stored["y"], reg, absolute)
    found = predict(mode, td, tt)
    check(found.mean, stored[f"gp_reg{reg:g}_{mode}_mean"])
    check(found.covariance, stored[f"gp_reg{reg:g}_{mode}_cov"])
    check(predict(mode, td), stored[f"gp_reg{reg:g}_{mode}_mean"])


@pytest.mark.parametrize(("reg", "absolute"), REGS)
@pytest.mark.parametrize("label", ["inf", "one", "many"])
def test_gradient_descent_mse(stored, reg, absolute, label):
    predict = gradient_descent_mse(stored["dd_ntk"], stored["y"], 0.7, reg, absolute)
    t = times_of(stored, label)
    train, test = predict(t, stored["f_train"], stored["f_test"], stored["td_ntk"])
    check(train, stored[f"gd_reg{reg:g}_{label}_train"])
    check(test, stored[f"gd_reg{reg:g}_{label}_test"])
    check(predict(t, stored["f_train"]), stored[f"gd_reg{reg:g}_{label}_train"])


@pytest.mark.parametrize(("reg", "absolute"), REGS)
@pytest.mark.parametrize("label", ["inf", "one", "many"])
@pytest.mark.parametrize("where", ["train", "test"])
def test_ensemble(stored, reg, absolute, label, where):
    kernels = dict(zip(("dd", "td", "tt"), pairs(stored), strict=True))
    calls = []

    def kernel_fn(x1, x2, get):
        calls.append(get)
        name = "dd" if len(x1) == 9 else "tt"
        return getattr(kernels[name if x2 is None else "td"], get)

    predict = gradient_descent_mse_ensemble(
        kernel_fn, stored["x_train"], stored["y"], 0.7, reg, absolute
    )
    x_test = stored["x_test"] if where == "test" else None
    both = predict(times_of(stored, label), x_test, None, True)
    assert both._fields == ("nngp", "ntk")
    for mode in ("nngp", "ntk"):
        key = f"en_reg{reg:g}_{label}_{where}_{mode}"
        for found in (getattr(both, mode), predict(times_of(stored, label), x_test, mode, True)):
            check(found.mean, stored[f"{key}_mean"])
            check(found.covariance, stored[f"{key}_cov"])
        check(predict(times_of(stored, label), x_test, mode), stored[f"{key}_mean"])


def test_kernels_with_output_axes(stored):
    predict = gradient_descent_mse(stored["dd4"], stored["y4"], 1.0, 0.01, trace_axes=())
    train, test = predict(stored["times"], 0.0, 0.0, stored["td4"])
    check(train, stored["gd4_train"])
    check(test, stored["gd4_test"])
    check(predict(None, None, 0.0, stored["td4"]), stored["gd4_inf"])
    predict = gradient_descent_mse(stored["dd4"], stored["y4_middle"], 1.0, 0.01, trace_axes=(1,))
    train, test = predict(stored["times"], 0.0, 0.0, stored["td4"])
    check(train, stored["gd4m_train"])
    check(test, stored["gd4m_test"])
    posterior = gp_inference(stored["dd4"], stored["y4_middle"], 0.01, trace_axes=(1,))
    check(posterior("ntk", stored["td4"]), stored["gp4m"])


def test_max_learning_rate(stored):
    assert max_learning_rate(stored["dd_ntk"], 27, 0.9) == pytest.approx(float(stored["rate"]))
    assert max_learning_rate(stored["dd4"]) == pytest.approx(float(stored["rate_all"]))


def test_gram_files_stand_for_arrays(stored, tmp_path):
    dd, td, tt = pairs(stored)
    dd = Pair(*(np.triu(k) + np.triu(k, 1).T for k in dd))  # the file keeps the upper triangle
    path = write_gram(tmp_path / "k.h5", {"nngp": dd.nngp, "ntk": dd.ntk}, tile=4)
    found = gp_inference(path, stored["y"], 1e-3)(None, td, tt)
    expected = gp_inference(dd, stored["y"], 1e-3)(("nngp", "ntk"), td, tt)
    for mode in ("nngp", "ntk"):
        for ours, theirs in zip(getattr(found, mode), getattr(expected, mode), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    flow = gradient_descent_mse(str(path), stored["y"], 0.7, 1e-3)
    check(flow(2.5, stored["f_train"]), stored["gd_reg0.001_one_train"])
    assert max_learning_rate(path, 27, 0.9) == pytest.approx(float(stored["rate"]), rel=1e-9)


def test_result_has_the_kernels_dtype(stored):
    dd = stored["dd_ntk"].astype(np.float32)
    predict = gradient_descent_mse(dd, stored["y"], diag_reg=1e-2)
    assert predict(3.0).dtype == np.float32
    assert predict(None).dtype == np.float32
    assert gp_inference(dd, stored["y"], 1e-2)("ntk", dd).dtype == np.float32


def test_infinite_time_array_is_the_solve(stored):
    predict = gradient_descent_mse(stored["dd_ntk"], stored["y"], diag_reg=1e-3)
    args = (0.0, 0.0, stored["td_ntk"])
    at_infinity = predict(np.inf, *args)[1]
    # Two decompositions of a matrix of condition number 1e4.
    np.testing.assert_allclose(at_infinity, predict(None, *args)[1], rtol=1e-9, atol=1e-9)


def test_refusals(stored):
    dd, td, tt = pairs(stored)
    y = stored["y"]
    with pytest.raises(WidegramError, match="k_test_train"):
        gradient_descent_mse(dd.ntk, y)(None, 0.0, 0.0)
    with pytest.raises(WidegramError, match="nothing to predict"):
        gradient_descent_mse(dd.ntk, y)(None, None, None)
    with pytest.raises(WidegramError, match="diag_reg is -1; it must be"):
        gradient_descent_mse(dd.ntk, y, diag_reg=-1.0)(3.0)
    with pytest.raises(WidegramError, match="needs both kernels"):
        gp_inference(dd.ntk, y, 0.1)("ntk", td.ntk, tt.nngp)
    with pytest.raises(WidegramError, match="choose from nngp, ntk, ntkgp"):
        gp_inference(dd, y)("ntkx", td)
    with pytest.raises(WidegramError, match="names a kernel twice"):
        gp_inference(dd, y)(("ntk", "ntk"), td)
    with pytest.raises(WidegramError, match=r"not positive definite.*take diag_reg="):
        gp_inference(dd.ntk - 10.0 * np.eye(9), y)("ntk", td)
