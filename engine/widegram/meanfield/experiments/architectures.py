"""The paper's remarks on other architectures, as measured rows with their predictions.

* Dropout (keep rate r) in the ordered phase: the diagonal is multiplied by 1/r and the rest is not,
  so Theta's two limits differ, p_d = q / (1 - w E[phi'^2] / r) and p_o = k / (1 - w Kdot(k)) at
  q = w V(q)/r + b, k = w K(q, k, q) + b: kappa stays finite, (p_d + (m-1) p_o) / (p_d - p_o).
* ReLU at (2, 0): 1 - c falls as a power law, off-diagonal 1/4 of the diagonal, kappa -> (m+3)/3.
* Residual blocks x + Dense(ReLU(x)), b = 0: everything grows by g = 1 + w/2, and 1/4 remains.
* LayerNorm behind Dense, b = 0: the division by q makes every w critical.

Source: arXiv:1912.13053, section 5 and appendix; limits rederived here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from widegram.meanfield.experiments.engine_kernels import ntk_sweep
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.experiments.spectra import dense_spectrum
from widegram.meanfield.experiments.sweeps import spectrum
from widegram.meanfield.theory.fixedpoint import CRITICAL, ORDERED
from widegram.meanfield.theory.growth import LOG, in_range, linear
from widegram.meanfield.theory.one_layer import Array, LayerMaps
from widegram.meanfield.theory.predictions import Prediction, constant, growing, rate
from widegram.network import Network, load_network

_KEEP = 0.9
_DROPOUT_DEPTHS = (10, 25, 50, 100, 200)


@dataclass(frozen=True)
class Remark:
    """Measured values by quantity at ``depths``; ``layers`` is the l of the laws."""

    title: str
    phase: str
    depths: Array
    layers: Array
    measured: dict[str, Array]
    laws: dict[str, Prediction]


def remarks(problem: Problem, depths: Sequence[int]) -> Iterator[Remark]:
    """Every remark on fully connected networks with inputs of one norm."""
    yield _dropout(problem)
    yield _swept(problem, depths, "ReLU at (2, 0)", {"layer": "Repeat", "times": 1, "body": [
        {"layer": "Dense", "W_std": math.sqrt(2)}, {"layer": "Relu"}]}, math.sqrt(2), 2.0)
    for w in (1.0, 4.0):
        yield _swept(problem, depths, f"LayerNorm, ReLU, w_var {w:g}", {
            "layer": "Repeat", "times": 1, "body": [
                {"layer": "Dense", "W_std": math.sqrt(w)}, {"layer": "LayerNorm"},
                {"layer": "Relu"}]}, math.sqrt(w), w / 2)
    yield _residual(problem, depths)


def _swept(
    problem: Problem, depths: Sequence[int], title: str, repeat: dict[str, object],
    readout: float, q: float,
) -> Remark:
    """A critical network whose readout has the variance ``q`` on its diagonal."""
    network = _network(problem, [repeat, {"layer": "Dense", "W_std": readout}])
    sweep = spectrum(network, problem, depths, method="deviations")
    scale = float((problem.x**2).mean()) if title.startswith("ReLU") else 1.0
    laws = growing(linear(q * scale, True), len(problem.x))
    names = ("diagonal", "off_diagonal", "lambda_max", "bulk", "kappa")
    return Remark(
        title, CRITICAL, sweep.depths, sweep.depths + 1.0,
        {name: sweep.values[name] for name in names}, {name: laws[name] for name in names},
    )


def _residual(problem: Problem, depths: Sequence[int]) -> Remark:
    w, m = 0.5, len(problem.x)
    depths = in_range(depths, 1 + w / 2, 140)  # float64, squared
    network = _network(problem, [
        {"layer": "Dense"},
        {"layer": "Repeat", "times": 1, "body": [{"layer": "Residual", "shortcut": [], "branch": [
            {"layer": "Relu"}, {"layer": "Dense", "W_std": math.sqrt(w)}]}]},
    ])
    sweep = spectrum(network, problem, depths, method="deviations")
    values = sweep.values
    measured = {
        "diagonal": values["diagonal"],
        "off_over_diagonal": values["off_diagonal"] / values["diagonal"],
        "kappa": values["kappa"],
    }
    growth = math.log(1 + w / 2)
    laws = {
        "diagonal": rate("l (1 + w/2)^l", growth, 1),
        "off_over_diagonal": constant("1/4", 0.25, LOG),
        "kappa": constant("(m + 3)/3", (m + 3) / 3, LOG),
    }
    title = f"residual ReLU, w_var {w:g}"
    return Remark(title, CRITICAL, sweep.depths, sweep.depths.astype(float), measured, laws)


def _dropout(problem: Problem) -> Remark:
    w, b, m = 1.25, 0.18, len(problem.x)
    network = _network(problem, [
        {"layer": "Repeat", "times": max(_DROPOUT_DEPTHS), "body": [
            {"layer": "Dense", "W_std": math.sqrt(w), "b_std": math.sqrt(b)}, {"layer": "Erf"},
            {"layer": "Dropout", "rate": _KEEP}]},
        {"layer": "Dense", "W_std": math.sqrt(w), "b_std": math.sqrt(b)},
    ])
    theta = ntk_sweep(network, problem.x, None, _DROPOUT_DEPTHS)
    found = [dense_spectrum(matrix) for matrix in theta]
    p_d, p_o = dropout_limits(LayerMaps.of("erf"), w, b, _KEEP)
    top, rest = p_d + (m - 1) * p_o, p_d - p_o
    limits = {"diagonal": p_d, "off_diagonal": p_o, "lambda_max": top, "bulk": rest,
              "kappa": top / rest}
    texts = {"diagonal": "p_d", "off_diagonal": "p_o", "lambda_max": "p_d + (m-1) p_o",
             "bulk": "p_d - p_o", "kappa": "(p_d + (m-1) p_o)/(p_d - p_o)"}
    depths = np.array(_DROPOUT_DEPTHS)
    return Remark(
        f"dropout, erf, keep {_KEEP:g}", ORDERED, depths, depths + 1.0,
        {name: np.array([getattr(one, name) for one in found]) for name in limits},
        {name: constant(texts[name], value) for name, value in limits.items()},
    )


def dropout_limits(maps: LayerMaps, w: float, b: float, keep: float) -> tuple[float, float]:
    """Theta's limits on and off the diagonal with dropout behind the activation (ordered phase)."""

    def moments(q: float, k: float) -> tuple[float, float]:
        value, slope = maps.dual.moments(np.array([q]), np.array([k]), np.array([q]))
        return float(value[0]), float(slope[0])

    q = brentq(lambda q: w * float(maps.power(q)) / keep + b - q, b, b + 100 * w, xtol=1e-15)
    k = brentq(lambda k: w * moments(q, k)[0] + b - k, 0, q, xtol=1e-15)
    p_d = q / (1 - w * float(maps.slope(q)) / keep)
    return p_d, k / (1 - w * moments(q, k)[1])


def _network(problem: Problem, layers: list[dict[str, object]]) -> Network:
    """``layers`` on the inputs as vectors."""
    flat = [{"layer": "Flatten"}] if len(problem.input_shape) == 3 else []
    return load_network({"input_shape": list(problem.input_shape), "layers": [*flat, *layers]})
