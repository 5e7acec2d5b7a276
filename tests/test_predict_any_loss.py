"""``predict.gradient_descent`` against neural-tangents, and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import linalg
from scipy.special import expit, log_softmax, softmax, wrightomega

from linalg_support import write_gram
from widegram import WidegramError, predict
from widegram.predict.integrating import Motion, integrate

Array = np.ndarray[Any, np.dtype[Any]]
GOLDEN = Path(__file__).parent / "golden_flow" / "values.npz"
# Both integrators run at 1e-12 or 1e-13 a step; the longest of these flows take some hundred steps.
RTOL = 1e-10


def mse(fx: Array, y: Array) -> Any:
    return 0.5 * np.mean((fx - y) ** 2)


def mse_gradient(fx: Array, y: Array) -> Array:
    return (fx - y) / y.size


def cross_entropy(fx: Array, y: Array) -> Any:
    return -np.mean(log_softmax(fx, axis=-1) * y)


def cross_entropy_gradient(fx: Array, y: Array) -> Array:
    return (softmax(fx, axis=-1) * y.sum(axis=-1, keepdims=True) - y) / y.size


def log_cosh(fx: Array, y: Array) -> Any:
    return np.sum(np.log(np.cosh(fx - y)))


def log_cosh_gradient(fx: Array, y: Array) -> Array:
    return np.tanh(fx - y)


# Functions and learning rates of golden_flow/generate.py.
LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Any], float]] = {
    "mse": (mse, mse_gradient, 0.7),
    "cross_entropy": (cross_entropy, cross_entropy_gradient, 1.3),
    "log_cosh": (log_cosh, log_cosh_gradient, 0.04),
}


@cache
def stored() -> dict[str, Array]:
    with np.load(GOLDEN) as file:
        return dict(file)


def flow_of(name: str, momentum: float | None, **options: Any) -> Callable[..., Any]:
    loss, grad, rate = LOSSES[name]
    kernel, y = stored()["dd"], stored()["y"]
    return predict.gradient_descent(loss, kernel, y, rate, momentum, grad=grad, **options)


def check(found: Array, expected: Array, rtol: float = RTOL) -> None:
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= rtol * np.max(np.abs(expected))


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("name", LOSSES)
class TestStoredValues:
    def test_outputs_at_times(self, name: str, momentum: float | None) -> None:
        s, flow = stored(), flow_of(name, momentum)
        train, test = flow(s["times"], s["f_train"], s["f_test"], s["td"])
        check(train, s[f"{name}_{momentum}_train"])
        check(test, s[f"{name}_{momentum}_test"])
        check(flow(s["times"], s["f_train"]), s[f"{name}_{momentum}_train"])

    def test_states(self, name: str, momentum: float | None) -> None:
        s = stored()
        start = predict.ODEState(s["f_train"], s["f_test"])
        if momentum is not None:
            start = start.replace(qx_train=s["q_train"], qx_test=s["q_test"])
        state = flow_of(name, momentum)(3.0, start, None, s["td"])
        assert isinstance(state, predict.ODEState)
        for field, value in state.asdict().items():
            if momentum is None and field.startswith("qx"):
                assert value is None
            else:
                check(value, s[f"{name}_{momentum}_{field}"])


def test_an_axis_of_outputs_in_the_kernel() -> None:
    s = stored()
    flow = predict.gradient_descent(
        log_cosh, s["dd4"], s["y4"], 0.03, 0.5, trace_axes=(1,), grad=log_cosh_gradient
    )
    train, test = flow(3.0, 0.0, 0.0, s["td4"])
    check(train, s["middle_train"])
    check(test, s["middle_test"])


def test_the_squared_loss_has_its_closed_form_at_late_times() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((24, 5))
    kernel = np.exp(-np.sum((x[:, None] - x) ** 2, axis=-1) / 10)
    y, across = rng.standard_normal((20, 3)), kernel[20:, :20]
    times = np.array([1e6, 0.0, 30.0, 1e4, 30.0])  # in any order, repeated
    flow = predict.gradient_descent(mse, kernel[:20, :20], y, 2.0, grad=mse_gradient)
    exact = predict.gradient_descent_mse(kernel[:20, :20], y, 2.0)
    for found, expected in zip(
        flow(times, 0.3, 0.1, across), exact(times, 0.3, 0.1, across), strict=True
    ):
        check(found, expected)


def test_momentum_on_the_squared_loss_has_its_closed_form() -> None:
    s, rate, momentum = stored(), 0.3, 0.8
    kernel, y, across = s["dd"], s["y"], s["td"]
    n, m = len(kernel), len(across)
    # State (f, f on test points, q, q on test points, 1) of each output: linear.
    generator = np.zeros((2 * (n + m) + 1,) * 2)
    both = np.concatenate([kernel, across]) / y.size
    generator[: n + m, n + m : -1] = np.eye(n + m)
    generator[n + m : -1, :n] = -both
    generator[n + m : -1, n + m : -1] = np.eye(n + m) * (momentum - 1) / rate**0.5
    for output in range(y.shape[1]):
        drive = generator.copy()
        drive[n + m : -1, -1] = both @ y[:, output]
        start = np.zeros(len(drive))
        start[-1] = 1.0
        expected = linalg.expm(drive * 40.0 * rate**0.5) @ start
        flow = predict.gradient_descent(
            mse, kernel, y, rate, momentum, grad=mse_gradient
        )
        train, test = flow(40.0, 0.0, 0.0, across)
        check(train[:, output], expected[:n])
        check(test[:, output], expected[n : n + m])


def test_the_logistic_loss_has_its_closed_form() -> None:
    # f' = k / (1 + e^f), so that f + e^f = k t + 1 from f = 0; independent points.
    kernel, times = np.diag([0.5, 2.0]), np.array([0.1, 3.0, 1e5])
    flow = predict.gradient_descent(
        lambda f, y: np.sum(np.logaddexp(0.0, -f * y)),
        kernel,
        np.array([[1.0], [-1.0]]),
        grad=lambda f, y: -y * expit(-f * y),
    )
    expected = np.log(wrightomega(times[:, None] * np.diag(kernel) + 1.0)) * [1.0, -1.0]
    check(flow(times), expected[..., None])


def test_large_states_take_explicit_steps() -> None:
    rng = np.random.default_rng(5)
    root = rng.standard_normal((21, 30)) / 5
    kernel, y = root @ root.T, rng.standard_normal((21, 100))
    flow = predict.gradient_descent(mse, kernel, y, 1e3, grad=mse_gradient)  # 2100 numbers
    check(flow(5.0), predict.gradient_descent_mse(kernel, y, 1e3)(5.0))


@pytest.mark.parametrize("damping", [None, -0.3])
def test_derivative_of_the_flow(damping: float | None) -> None:
    rng = np.random.default_rng(6)
    y, across = rng.standard_normal((3, 2)), rng.standard_normal((5, 3))
    flow = Motion(lambda f: cross_entropy_gradient(f, np.abs(y)), across, damping)
    state = rng.standard_normal((1 if damping is None else 2, 5, 2))
    found = flow.derivative(state)
    step = 1e-6
    for n in range(state.size):
        at = np.zeros(state.size)
        at[n] = step
        ends = [flow.rate(state + sign * at.reshape(state.shape)) for sign in (1, -1)]
        # Differences on both sides, of rounding 1e-10 and in the code of 1e-8.
        np.testing.assert_allclose(
            found[:, n], (ends[0] - ends[1]).ravel() / (2 * step), atol=1e-6
        )


def test_starting_again_from_a_state_goes_on() -> None:
    s, flow = stored(), flow_of("log_cosh", 0.9)
    start = predict.ODEState(s["f_train"], s["f_test"])
    half = flow(20.0, start, None, s["td"])
    whole = flow(40.0, start, None, s["td"])
    for found, expected in zip(
        flow(20.0, half, None, s["td"]).astuple(), whole.astuple(), strict=True
    ):
        check(found, expected)


def test_sets_that_are_left_out() -> None:
    s, flow = stored(), flow_of("mse", None)
    train, test = flow(3.0, 0.0, s["f_test"], s["td"])
    # The same flow in two runs, each with steps of its own.
    check(flow(3.0, None, s["f_test"], s["td"]), test)
    check(flow(3.0), train)
    np.testing.assert_array_equal(flow(0.0, s["f_train"]), s["f_train"])


def test_kernels_in_float32_and_in_files(tmp_path: Path) -> None:
    s = stored()
    found = predict.gradient_descent(
        mse, s["dd"].astype(np.float32), s["y"], 0.7, grad=mse_gradient
    )(3.0)
    assert found.dtype == np.float32
    dd = np.triu(s["dd"]) + np.triu(s["dd"], 1).T
    path = write_gram(tmp_path / "k.h5", {"ntk": dd}, tile=4)
    flow = predict.gradient_descent(mse, path, s["y"], 0.7, grad=mse_gradient)
    check(flow(3.0), flow_of("mse", None)(3.0))


REFUSED = [
    ("pass grad=", lambda s: {"grad": None}),
    ("loss must be a function", lambda s: {"loss": "mse"}),
    (r"has shape \(\) for outputs \(6, 3\)", lambda s: {"grad": lambda f, y: 0.0}),
    ("is not finite", lambda s: {"grad": lambda f, y: f * np.nan}),
    ("must return one number", lambda s: {"loss": lambda f, y: (f - y) ** 2}),
    ("grad must be the gradient of the loss itself", lambda s: {"grad": lambda f, y: f - y}),
    ("grad must be the gradient of the loss itself", lambda s: {"grad": lambda f, y: (y - f) / 18}),
    ("learning_rate is 0; it must be positive", lambda s: {"learning_rate": 0.0}),
    ("momentum is 1.5", lambda s: {"momentum": 1.5}),
    ("momentum is -1", lambda s: {"momentum": -1}),
    ("k_train_train is not symmetric", lambda s: {"k_train_train": s["dd"] + np.tri(6)}),
    ("t is infinite", lambda s: {"t": None}),
    ("t is infinite", lambda s: {"t": [1.0, np.inf]}),
    ("negative time or NaN", lambda s: {"t": -1.0}),
    ("t is empty", lambda s: {"t": []}),
    ("nothing to predict", lambda s: {"fx_train_or_state_0": None}),
    ("need k_test_train", lambda s: {"fx_test_0": 0.0}),
    ("fx_test_0_0 has shape|fx_test_0 has shape", lambda s: {"fx_test_0": np.zeros(7), **cross(s)}),
    ("fx_train_0 has shape", lambda s: {"fx_train_or_state_0": np.zeros(7)}),
    ("put it into the state", lambda s: {**state(), "fx_test_0": 0.0, **cross(s)}),
    ("momentum is None", lambda s: state(qx_train=0.0)),
    ("its columns must be", lambda s: {"fx_test_0": 0.0, "k_test_train": s["td"][:, :2]}),
]


def cross(s: dict[str, Array]) -> dict[str, Any]:
    return {"k_test_train": s["td"]}


def state(**fields: Any) -> dict[str, Any]:
    return {"fx_train_or_state_0": predict.ODEState(0.0, **fields)}


@pytest.mark.parametrize(("message", "change"), REFUSED)
def test_refusals(message: str, change: Callable[..., dict[str, Any]]) -> None:
    changed = change(stored())
    first = {"loss": mse, "k_train_train": stored()["dd"], "y_train": stored()["y"]}
    first["grad"] = mse_gradient
    first |= {k: v for k, v in changed.items() if k in {*first, "learning_rate", "momentum"}}
    later = {"t": 1.0} | {k: v for k, v in changed.items() if k not in first}
    with pytest.raises(WidegramError, match=message) as error:
        predict.gradient_descent(**first)(**later)
    assert "\n" not in str(error.value)


def test_a_loss_with_a_kink_is_taken() -> None:
    s = stored()
    flow = predict.gradient_descent(
        lambda f, y: np.sum(np.abs(f - y)),
        s["dd"],
        s["y"],
        1e-3,
        grad=lambda f, y: np.sign(f - y),
    )
    # Before any sign changes the flow is a straight line.
    check(flow(1.0), 1e-3 * s["dd"] @ np.sign(s["y"]))


def test_a_flow_that_explodes_is_refused() -> None:
    flow = Motion(lambda f: -(f**3), np.eye(1), None)
    with pytest.raises(WidegramError, match=r"integration stopped at time 0\.5 .*too small"):
        integrate(flow, np.ones((1, 1, 1)), np.array([2.0]), 1.0)
