"""Theta's spectrum and mean predictor against depth, from one sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.linalg

from widegram.errors import WidegramError
from widegram.machine.budgets import require_memory
from widegram.machine.progress import Progress, ProgressCallback
from widegram.meanfield.experiments.engine_kernels import EngineOptions, ntk_sweep
from widegram.meanfield.experiments.problem import Problem
from widegram.meanfield.experiments.spectra import DENSE, Measures, deviation_spectrum, predict
from widegram.meanfield.recursion import one_norm, unequal_norms
from widegram.meanfield.recursion.deviations import Deviations
from widegram.meanfield.recursion.scaled import LogScaled
from widegram.meanfield.recursion.walker import trained_apart
from widegram.meanfield.theory.fixedpoint import CHAOTIC, ORDERED
from widegram.meanfield.theory.growth import growth_of
from widegram.meanfield.theory.one_layer import Array, LayerMaps, layer_maps
from widegram.meanfield.theory.points import point
from widegram.meanfield.theory.predictions import Prediction, predictions
from widegram.network import Activation, Conv, Dense, GlobalPool, Network
from widegram.network.contribution import bias_variance
from widegram.network.layers import Convolution
from widegram.validation.choices import SWEEP_METHODS

MEASURES = (*(f.name for f in fields(Measures)), "predictor", "accuracy")


@dataclass(frozen=True)
class Setting:
    """A network whose repeated block is one affine layer and one activation.

    ``outside`` affine layers lie outside of the block: depth l means l + outside layers.
    """

    act: LayerMaps
    w_var: float
    b_var: float
    pixels: int
    outside: int
    point: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SpectrumSweep:
    """``values[name]`` (depths,) for each of MEASURES, NaN where undefined.

    ``method`` is 'deviations' (exact, one norm), 'linearized' (see
    :mod:`~widegram.meanfield.recursion.unequal_norms`) or 'engine'.
    """

    network: Network
    m: int
    depths: Array
    values: dict[str, Array]
    method: str
    setting: Setting | None
    predicted: dict[str, Prediction]

    @property
    def layers(self) -> Array:
        """Affine layers at each depth: the l of the theory."""
        return self.depths + (self.setting.outside if self.setting else 0)


def spectrum(
    network: Network,
    problem: Problem,
    depths: Sequence[int],
    *,
    method: str = "auto",
    threads: int | None = None,
    memory: str | int | None = None,
    keep: Callable[[int, Deviations], None] | None = None,
    progress: ProgressCallback | None = None,
    accept_series_error: float | None = None,
) -> SpectrumSweep:
    """Measure at each of ``depths`` (repeats of the one top-level Repeat).

    ``keep`` receives (l, deviations of the training set) where the method carries them;
    ``progress`` counts depths. Without test rows, or without labels, predictor
    and accuracy are NaN. Raises WidegramError for a network without Repeat, bad depths, fewer
    than two inputs, or a ``method`` that cannot run the network (saying why).
    ``accept_series_error`` as in :func:`widegram.gram`, where the engine computes the kernels.
    """
    wanted = sorted(set(depths))
    _check(network, problem, wanted)
    network = network.at_depth(wanted[-1])
    setting = describe(network)
    chosen = _choose(network, problem, method, setting)
    sweep = {"deviations": _exact, "linearized": _torus, "engine": _engine}[chosen]
    values = {name: np.full(len(wanted), np.nan) for name in MEASURES}
    options = EngineOptions(threads, memory, accept_series_error)
    for i, (depth, train, test) in enumerate(sweep(network, problem, wanted, options)):
        _require_range(depth, train)
        for name, value in _measure(problem, train, test).items():
            values[name][i] = value
        if keep is not None and chosen != "engine":
            keep(depth, train)
        if progress is not None:
            progress(Progress(i + 1, len(wanted), "depths", what="depths"))
    predicted = _predicted(setting, problem) if setting else {}
    return SpectrumSweep(
        network=network,
        m=len(problem.x),
        depths=np.array(wanted),
        values=values,
        method=chosen,
        setting=setting,
        predicted=predicted,
    )


def _check(network: Network, problem: Problem, depths: Sequence[int]) -> None:
    """Refuse what has no spectrum at these depths, which ascend."""
    if network.heads or network.augment or network.mask is not None:
        raise WidegramError(
            "a mean field sweep is of a plain network, with neither Readouts nor augment nor mask; "
            "take one head of it (at_head), without the others"
        )
    if not depths or depths[0] < 1:
        raise WidegramError("depths: give at least one, each 1 or more")
    if len(problem.x) < 2:
        raise WidegramError("a spectrum needs at least two inputs")
    _require_squares(problem)


def _require_squares(problem: Problem) -> None:
    """Refuse inputs whose squares overflow or lose digits."""
    for x in (problem.x, problem.x_test):
        size = np.abs(x).max(axis=tuple(range(1, x.ndim)))
        if ((size > _LARGE_INPUT) | ((size > 0) & (size < 1 / _LARGE_INPUT))).any():
            raise WidegramError(
                "inputs: their squares leave the range of float64 (entries up to "
                f"{size.min():.3g} to {size.max():.3g}); scale them"
            )


def _require_range(depth: int, train: Deviations) -> None:
    diagonal = train.level - float(np.diag(train.drop.plain()).mean())
    if not (np.isfinite(train.drop.value).all() and _SMALLEST < diagonal < np.inf):
        raise WidegramError(
            f"depth {depth}: Theta leaves the range of float64, its diagonal is {diagonal:.3g}; "
            "read out fewer layers"
        )


def describe(network: Network) -> Setting | None:
    """The mean field setting of a network, None where its block is not affine + activation, or a
    layer is trained in a way that the theory does not have."""
    if trained_apart(network) is not None:
        return None
    prefix, body, _, suffix = network.sweep()
    affine = [layer for layer in body if isinstance(layer, Dense | Conv)]
    acts = [layer for layer in body if isinstance(layer, Activation)]
    if len(affine) != 1 or len(acts) != 1 or len(body) != 2:
        return None
    maps = layer_maps(acts[0])
    maps.require_slope()
    pixels = 1
    if any(isinstance(layer, GlobalPool) for layer in suffix) and not prefix:
        pixels = int(np.prod(network.input_shape[:-1]))
    outside = sum(isinstance(layer, Dense | Convolution) for layer in (*prefix, *suffix))
    w, b = affine[0].W_std ** 2, bias_variance(affine[0])
    return Setting(maps, w, b, pixels, outside, point(maps, w, b))


def _predicted(setting: Setting, problem: Problem) -> dict[str, Prediction]:
    maps = setting.act
    q = float((problem.x**2).mean())
    growth = growth_of(maps, setting.w_var, setting.b_var, q, setting.point)
    return predictions(setting.point, len(problem.x), setting.pixels, maps.is_kinked(), growth)


def _choose(network: Network, problem: Problem, method: str, setting: Setting | None) -> str:
    if method not in SWEEP_METHODS:
        raise WidegramError(f"method {method!r} is unknown; choose from {', '.join(SWEEP_METHODS)}")
    # In the chaotic phase the off-diagonal would be lost in the level's rounding.
    chaotic = setting is not None and setting.point["phase"] == CHAOTIC
    if method == "engine" or (method == "auto" and chaotic):
        return "engine"
    reasons = []
    reason = one_norm.refusal(network)
    if reason is None and not _one_norm(problem, one_norm.is_convolutional(network)):
        reason = "the inputs (or, for images, their pixels) have different norms"
    if reason is None:
        return "deviations"
    reasons.append(reason)
    reason = unequal_norms.refusal(network)
    # Only where they shrink do deviations need more than the engine's float64.
    ordered = setting is not None and setting.point["phase"] == ORDERED
    if reason is None and (method == "deviations" or ordered):
        return "linearized"
    reasons.append(reason or "outside of the ordered phase")
    if method == "deviations":
        raise WidegramError("deviations are not available: " + "; ".join(reasons))
    return "engine"


def _one_norm(problem: Problem, images: bool) -> bool:
    """One norm for all inputs, for all their pixels where the network takes ``images``."""
    arrays = [problem.x, problem.x_test]
    width = problem.x.shape[-1] if images else int(np.prod(problem.x.shape[1:]))
    both = np.concatenate([(x.reshape(-1, width) ** 2).mean(axis=1) for x in arrays])
    return one_norm.have_one_norm(both)


# Inputs may be so large, or as small as its inverse: squares of 1e280 and 1e-280.
_LARGE_INPUT = 1e140
# Below this diagonal products of Theta's entries underflow.
_SMALLEST = 1e-150
_REMEDY = "take fewer inputs, --method engine (kernels in float64),"
_Sweep = Iterator[tuple[int, Deviations, Deviations | None]]


def _exact(
    network: Network, problem: Problem, depths: Sequence[int], options: EngineOptions
) -> _Sweep:
    m, n = len(problem.x), len(problem.x_test)
    images = one_norm.is_convolutional(network)
    pooled = any(isinstance(layer, GlobalPool) for layer in network.sweep()[3])
    pixels = int(np.prod(problem.x.shape[1:3])) if images else 1
    # delta, D and their images under averages and activations: measured with cnn-p and fcn.
    require_memory(8 * 14 * (m + n) * m * pixels * (pixels if pooled else 1), options.memory,
                   f"the recursion on {m} training and {n} test inputs", _REMEDY)
    rows = np.concatenate([problem.x, problem.x_test])
    if images:
        start = one_norm.pixel_deviations(rows, problem.x, pooled)
    else:
        flat = rows.reshape(m + n, -1)
        start = one_norm.input_deviations(flat, flat[:m])
    for depth, found in one_norm.sweep(network, start, depths):
        yield depth, found.rows(slice(0, m)), found.rows(slice(m, None))


def _torus(
    network: Network, problem: Problem, depths: Sequence[int], options: EngineOptions
) -> _Sweep:
    rows = np.concatenate([problem.x, problem.x_test])
    m = len(problem.x)
    for depth, found in unequal_norms.sweep(network, problem.x, rows, depths, options.memory):
        yield depth, found.rows(slice(0, m)), found.rows(slice(m, None))


def _engine(
    network: Network, problem: Problem, depths: Sequence[int], options: EngineOptions
) -> _Sweep:
    m, n = len(problem.x), len(problem.x_test)
    require_memory(8 * len(depths) * m * (m + n), options.memory,
                   f"Theta of {m} training and {n} test inputs at {len(depths)} depths",
                   "take fewer of them")
    test = None
    # What overflows is refused by depth where it is read out.
    with np.errstate(over="ignore", invalid="ignore"):
        train = ntk_sweep(network, problem.x, None, depths, options)
        if n:
            test = ntk_sweep(network, problem.x_test, problem.x, depths, options)
    for i, depth in enumerate(depths):
        level = _level(train[i])
        yield depth, _plain(level, train[i]), None if test is None else _plain(level, test[i])


def _level(theta: Array) -> float:
    """The mean diagonal where Theta is nearly constant, else 0: deep in the chaotic phase the
    diagonal is so large that a difference from it would round the rest away."""
    level = float(np.trace(theta) / len(theta))
    if not np.isfinite(level):
        return 0.0
    return level if np.abs(theta - level).max() <= DENSE * abs(level) else 0.0


def _plain(level: float, theta: Array) -> Deviations:
    return Deviations(np.nan, level, LogScaled(np.zeros_like(theta)), LogScaled(level - theta))


def _measure(problem: Problem, train: Deviations, test: Deviations | None) -> dict[str, float]:
    found = deviation_spectrum(train.level, train.drop)
    values = {f.name: getattr(found, f.name) for f in fields(Measures)}
    if test is None or not len(problem.x_test) or not problem.y.size:
        return values
    centred = problem.y - problem.y.mean(axis=0)
    try:
        both = predict(train.level, train.drop, test.level, test.drop,
                       np.concatenate([centred, problem.y], axis=1))
    except scipy.linalg.LinAlgError:
        return values
    classes = problem.y.shape[1]
    # Root mean square of the predictions of centred labels, relative to the labels'.
    values["predictor"] = float(np.sqrt((both[:, :classes] ** 2).mean() / (centred**2).mean()))
    hits = both[:, classes:].argmax(axis=1) == problem.labels_test
    values["accuracy"] = float(hits.mean())
    return values


