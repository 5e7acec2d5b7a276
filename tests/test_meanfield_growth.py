"""Laws of a Theta that keeps growing, against the scalar recursion of one pair of inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from widegram.errors import WidegramError
from widegram.meanfield.experiments import asymptotics as table_module
from widegram.meanfield.experiments.asymptotics import TablePlan, table
from widegram.meanfield.experiments.problem import digits_problem
from widegram.meanfield.theory.growth import ROOT, growth_of, in_range, with_bias
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.meanfield.theory.points import point
from widegram.meanfield.theory.predictions import fitted_limit, growing, predictions


def relu_pair(w, b, layers, slope=0.0):
    """Theta on and off the diagonal at layers 1 .. ``layers`` of inputs of mean square 1 at 60
    degrees; the negative side of the activation has ``slope`` (Cho and Saul 2009, degree 1)."""
    q, k = w + b, w / 2 + b
    on, off = [q], [k]
    bend, rest = (1 - slope) ** 2, slope
    for _ in range(layers - 1):
        angle = math.acos(k / q)
        dot = bend * (math.pi - angle) / (2 * math.pi) + rest
        value = bend * q / (2 * math.pi) * (math.sin(angle) + (math.pi - angle) * k / q) + rest * k
        q, k = w * q * (bend / 2 + rest) + b, w * value + b
        on.append(q + w * (bend / 2 + rest) * on[-1])
        off.append(k + w * dot * off[-1])
    return np.array(on), np.array(off)


@pytest.mark.parametrize(("act", "slope", "w", "b", "layers"), [
    ("relu", 0.0, 2.0, 0.0, 20_000),
    ("relu", 0.0, 2.0, 0.18, 20_000),
    ("leakyrelu:alpha=0.2", 0.2, 2 / 1.04, 0.0, 40_000),
    ("leakyrelu:alpha=0.2", 0.2, 2 / 1.04, 0.3, 40_000),
    ("relu", 0.0, 2.1, 0.18, 4_000),
])
def test_laws_of_scale_free_activations(act, slope, w, b, layers):
    maps = LayerMaps.of(act)
    laws = growing(growth_of(maps, w, b, 1.0, point(maps, w, b)), 2)
    on, off = relu_pair(w, b, layers, slope)
    depths = np.unique(np.logspace(2.5, math.log10(layers), 12).astype(int))
    l = depths.astype(float)
    on, off = on[depths - 1], off[depths - 1]
    measured = {"diagonal": on, "off_diagonal": off, "lambda_max": on + off, "bulk": on - off,
                "kappa": (on + off) / (on - off)}
    for name, values in measured.items():
        ratios = values / laws[name].values(l)
        # Neglected beside log l / l: 1 / l^(3/2) at 300 layers, times prefactors near 10.
        assert fitted_limit(laws[name], l, ratios) == pytest.approx(1, abs=3e-3), name
        assert abs(ratios[-1] - 1) < abs(ratios[0] - 1) or abs(ratios[-1] - 1) < 1e-10


def test_formulas_in_words_of_the_table():
    texts = {name: law.text for name, law in growing(with_bias(0.18), 10, 64).items()}
    assert texts == {
        "diagonal": "(4 d + 3)/(7 d) b l^2/2", "off_diagonal": "4/7 b l^2/2",
        "lambda_max": "(4 m d + 3)/(7 d) b l^2/2", "bulk": "3/(7 d) b l^2/2",
        "kappa": "(4 m d + 3)/3", "predictor": "l^(-0.5)",
    }  # fmt: skip
    smooth = point("erf", point("erf", 1.0, 0.18)["w_var_critical"], 0.18)
    laws = predictions(smooth, 10, growth=growth_of(LayerMaps.of("erf"), 1.7, 0.18, 1.0, smooth))
    assert [law.text for law in laws.values()] == [
        "l q*", "1/3 l q*", "(m + 2)/3 l q*", "2/3 l q*", "(m + 2)/2", "1/l",
    ]


def test_nothing_grows_where_a_fixed_point_bounds_it_or_nothing_bends():
    for act, w in (("erf", 1.25), ("erf", 2.5), ("relu", 1.25), ("gelu", 1.99)):
        maps = LayerMaps.of(act)
        assert growth_of(maps, w, 0.18, 1.0, point(maps, w, 0.18)) is None, act
    linear = LayerMaps.of("identity")
    assert growth_of(linear, 1.0, 0.0, 1.0, point(linear, 1.0, 0.0)) is None


def test_variances_without_a_fixed_point_follow_the_recursion():
    found = LayerMaps.of("relu").variances(2.5, 0.18, 1.0, 40)
    exact = 1.25 ** np.arange(40) * (2.68 + 0.72) - 0.72
    np.testing.assert_allclose(found, exact, rtol=1e-13)  # 40 roundings


def test_limits_of_slow_approaches_are_extrapolated():
    law = growing(with_bias(0.18), 10)["kappa"]
    assert law.approach == ROOT
    l = np.array([500.0, 1000, 1500, 2000])
    assert fitted_limit(law, l, 1 + 3 / np.sqrt(l) - 20 / l) == pytest.approx(1, abs=1e-12)
    assert fitted_limit(law, l[:3], np.array([3.0, 2, 1.5])) == 1.5


@pytest.mark.parametrize(("act", "w_vars", "phases"), [
    ("relu", (1.25, 2.5), ("ordered", "critical", "growing")),
    # Growing without a kink; a kink grows above, this activation is chaotic below.
    pytest.param("gelu", (1.25, 2.5), ("ordered", "critical", "growing"), marks=pytest.mark.slow),
    ("gelu", (1.25, 1.99), ("ordered", "critical", "chaotic")),
])
def test_every_entry_agrees_beyond_erf(monkeypatch, act, w_vars, phases):
    monkeypatch.setattr(table_module, "remarks", lambda *_: iter(()))
    found = list(table(digits_problem(), act, w_vars=w_vars, nets=("fcn",)))
    assert tuple(dict.fromkeys(entry.phase for entry in found)) == phases
    assert [entry for entry in found if not entry.good] == []
    for entry in found:
        if entry.kind == "constant":
            # Second-order corrections at 2000 layers; growing: at 900, log(l)^2 / l^2 = 6e-5.
            assert entry.limit == pytest.approx(1, abs=5e-4), entry


def test_a_w_var_in_the_wrong_phase_is_refused_with_the_critical_one():
    with pytest.raises(WidegramError, match=r"is chaotic, not ordered, for erf; its critical"):
        next(table(digits_problem(), w_vars=(1.9, 2.5)))


def test_depths_follow_the_growth_unless_given():
    assert TablePlan().depths("chaotic", 1.19)[-1] == 100
    assert TablePlan().depths("growing", 1.25)[-1] == 928  # 1.25^928 = 1e90
    assert in_range((5, 10), 1.25) == in_range((5, 10), 0.9) == (5, 10)
    assert TablePlan(chaotic=(3, 5)).depths("chaotic", 1.19) == (3, 5)


def test_vanishing_signals_have_no_rows(monkeypatch):
    monkeypatch.setattr(table_module, "remarks", lambda *_: iter(()))
    plan = TablePlan(critical=(50, 100, 200, 300), chaotic=(50, 100, 150, 200))
    found = list(table(digits_problem(), "relu", 0.0, nets=("fcn",), plan=plan))
    assert {entry.phase for entry in found} == {"critical", "growing"}
    assert {entry.fitted_from for entry in found} == {50}  # all four


def test_one_depth_makes_no_rate():
    with pytest.raises(WidegramError, match="two depths at least"):
        next(table(digits_problem(), plan=TablePlan(ordered=(5,))))
