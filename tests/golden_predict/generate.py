"""Writes values.npz: what neural-tangents 0.6.5 predicts. Run in an environment that has it."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import scipy.linalg  # noqa: E402
from neural_tangents import predict, stax  # noqa: E402

# The peer passes a keyword that SciPy 1.14 dropped; the new one means the same.
_eigvalsh = scipy.linalg.eigvalsh
scipy.linalg.eigvalsh = lambda a, eigvals: _eigvalsh(a, subset_by_index=eigvals)

TIMES = np.array([[0.0, 0.5, 3.0], [40.0, 1e3, 1e5]])
Pair = namedtuple("Pair", "nngp ntk")


def data() -> dict[str, np.ndarray]:
    """Inputs, targets and kernels; the last training row nearly repeats the first."""
    rng = np.random.default_rng(7)
    x_train, x_test = rng.standard_normal((9, 5)), rng.standard_normal((4, 5))
    x_train[-1] = x_train[0] + 1e-3
    _, _, kernel_fn = stax.serial(
        stax.Dense(1, 1.3, 0.2), stax.Erf(), stax.Dense(1, 1.1, 0.1), stax.Relu(), stax.Dense(1)
    )
    found = {"x_train": x_train, "x_test": x_test, "y": rng.standard_normal((9, 3))}
    found["f_train"], found["f_test"] = rng.standard_normal((9, 3)), rng.standard_normal((4, 3))
    for name, pair in {
        "dd": (x_train, None),
        "td": (x_test, x_train),
        "tt": (x_test, None),
    }.items():
        kernel = kernel_fn(*pair, get=("nngp", "ntk"))
        found[f"{name}_nngp"], found[f"{name}_ntk"] = map(np.asarray, kernel)
    root = rng.standard_normal((4 * 2, 12))
    found["dd4"] = (root @ root.T).reshape(4, 2, 4, 2).transpose(0, 2, 1, 3)
    found["td4"] = rng.standard_normal((3, 4, 2, 2))
    found["y4"] = rng.standard_normal((4, 2))
    found["y4_middle"] = rng.standard_normal((4, 5, 2))
    return found


def main() -> None:
    """Compute and save."""
    d = data()
    dd, td, tt = (Pair(d[f"{k}_nngp"], d[f"{k}_ntk"]) for k in ("dd", "td", "tt"))
    out = dict(d)
    for reg, absolute in ((1e-3, False), (0.05, True)):
        tag = f"reg{reg:g}"
        posterior = predict.gp_inference(dd, d["y"], reg, absolute)
        for mode in ("nngp", "ntk", "ntkgp"):
            mean, cov = posterior(mode, td, tt)
            out[f"gp_{tag}_{mode}_mean"], out[f"gp_{tag}_{mode}_cov"] = mean, cov
        flow = predict.gradient_descent_mse(dd.ntk, d["y"], 0.7, reg, absolute)
        for label, t in (("inf", None), ("one", 2.5), ("many", TIMES)):
            train, test = flow(t, d["f_train"], d["f_test"], td.ntk)
            out[f"gd_{tag}_{label}_train"], out[f"gd_{tag}_{label}_test"] = train, test
        kernels = {("train", None): dd, ("test", "train"): td, ("test", None): tt}

        def kernel_fn(x1, x2, get, kernels=kernels):
            both = kernels[x1, x2]
            return getattr(both, get) if isinstance(get, str) else Pair(both.nngp, both.ntk)

        flow = predict.gradient_descent_mse_ensemble(
            kernel_fn_on_arrays(kernel_fn, d), d["x_train"], d["y"], 0.7, reg, absolute
        )
        for label, t in (("inf", None), ("one", 2.5), ("many", TIMES)):
            for where, x in (("train", None), ("test", d["x_test"])):
                for mode in ("nngp", "ntk"):
                    mean, cov = flow(t, x, mode, True)
                    key = f"en_{tag}_{label}_{where}_{mode}"
                    out[f"{key}_mean"], out[f"{key}_cov"] = mean, cov
    flow = predict.gradient_descent_mse(d["dd4"], d["y4"], 1.0, 0.01, trace_axes=())
    out["gd4_train"], out["gd4_test"] = flow(TIMES, 0.0, 0.0, d["td4"])
    out["gd4_inf"] = flow(None, None, 0.0, d["td4"])
    middle = predict.gradient_descent_mse(d["dd4"], d["y4_middle"], 1.0, 0.01, trace_axes=(1,))
    out["gd4m_train"], out["gd4m_test"] = middle(TIMES, 0.0, 0.0, d["td4"])
    posterior = predict.gp_inference(d["dd4"], d["y4_middle"], 0.01, trace_axes=(1,))
    out["gp4m"] = posterior("ntk", d["td4"])
    out["rate"] = predict.max_learning_rate(d["dd_ntk"], 27, 0.9)
    out["rate_all"] = predict.max_learning_rate(d["dd4"])
    values = {name: np.asarray(value) for name, value in out.items()}
    np.savez_compressed(Path(__file__).with_name("values.npz"), times=TIMES, **values)


def kernel_fn_on_arrays(by_name, d):
    """kernel_fn of arrays from one of the names 'train' and 'test'."""

    def name(x):
        return None if x is None else "train" if len(x) == len(d["x_train"]) else "test"

    return lambda x1, x2, get: by_name(name(x1), name(x2), get)


if __name__ == "__main__":
    main()
