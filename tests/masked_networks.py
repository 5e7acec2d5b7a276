"""Networks with a mask, by name, and inputs with masked numbers, for the tests of masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs import job
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, RELU, residual
from widegram.network import Network, load_network

BOTH = ("nngp", "ntk")
ERF = {"layer": "Erf", "c": 0.3}
BIASED = {**CONV, "W_std": 1.3, "b_std": 0.2}
GSP = {"layer": "GlobalSumPool"}
ATTENTION = {"layer": "GlobalSelfAttention", "W_key_std": 1.3, "b_std": 0.2}
ROOT = {"linear_scaling": False, "attention_mechanism": "IDENTITY"}


def conv(rows: int, cols: int, padding: str = "SAME", strides: Any = (1, 1)) -> dict[str, Any]:
    return {**BIASED, "filter_shape": [rows, cols], "padding": padding, "strides": list(strides)}


def pool(rows: int, cols: int, padding: str = "SAME", **more: Any) -> dict[str, Any]:
    return {"layer": "AvgPool", "window_shape": [rows, cols], "padding": padding, **more}


def normed(*axis: int, eps: float = 1e-12) -> dict[str, Any]:
    return {**NORM, "axis": list(axis), "eps": eps}


def masked(shape: Any, *layers: Any, mask: Any = "nan", **more: Any) -> Network:
    spec = {"input_shape": list(shape), "layers": list(layers), "mask": mask, **more}
    return load_network(spec)


def holed(rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Inputs with masked pixels, one of them wholly masked, one with single numbers masked."""
    x = rng.standard_normal((n, *shape))
    for i in range(n - 1) if len(shape) > 1 else ():
        x[i, rng.random(shape[:-1]) < 0.4] = np.nan
    x[0] = np.nan
    x[-1, rng.random(shape) < 0.2] = np.nan
    return x


HEADS = {"layer": "Readouts", "heads": {"gap": [GAP, DENSE], "flat": [FLATTEN],
         "local": [pool(5, 5), FLATTEN]}}  # fmt: skip
CASES: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "global mean": ((4, 5, 2), [BIASED, RELU, BIASED, ERF, GAP, {**DENSE, "b_std": 0.3}]),
    "global sum, valid": ((5, 4, 1), [conv(3, 2, "VALID"), RELU, BIASED, RELU, GSP, DENSE]),
    "circular, strides": ((6, 5, 2), [conv(3, 3, "CIRCULAR", (2, 1)), RELU,
                          conv(2, 2, "CIRCULAR"), ERF, pool(3, 2, "CIRCULAR"), BIASED, GAP]),
    "flattened behind a local pool": ((6, 6, 1), [BIASED, RELU, pool(5, 5), FLATTEN, DENSE]),
    "pools": ((6, 7, 2), [BIASED, ERF, pool(2, 3, "VALID", strides=[2, 1]), BIASED, RELU,
              pool(3, 3, normalize_edges=True), conv(1, 1), ERF, FLATTEN, DENSE]),
    "norms": ((4, 5, 1), [BIASED, normed(-1, 1, 2), RELU, BIASED, normed(-1), ERF, BIASED,
              normed(-1, 2), GAP]),
    "branches": ((5, 4, 1), [BIASED, residual(RELU, BIASED), residual(ERF, conv(3, 3, "SAME",
                 (2, 2)), shortcut=[conv(1, 1, "SAME", (2, 2))]), RELU, BIASED, GAP]),
    "without biases": ((4, 4, 1), [CONV, RELU, conv(3, 3), RELU, DENSE, {"layer": "Abs"}, DENSE,
                       GAP, DENSE]),
    "one layer": ((3, 3, 2), [BIASED, GAP]),
    "local": ((4, 4, 1), [BIASED, RELU, {**BIASED, "layer": "ConvLocal"}, ERF, BIASED, GAP]),
    "sequence": ((9, 2), [{**conv(3, 3), "filter_shape": [3], "strides": [2]}, RELU,
                 {**BIASED, "filter_shape": [4], "strides": [1]}, normed(-1, 1), ERF, GAP, DENSE,
                 RELU, DENSE]),
    "index": ((5, 6, 1), [BIASED, RELU, {"layer": "Index", "idx": [":", "1:", "::2"]}, BIASED,
              GAP]),
    "vectors": ((6,), [{**DENSE, "b_std": 0.4}, RELU, {**DENSE, "b_std": 0.1}, normed(-1), ERF]),
    "images as vectors": ((2, 2, 2), [FLATTEN, {**DENSE, "b_std": 0.4}, RELU, DENSE]),
    "frozen": ((4, 4, 1), [{**BIASED, "W_rate": 0, "b_rate": 2}, RELU, {**BIASED, "b_grad": 1.5},
               ERF, GAP]),
    "heads": ((4, 5, 1), [BIASED, RELU, BIASED, RELU, HEADS]),
    "attention": ((3, 3, 2), [BIASED, RELU, {**ATTENTION, "pos_emb_type": "SUM",
                  "val_pos_emb": True}, ERF, BIASED, RELU, GAP]),
    "attention by random weights": ((5, 2), [{**ATTENTION, **ROOT}, RELU, DENSE, {
        **ATTENTION, **ROOT, "pos_emb_type": "CONCAT", "val_pos_emb": True}, RELU, FLATTEN]),
    "a deep one": ((4, 4, 1), [{"layer": "Repeat", "times": 3, "body": [BIASED, RELU]}, GAP]),
}  # fmt: skip


def tiles(network: Network, second: bool = True) -> list[tuple[Any, tuple[range, range, bool]]]:
    """Jobs of a cross and a symmetric matrix in float64, and the tile of each."""
    rng = np.random.default_rng(5)
    x1, x2 = (holed(rng, n, network.input_shape) for n in (4, 3))
    found = [(job(network, x1), (range(4), range(4), True))]
    return found + ([(job(network, x1, x2), (range(4), range(3), False))] if second else [])
