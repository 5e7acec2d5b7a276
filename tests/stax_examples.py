"""Examples of neural-tangents' README, documentation and notebooks, retyped for any ``stax``.

:func:`run` takes the ``stax`` and ``predict`` modules, of neural-tangents or of widegram: the code
between is the same. Inputs are NumPy arrays in place of ``jax.random``. Imports NumPy alone, so
that neural-tangents' environment can run it too (``golden_stax/generate.py``).
"""

# ruff: noqa: RUF059  (examples keep their unused names)

from __future__ import annotations

from typing import Any

import numpy as np

Values = dict[str, np.ndarray]


def run(stax: Any, predict: Any) -> Values:
    """Every example's numbers by name, float64."""
    found: Values = {}
    for example in (
        readme_intro,
        readme_wide_resnet,
        package_docstring,
        repeat_docstring,
        cookbook,
        infinite_fcn,
        gp_inference_docs,
        descent_docs,
        performance_table,
        three_branches,
    ):
        for name, value in example(stax, predict).items():
            found[f"{example.__name__}/{name}"] = np.asarray(value)
    for name, network in layer_tour(stax).items():
        for field, value in layer_values(network).items():
            found[f"layer_tour/{name}/{field}"] = value
    return found


def readme_intro(stax: Any, predict: Any) -> dict[str, Any]:
    """README, "5-Minute intro"."""
    rng = np.random.default_rng(1)
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Dense(512), stax.Relu(),
        stax.Dense(512), stax.Relu(),
        stax.Dense(1)
    )  # fmt: skip
    x1 = rng.standard_normal((10, 100))
    x2 = rng.standard_normal((20, 100))

    nngp = kernel_fn(x1, x2, "nngp")
    ntk = kernel_fn(x1, x2, "ntk")
    both = kernel_fn(x1, x2, ("nngp", "ntk"))
    assert type(both).__name__ == "AnalyticKernel"
    assert (np.asarray(both.nngp) == nngp).all()
    assert (np.asarray(both.ntk) == ntk).all()
    nngp, ntk = kernel_fn(x1, x2, ("nngp", "ntk"))

    kernel = kernel_fn(x1, x2)
    composed = kernel_fn(kernel)

    x_train, x_test = x1, x2
    y_train = rng.uniform(size=(10, 1))
    predict_fn = predict.gradient_descent_mse_ensemble(kernel_fn, x_train, y_train)
    y_test_nngp = predict_fn(x_test=x_test, get="nngp")
    y_test_ntk = predict_fn(x_test=x_test, get="ntk")
    both = predict_fn(x_test=x_test, get=("nngp", "ntk"))
    assert (np.asarray(both.nngp) == y_test_nngp).all()
    return {
        "nngp": nngp, "ntk": ntk, "cov1": kernel.cov1, "cov2": kernel.cov2,
        "composed_nngp": composed.nngp, "composed_ntk": composed.ntk,
        "composed_cov1": composed.cov1, "composed_cov2": composed.cov2,
        "y_test_nngp": y_test_nngp, "y_test_ntk": y_test_ntk,
    }  # fmt: skip


def readme_wide_resnet(stax: Any, predict: Any) -> dict[str, Any]:
    """README, "Infinitely WideResnet"."""

    def WideResnetBlock(channels, strides=(1, 1), channel_mismatch=False):
        Main = stax.serial(
            stax.Relu(), stax.Conv(channels, (3, 3), strides, padding="SAME"),
            stax.Relu(), stax.Conv(channels, (3, 3), padding="SAME"))  # fmt: skip
        Shortcut = (
            stax.Identity()
            if not channel_mismatch
            else stax.Conv(channels, (3, 3), strides, padding="SAME")
        )
        return stax.serial(stax.FanOut(2), stax.parallel(Main, Shortcut), stax.FanInSum())

    def WideResnetGroup(n, channels, strides=(1, 1)):
        blocks = []
        blocks += [WideResnetBlock(channels, strides, channel_mismatch=True)]
        for _ in range(n - 1):
            blocks += [WideResnetBlock(channels, (1, 1))]
        return stax.serial(*blocks)

    def WideResnet(block_size, k, num_classes):
        return stax.serial(
            stax.Conv(16, (3, 3), padding="SAME"),
            WideResnetGroup(block_size, int(16 * k)),
            WideResnetGroup(block_size, int(32 * k), (2, 2)),
            WideResnetGroup(block_size, int(64 * k), (2, 2)),
            stax.AvgPool((8, 8)),
            stax.Flatten(),
            stax.Dense(num_classes, 1.0, 0.0),
        )

    init_fn, apply_fn, kernel_fn = WideResnet(block_size=4, k=1, num_classes=10)
    x = np.random.default_rng(2).standard_normal((2, 32, 32, 3))
    kernel = kernel_fn(x[:1], x[1:])
    return {"nngp": kernel.nngp, "ntk": kernel.ntk, "cov1": kernel.cov1, "cov2": kernel.cov2}


def package_docstring(stax: Any, predict: Any) -> dict[str, Any]:
    """Documentation of ``neural_tangents.stax``; 5 of its 20 training images."""
    rng = np.random.default_rng(3)
    x_train = rng.standard_normal((5, 32, 32, 3))
    y_train = rng.uniform(size=(5, 10))
    x_test = rng.standard_normal((2, 32, 32, 3))
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Conv(128, (3, 3)),
        stax.Relu(),
        stax.Conv(256, (3, 3)),
        stax.Relu(),
        stax.Conv(512, (3, 3)),
        stax.Flatten(),
        stax.Dense(10),
    )
    predict_fn = predict.gradient_descent_mse_ensemble(kernel_fn, x_train, y_train)
    return {
        "kernel": kernel_fn(x_train, None, "ntk"),
        "y_test_nngp": predict_fn(x_test=x_test, get="nngp"),
        "y_test_ntk": predict_fn(x_test=x_test, get="ntk"),
    }


def repeat_docstring(stax: Any, predict: Any) -> dict[str, Any]:
    """Documentation of ``stax.repeat``."""
    layer = stax.serial(stax.Dense(128), stax.Relu())
    depth = 100
    nn_unrolled = stax.serial(*([layer] * depth))
    nn_compiled = stax.repeat(layer, depth)
    x = np.random.default_rng(4).standard_normal((4, 128))
    unrolled = nn_unrolled[2](x[:2], x[1:], ("nngp", "ntk"))
    compiled = nn_compiled[2](x[:2], x[1:], ("nngp", "ntk"))
    return {
        "unrolled_nngp": unrolled.nngp, "unrolled_ntk": unrolled.ntk,
        "compiled_nngp": compiled.nngp, "compiled_ntk": compiled.ntk,
    }  # fmt: skip


def cookbook(stax: Any, predict: Any) -> dict[str, Any]:
    """The cookbook notebook: a sine from five points, its prior, posterior and training curve."""
    rng = np.random.default_rng(5)
    train_xs = rng.uniform(-np.pi, np.pi, size=(5, 1))
    train_ys = np.sin(train_xs) + 0.1 * rng.standard_normal((5, 1))
    test_xs = np.linspace(-np.pi, np.pi, 50).reshape(50, 1)
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Dense(512, W_std=1.5, b_std=0.05), stax.Erf(),
        stax.Dense(512, W_std=1.5, b_std=0.05), stax.Erf(),
        stax.Dense(1, W_std=1.5, b_std=0.05)
    )  # fmt: skip
    kernel = kernel_fn(test_xs, test_xs, "nngp")
    predict_fn = predict.gradient_descent_mse_ensemble(kernel_fn, train_xs, train_ys, diag_reg=1e-4)
    nngp_mean, nngp_covariance = predict_fn(x_test=test_xs, get="nngp", compute_cov=True)
    ntk_mean, ntk_covariance = predict_fn(x_test=test_xs, get="ntk", compute_cov=True)
    ts = np.arange(0, 10**3, 10**2)
    ntk_curve, ntk_cov = predict_fn(t=ts, get="ntk", x_test=test_xs[:5], compute_cov=True)
    return {
        "prior": kernel, "nngp_mean": nngp_mean, "nngp_covariance": nngp_covariance,
        "ntk_mean": ntk_mean, "ntk_covariance": ntk_covariance,
        "ntk_curve": ntk_curve, "ntk_curve_covariance": ntk_cov,
    }  # fmt: skip


def infinite_fcn(stax: Any, predict: Any) -> dict[str, Any]:
    """examples/infinite_fcn.py, on random inputs."""
    rng = np.random.default_rng(6)
    x_train, x_test = rng.standard_normal((12, 30)), rng.standard_normal((6, 30))
    y_train = rng.standard_normal((12, 10))
    _, _, kernel_fn = stax.serial(stax.Dense(1, 2.0, 0.05), stax.Relu(), stax.Dense(1, 2.0, 0.05))
    predict_fn = predict.gradient_descent_mse_ensemble(kernel_fn, x_train, y_train, diag_reg=1e-3)
    fx_test_nngp, fx_test_ntk = predict_fn(x_test=x_test, get=("nngp", "ntk"))
    return {"fx_test_nngp": fx_test_nngp, "fx_test_ntk": fx_test_ntk}


def gp_inference_docs(stax: Any, predict: Any) -> dict[str, Any]:
    """``predict.gp_inference`` and ``max_learning_rate`` as documented."""
    rng = np.random.default_rng(7)
    x_train, x_test = rng.standard_normal((8, 6)), rng.standard_normal((3, 6))
    y_train = rng.standard_normal((8, 2))
    _, _, kernel_fn = stax.serial(stax.Dense(512), stax.Gelu(), stax.Dense(2))
    k_train_train = kernel_fn(x_train, None, ("nngp", "ntk"))
    k_test_train = kernel_fn(x_test, x_train, ("nngp", "ntk"))
    k_test_test = kernel_fn(x_test, None, ("nngp", "ntk"))
    predict_fn = predict.gp_inference(k_train_train, y_train, diag_reg=1e-3)
    nngp = predict_fn("nngp", k_test_train, k_test_test.nngp)
    ntk = predict_fn("ntk", k_test_train, k_test_test)
    return {
        "nngp_mean": nngp.mean, "nngp_covariance": nngp.covariance,
        "ntk_mean": ntk.mean, "ntk_covariance": ntk.covariance,
    }  # fmt: skip


def descent_docs(stax: Any, predict: Any) -> dict[str, Any]:
    """Documentation of ``predict.gradient_descent_mse``."""
    rng = np.random.default_rng(8)
    x_train, x_test = rng.standard_normal((6, 4)), rng.standard_normal((3, 4))
    y_train = rng.standard_normal((6, 2))
    _, _, kernel_fn = stax.serial(stax.Dense(512), stax.Relu(), stax.Dense(2))
    k_train_train = kernel_fn(x_train, None, "ntk")
    k_test_train = kernel_fn(x_test, x_train, "ntk")
    predict_fn = predict.gradient_descent_mse(k_train_train, y_train, learning_rate=0.1)
    t = 1e-2
    fx_train_0, fx_test_0 = np.zeros((6, 2)), np.zeros((3, 2))
    fx_train_t, fx_test_t = predict_fn(t, fx_train_0, fx_test_0, k_test_train)
    return {"fx_train_t": fx_train_t, "fx_test_t": fx_test_t}


def performance_table(stax: Any, predict: Any) -> dict[str, Any]:
    """README, "Performance": the CNN with and without pooling; 5 of 21 layers, 8 x 8 pixels."""
    found = {}
    x = np.random.default_rng(9).standard_normal((3, 8, 8, 3))
    for name, readout in (("pool", stax.GlobalAvgPool), ("flatten", stax.Flatten)):
        layers = []
        for _ in range(5):
            layers += [stax.Conv(1, (3, 3), (1, 1), "SAME", 1.4, 0.1), stax.Relu()]
        _, _, kernel_fn = stax.serial(*layers, readout(), stax.Dense(1, 1.4, 0.1))
        kernel = kernel_fn(x[:2], x[1:])
        for field in ("nngp", "ntk", "cov1", "cov2"):
            found[f"{name}_{field}"] = getattr(kernel, field)
    return found


def three_branches(stax: Any, predict: Any) -> dict[str, Any]:
    """FanOut(3) of branches spread over two ``parallel`` layers, one of them the identity."""
    _, _, kernel_fn = stax.serial(
        stax.Dense(8, 1.1, 0.2),
        stax.FanOut(3),
        stax.parallel(stax.Relu(), stax.Identity(), stax.Erf()),
        stax.parallel(stax.Dense(8, 0.7), stax.Identity(), stax.Dense(8, 1.3, 0.1)),
        stax.FanInSum(),
        stax.Relu(),
        stax.Dense(1),
    )
    x = np.random.default_rng(10).standard_normal((4, 5))
    kernel = kernel_fn(x[:2], x[1:])
    return {"nngp": kernel.nngp, "ntk": kernel.ntk, "cov1": kernel.cov1, "cov2": kernel.cov2}


def layer_tour(stax: Any) -> dict[str, Any]:
    """Every supported layer and activation that neural-tangents has, in one small network each."""
    pixels = {
        "Relu": stax.Relu(do_stabilize=True), "LeakyRelu": stax.LeakyRelu(0.1),
        "ABRelu": stax.ABRelu(-0.3, 0.8), "Abs": stax.Abs(), "Sign": stax.Sign(),
        "Erf": stax.Erf(1.1, 0.8, 0.2), "Sigmoid_like": stax.Sigmoid_like(),
        "Gelu": stax.Gelu(approximate=True), "Sin": stax.Sin(1.2, 0.7, 0.3),
        "Cos": stax.Cos(0.9, 1.1, 0.2), "Rbf": stax.Rbf(0.6), "Gaussian": stax.Gaussian(),
        "LayerNorm": stax.LayerNorm((1, 2, 3)), "LayerNorm_channels": stax.LayerNorm(),
        "Dropout": stax.Dropout(0.7), "Dropout_test": stax.Dropout(0.7, mode="test"),
        "AvgPool": stax.AvgPool((2, 2), (2, 2)), "Identity": stax.Identity(),
        "AvgPool_circular": stax.AvgPool((3, 2), (2, 1), "CIRCULAR"),
        "SumPool": stax.SumPool((2, 3), None, "SAME"),
        "Dense": stax.Dense(3, 0.9, 0.1),
        "Conv_valid": stax.Conv(3, (2, 3), (1, 2), W_std=1.2, b_std=0.3),
        "Conv_circular": stax.Conv(3, (3, 3), padding=stax.Padding.CIRCULAR.name),
    }  # fmt: skip
    readouts = {"Flatten": stax.Flatten, "Avg": stax.GlobalAvgPool, "Sum": stax.GlobalSumPool}
    found = {}
    for name, layer in pixels.items():
        for end, readout in readouts.items():
            found[f"{name}_{end}"] = stax.serial(
                stax.Conv(4, (3, 3), padding="SAME", W_std=1.3, b_std=0.4), layer,
                stax.Conv(4, (2, 2)), stax.Relu(), readout(), stax.Dense(1, 1.5, 0.2),
            )  # fmt: skip
    return found


def layer_values(network: Any) -> Values:
    """nngp, ntk, cov1, cov2 of two overlapping batches, and nngp, ntk, cov1 of one."""
    x = np.random.default_rng(11).standard_normal((4, 6, 5, 2))
    kernel = network[2](x[:2], x[1:])
    alone = network[2](x[:3])
    assert alone.cov2 is None
    found = {name: np.asarray(getattr(kernel, name)) for name in ("nngp", "ntk", "cov1", "cov2")}
    return found | {f"alone_{n}": np.asarray(getattr(alone, n)) for n in ("nngp", "ntk", "cov1")}
