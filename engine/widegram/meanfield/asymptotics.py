"""The paper's table of asymptotics, measured on images: predicted, measured, ratio.

Convolutional rows use CIRCULAR 3x3 convolutions on images whose pixels carry their neighbourhood as
channels, scaled to one norm (:func:`widegram.meanfield.problem.unit_pixels`); fully connected rows
use images of one norm. Those are the premises of the theory: where q differs from pixel to pixel,
the prefactor of chi_1^l differs from image to image and kappa tends to a constant above 1 in the
chaotic phase. Remarks of the paper (dropout, ReLU at (2, 0), residual, LayerNorm) follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from widegram.errors import WidegramError
from widegram.meanfield.fixedpoint import CHAOTIC, CRITICAL, ORDERED
from widegram.meanfield.maps import Array
from widegram.meanfield.points import point
from widegram.meanfield.predictions import Prediction, fitted_exponent
from widegram.meanfield.problem import Problem, with_unit_pixels
from widegram.meanfield.remarks import remarks
from widegram.meanfield.sweeps import SpectrumSweep, spectrum
from widegram.network import load_network

NETS = ("fcn", "cnn-f", "cnn-p")
ENTRIES = (
    "diagonal", "off_diagonal", "lambda_max", "bulk", "kappa", "kappa_minus_1", "predictor",
)  # fmt: skip
EXPONENT_TOLERANCE = 0.02
_CLOSE = 0.005


@dataclass(frozen=True)
class Entry:
    """One entry of the table.

    A constant has ``predicted`` and ``ratios`` (measured over predicted) at ``depths``. A rate has
    ``exponent`` fitted over the second half of the depths, and ``predicted`` is the exponent it
    should have. ``good``: the last ratio is within 0.005 of 1, or within 0.1 and nearer
    than at the middle depth (corrections fall as log l / l); or the exponent is within 2 %.
    """

    net: str
    phase: str
    quantity: str
    formula: str
    kind: str
    depths: tuple[int, ...]
    log10_measured: tuple[float, ...]
    predicted: float
    ratios: tuple[float, ...]
    exponent: float
    good: bool


@dataclass(frozen=True)
class Plan:
    """Depths that each phase is measured at (rates are fitted over the second half), and images."""

    ordered: tuple[int, ...] = (100, 200, 500, 1000, 1200, 1400, 1600, 1800, 2000)
    critical: tuple[int, ...] = (100, 200, 500, 1000, 1200, 1400, 1600, 1800, 2000)
    chaotic: tuple[int, ...] = (20, 40, 50, 60, 70, 80, 90, 100)
    images: int = 10
    test_images: int = 30
    # Global pooling couples every pixel with every other.
    pooled_images: int = 6
    pooled_test_images: int = 10

    def depths(self, phase: str) -> tuple[int, ...]:
        """Those of one phase."""
        return {ORDERED: self.ordered, CRITICAL: self.critical, CHAOTIC: self.chaotic}[phase]


def table(
    problem: Problem,
    act: str = "erf",
    b_var: float = 0.18,
    w_vars: Sequence[float] | None = None,
    nets: Sequence[str] = NETS,
    plan: Plan = Plan(),
    memory: str | int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Entry]:
    """Yield every entry. ``problem`` holds standardized images (n, H, W, C).

    ``w_vars`` are the ordered and the chaotic w_var; the critical one is solved for. Raises
    WidegramError where an activation has no critical point or a w_var lies in the wrong phase.
    """
    ordered, chaotic = w_vars or (1.25, 2.5)
    critical = point(act, ordered, b_var)["w_var_critical"]
    if critical is None:
        raise WidegramError(f"{act}: there is no critical w_var at b_var = {b_var:g}")
    for net in nets:
        data = prepared(problem, net, plan)
        for phase, w in ((ORDERED, ordered), (CRITICAL, critical), (CHAOTIC, chaotic)):
            found = point(act, w, b_var)["phase"]
            if found != phase:
                raise WidegramError(f"w_var = {w:g}, b_var = {b_var:g} is {found}, not {phase}")
            if progress is not None:
                progress(f"{net}, {phase}")
            name, _, parameters = act.partition(":")
            options = f"depth=1,act={name},w_var={w!r},b_var={b_var!r}"
            network = load_network(
                f"{net}:{options}" + (f",{parameters}" if parameters else ""), data.input_shape
            )
            sweep = spectrum(network, data, plan.depths(phase), method="deviations", memory=memory)
            yield from entries(net, phase, sweep)
    yield from _remark_entries(problem, plan, progress)


def prepared(problem: Problem, net: str, plan: Plan) -> Problem:
    """The first images, as the theory of ``net`` assumes them."""
    m, n = plan.images, plan.test_images
    if net == "cnn-p":
        m, n = min(m, plan.pooled_images), min(n, plan.pooled_test_images)
    chosen = replace(
        problem,
        x=problem.x[:m],
        y=problem.y[:m],
        labels=problem.labels[:m],
        x_test=problem.x_test[:n],
        labels_test=problem.labels_test[:n],
    )
    if net == "fcn":
        return chosen
    return with_unit_pixels(chosen)


def entries(net: str, phase: str, sweep: SpectrumSweep) -> Iterator[Entry]:
    """One Entry for each prediction of a sweep."""
    for name in ENTRIES:
        law = sweep.predicted.get(name)
        if law is not None:
            measured = _natural_log(sweep, name)
            yield entry(net, phase, name, law, sweep.depths, sweep.layers.astype(float), measured)


def entry(
    net: str, phase: str, name: str, law: Prediction, depths: Array, layers: Array, measured: Array
) -> Entry:
    """Compare natural logarithms ``measured`` at ``layers`` with ``law``."""
    ratios: tuple[float, ...] = ()
    exponent = np.nan
    if law.constant:
        ratio = np.exp(measured - law.law(layers))
        ratios = tuple(ratio.tolist())
        predicted = float(np.exp(law.law(layers[-1:]))[0])
        off = np.abs(ratio - 1)
        good = bool(off[-1] <= max(off[len(off) // 2], _CLOSE) and off[-1] < 0.1)
    else:
        half = len(depths) // 2
        exponent = fitted_exponent(law, layers[half:], measured[half:])
        predicted = law.exponent
        # An exponent of 0 (a limit that depends on the data) has no relative error.
        scale = abs(predicted) if predicted else 1.0
        good = bool(abs(exponent - predicted) <= EXPONENT_TOLERANCE * scale)
    kind = "constant" if law.constant else "power" if law.power else "rate"
    return Entry(
        net, phase, name, law.text, kind, tuple(int(l) for l in depths),
        tuple((measured / np.log(10)).tolist()), predicted, ratios, exponent, good,
    )


def _natural_log(sweep: SpectrumSweep, name: str) -> Array:
    if name in ("bulk", "kappa"):
        return np.asarray(sweep.values[f"log10_{name}"] * np.log(10))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(sweep.values[name]))


def _remark_entries(
    problem: Problem, plan: Plan, progress: Callable[[str], None] | None
) -> Iterator[Entry]:
    data = prepared(problem, "fcn", plan)
    for remark in remarks(data, plan.critical):
        if progress is not None:
            progress(remark.title)
        for name, law in remark.laws.items():
            yield entry(remark.title, remark.phase, name, law, remark.depths, remark.layers,
                        np.log(remark.measured[name]))


__all__ = ["ENTRIES", "NETS", "Entry", "Plan", "entries", "prepared", "table"]
