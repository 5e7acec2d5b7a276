"""Writes values.npz: gradient flow on three losses by neural-tangents 0.6.5. Run with its Python:

VENV/bin/python tests/golden_flow/generate.py     (bench/peers/README.md: VENV)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
from jax.experimental import ode  # noqa: E402
from neural_tangents import predict  # noqa: E402

# neural-tangents leaves the integrator at its tolerance of 1.4e-8.
ode.odeint = partial(ode.odeint, rtol=1e-13, atol=1e-13)

TIMES = np.array([[0.0, 0.5, 3.0], [12.0, 40.0, 150.0]])


def mse(fx, y):
    """Half of the mean squared error."""
    return 0.5 * jnp.mean((fx - y) ** 2)


def cross_entropy(fx, y):
    """The loss of neural-tangents' documentation."""
    return -jnp.mean(jax.nn.log_softmax(fx) * y)


def log_cosh(fx, y):
    """A smooth robust loss."""
    return jnp.sum(jnp.log(jnp.cosh(fx - y)))


LOSSES = {"mse": mse, "cross_entropy": cross_entropy, "log_cosh": log_cosh}
RATES = {"mse": 0.7, "cross_entropy": 1.3, "log_cosh": 0.04}


def data() -> dict[str, np.ndarray]:
    """Kernels of 6 training and 4 test points, with and without an axis of outputs."""
    rng = np.random.default_rng(21)
    root = rng.standard_normal((10, 12)) / 3
    kernel = root @ root.T
    found = {"dd": kernel[:6, :6], "td": kernel[6:, :6]}
    found["y"] = np.eye(3)[rng.integers(0, 3, 6)] + 0.1 * rng.random((6, 3))
    found["f_train"], found["f_test"] = rng.standard_normal((6, 3)), rng.standard_normal((4, 3))
    found["q_train"], found["q_test"] = rng.standard_normal((6, 3)), rng.standard_normal((4, 3))
    root = rng.standard_normal((4 * 2, 12)) / 3
    found["dd4"] = (root @ root.T).reshape(4, 2, 4, 2).transpose(0, 2, 1, 3)
    found["td4"] = rng.standard_normal((3, 4, 2, 2))
    found["y4"] = rng.standard_normal((4, 5, 2))
    return found


def main() -> None:
    """Compute and save."""
    d = {name: jnp.asarray(value) for name, value in data().items()}
    out = dict(d)
    for name, loss in LOSSES.items():
        for momentum in (None, 0.9):
            tag = f"{name}_{momentum}"
            flow = predict.gradient_descent(loss, d["dd"], d["y"], RATES[name], momentum)
            train, test = flow(TIMES.ravel(), d["f_train"], d["f_test"], d["td"])
            out[f"{tag}_train"] = train.reshape(*TIMES.shape, *train.shape[1:])
            out[f"{tag}_test"] = test.reshape(*TIMES.shape, *test.shape[1:])
            start = predict.ODEState(d["f_train"], d["f_test"])
            if momentum is not None:
                start = start.replace(qx_train=d["q_train"], qx_test=d["q_test"])
            state = flow(3.0, start, None, d["td"])
            for field, value in state.asdict().items():
                if value is not None:
                    out[f"{tag}_{field}"] = value
    flow = predict.gradient_descent(log_cosh, d["dd4"], d["y4"], 0.03, 0.5, trace_axes=(1,))
    out["middle_train"], out["middle_test"] = flow(3.0, 0.0, 0.0, d["td4"])
    values = {name: np.asarray(value) for name, value in out.items()}
    np.savez_compressed(Path(__file__).with_name("values.npz"), times=TIMES, **values)


if __name__ == "__main__":
    main()
