"""The paper's table of asymptotics, measured on images: predicted, measured, ratio.

Convolutional rows use CIRCULAR 3x3 convolutions on images whose pixels carry their neighbourhood as
channels, scaled to one norm (:func:`~widegram.meanfield.experiments.problem.unit_pixels`); fully
connected rows use images of one norm. Those are the premises of the theory: where q differs from
pixel to pixel, the prefactor of chi_1^l differs from image to image and kappa tends to a constant
above 1 in the chaotic phase. Remarks of the paper (dropout, ReLU at (2, 0), residual, LayerNorm)
follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from widegram.errors import WidegramError
from widegram.machine.progress import Progress, ProgressCallback
from widegram.meanfield.experiments.architectures import remarks
from widegram.meanfield.experiments.problem import Problem, with_unit_pixels
from widegram.meanfield.experiments.sweeps import SpectrumSweep, spectrum
from widegram.meanfield.theory.fixedpoint import CHAOTIC, CRITICAL, ORDERED
from widegram.meanfield.theory.growth import LARGE, in_range
from widegram.meanfield.theory.one_layer import Array, LayerMaps
from widegram.meanfield.theory.points import point
from widegram.meanfield.theory.predictions import ENOUGH, Prediction, fitted_exponent, fitted_limit
from widegram.network import build
from widegram.validation.choices import FAMILIES

ENTRIES = (
    "diagonal", "off_diagonal", "lambda_max", "bulk", "kappa", "kappa_minus_1", "predictor",
)  # fmt: skip
GROWING = "growing"
EXPONENT_TOLERANCE = 0.02
_CLOSE = 0.005
# What a slow approach may still lack at the deepest depth: log l / l is 0.04 at 100 layers.
_FAR = 0.1
# Where the chaotic rates are fitted chi_1^l reaches this: constants beside it are 1e-5 of it.
_CHAOTIC_GROWTH = 17.3
# Entries of one family of networks, and of the remarks, for the progress display.
_PER_NET, _REMARKS = 19, 23


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the table, at ``layers`` (the l of the laws), ``depths`` hidden ones.

    * ``predicted``: a constant, or the exponent that a rate should have
    * ``ratios``: of a constant, measured over predicted
    * ``limit``: where the ratios go as l grows, extrapolated where the approach is slow
      (log l / l), else the last ratio
    * ``exponent``: of a rate, fitted
    * ``fitted_from``: fits use the depths from there on: the second half, four at least where there
      are as many
    * ``good``: the limit is within 0.005 of 1 and the last ratio within 0.1; or the exponent is
      within 2 %
    """

    net: str
    phase: str
    quantity: str
    formula: str
    kind: str
    depths: tuple[int, ...]
    layers: tuple[float, ...]
    log10_measured: tuple[float, ...]
    predicted: float
    ratios: tuple[float, ...]
    limit: float
    exponent: float
    fitted_from: int
    good: bool


@dataclass(frozen=True)
class TablePlan:
    """Depths that each phase is measured at (rates are fitted over the second half), and images.

    Chaotic depths that are not given follow from chi_1, those of a diagonal that grows without
    bound from its growth.
    """

    ordered: tuple[int, ...] = (100, 200, 500, 1000, 1200, 1400, 1600, 1800, 2000)
    critical: tuple[int, ...] = (100, 200, 500, 1000, 1200, 1400, 1600, 1800, 2000)
    chaotic: tuple[int, ...] = ()
    images: int = 10
    test_images: int = 30
    # Global pooling couples every pixel with every other.
    pooled_images: int = 6
    pooled_test_images: int = 10

    def depths(self, phase: str, growth: float) -> tuple[int, ...]:
        """The depths of one phase; ``growth``: per layer, of Theta's diagonal, in the last two."""
        if phase in (ORDERED, CRITICAL):
            return self.ordered if phase == ORDERED else self.critical
        if self.chaotic:
            return self.chaotic
        if phase == CHAOTIC:
            reach = _CHAOTIC_GROWTH / np.log(growth)
            return tuple(int(np.ceil(reach * part / 10)) for part in (2, 4, 5, 6, 7, 8, 9, 10))
        return in_range(self.critical, growth)


@dataclass(frozen=True)
class Column:
    """One column of the table: a phase, or GROWING, at one w_var.

    * ``mean_square``: of the inputs, V(q*), with which q is q* from the first layer on as the
      theory assumes; 1 where there is no q*
    * ``depths``: those that it is measured at
    * ``method``: deviations while Theta's entries are alike; the engine where q grows (they differ
      by 1 / l^2 at least) and in the chaotic phase, where the off-diagonal is lost in the
      diagonal's rounding
    """

    phase: str
    w_var: float
    mean_square: float
    depths: tuple[int, ...]
    method: str


def table(
    problem: Problem,
    act: str = "erf",
    b_var: float = 0.18,
    w_vars: Sequence[float] | None = None,
    nets: Sequence[str] = FAMILIES,
    plan: TablePlan = TablePlan(),
    memory: str | int | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[Entry]:
    """Yield every entry. ``problem`` holds standardized images (n, H, W, C).

    ``w_vars`` are the ordered and the chaotic w_var; the critical one is solved for. Raises
    WidegramError where an activation has no critical point, a w_var lies in the wrong phase, or
    ``plan`` gives a phase a single depth.
    """
    if 1 in (len(plan.ordered), len(plan.critical), len(plan.chaotic)):
        raise WidegramError("a rate needs two depths at least; give each phase more than one")
    columns = _columns(act, b_var, w_vars or (1.25, 2.5), plan)
    done, total = 0, _PER_NET * len(nets) + _REMARKS

    def tell(what: str) -> None:
        if progress is not None:
            progress(Progress(done, total, what=what))

    for net in nets:
        data = prepared(problem, net, plan)
        for column in columns:
            tell(f"{net}, {column.phase}")
            network = build(net, data.input_shape, act, depth=1, w_var=column.w_var, b_var=b_var)
            sweep = spectrum(
                network, scaled(data, column.mean_square), column.depths, method=column.method,
                memory=memory,
            )
            for found in entries(net, column.phase, sweep):
                done += 1
                yield found
    data = prepared(problem, "fcn", plan)
    for remark in remarks(data, plan.critical):
        tell(remark.title)
        for name, law in remark.laws.items():
            done += 1
            yield entry(remark.title, remark.phase, name, law, remark.depths, remark.layers,
                        np.log(remark.measured[name]))


def _columns(act: str, b_var: float, w_vars: Sequence[float], plan: TablePlan) -> list[Column]:
    ordered, chaotic = w_vars
    maps = LayerMaps.of(act)
    critical = point(maps, ordered, b_var)["w_var_critical"]
    if critical is None:
        raise WidegramError(f"{act}: there is no critical w_var at b_var = {b_var:g}")
    columns = []
    for wanted, w in ((ORDERED, ordered), (CRITICAL, critical), (CHAOTIC, chaotic)):
        found = point(maps, w, b_var)
        phase, growth, q = found["phase"], found["chi_1"], found["q_star"]
        if q is None and phase in (CHAOTIC, None):
            phase, growth = GROWING, w * float(maps.power(LARGE)) / LARGE
        if phase != wanted and (phase, wanted) != (GROWING, CHAOTIC):
            raise WidegramError(
                f"w_var = {w:g}, b_var = {b_var:g} is {phase}, not {wanted}, for {act}; its "
                f"critical w_var is {critical:.6g}"
            )
        if q == 0:
            # Without bias signals vanish: the table has nothing to say.
            continue
        method = "deviations" if phase in (ORDERED, CRITICAL) else "engine"
        mean_square = float(maps.power(q)) if q else 1.0
        columns.append(Column(phase, w, mean_square, plan.depths(phase, growth), method))
    return columns


def prepared(problem: Problem, net: str, plan: TablePlan) -> Problem:
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


def scaled(problem: Problem, mean_square: float) -> Problem:
    """Inputs of mean square 1 scaled to another."""
    factor = np.sqrt(mean_square)
    return replace(problem, x=problem.x * factor, x_test=problem.x_test * factor)


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
    exponent = limit = np.nan
    start = max(0, min(len(depths) // 2, len(depths) - ENOUGH))
    if law.constant:
        ratio = np.exp(measured - law.law(layers))
        ratios = tuple(ratio.tolist())
        predicted = float(np.exp(law.law(layers[-1:]))[0])
        limit = fitted_limit(law, layers[start:], ratio[start:])
        good = bool(abs(limit - 1) <= _CLOSE and abs(ratio[-1] - 1) < _FAR)
    else:
        exponent = fitted_exponent(law, layers[start:], measured[start:])
        predicted = law.exponent
        # An exponent of 0 (a limit that depends on the data) has no relative error.
        scale = abs(predicted) if predicted else 1.0
        good = bool(abs(exponent - predicted) <= EXPONENT_TOLERANCE * scale)
    kind = "constant" if law.constant else "power" if law.power else "rate"
    return Entry(
        net=net,
        phase=phase,
        quantity=name,
        formula=law.text,
        kind=kind,
        depths=tuple(int(l) for l in depths),
        layers=tuple(layers.tolist()),
        log10_measured=tuple((measured / np.log(10)).tolist()),
        predicted=predicted,
        ratios=ratios,
        limit=limit,
        exponent=exponent,
        fitted_from=int(depths[start]),
        good=good,
    )


def _natural_log(sweep: SpectrumSweep, name: str) -> Array:
    if name in ("bulk", "kappa"):
        return np.asarray(sweep.values[f"log10_{name}"] * np.log(10))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(sweep.values[name]))


__all__ = ["ENTRIES", "GROWING", "Entry", "TablePlan", "entries", "prepared", "table"]
