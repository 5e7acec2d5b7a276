"""Fixed points, phases and maps against mpmath, the theory's table and statements."""

from __future__ import annotations

import h5py
import mpmath as mp
import numpy as np
import pytest

from meanfield_support import erf_fixed_point
from widegram import meanfield
from widegram.errors import WidegramError
from widegram.meanfield.experiments.phase import phase_map, write_phase
from widegram.meanfield.experiments.ranges import parse_range
from widegram.meanfield.theory.fixedpoint import critical_line, critical_w_var, fixed_points
from widegram.meanfield.theory.one_layer import LayerMaps
from widegram.meanfield.theory.points import kink, point

# (w_var, b_var): q*, c*, chi_1, chi_c, p* or p*_ab; the paper's setting at six points.
TABLE = {
    (0.80, 0.18): (0.422185433805, 1, 0.621191581421, 0.621191581421, 1.114509110935),
    (1.25, 0.05): (0.435165699078, 1, 0.961373904402, 0.961373904402, 11.26610630295),
    (1.50, 0.05): (0.601753167110, 0.820530087998, 1.034700129582, 0.969551941325, 16.21635666285),
    (2.50, 0.18): (1.542226502103, 0.616260539682, 1.188840752987, 0.880478471728, 7.951817134855),
    (3.00, 0.05): (1.752740188132, 0.191402333342, 1.349550285265, 0.857354038978, 2.351826573622),
}
KEYS = {
    "phase", "q_star", "c_star", "chi_1", "chi_c", "p_star", "p_star_ab", "xi_1", "xi_c",
    "xi_star", "w_var_critical",
}  # fmt: skip


@pytest.mark.parametrize(("w", "b"), TABLE)
def test_erf_agrees_with_the_table(w, b):
    found = point("erf", w, b)
    values = [found[name] for name in ("q_star", "c_star", "chi_1", "chi_c", "p_star_ab")]
    # The table has 12 digits, 13 for the last column.
    np.testing.assert_allclose(values, TABLE[w, b], rtol=3e-12)
    assert found["phase"] == ("ordered" if found["chi_1"] < 1 else "chaotic")
    assert set(found) >= KEYS


@pytest.mark.parametrize(("w", "b"), [
    (0.8, 0.18), (1.5, 0.05), (1.76, 0.18), (3.0, 0.05), (2.5, 0.001),
    # Towards the critical 1.747603749767...: |1 - chi_1| from 1e-3 to 3e-10.
    (1.7477, 0.18), (1.7475, 0.18), (1.74761, 0.18), (1.7476, 0.18), (1.7476038, 0.18),
    (1.7476037, 0.18), (1.747603751, 0.18), (1.747603749, 0.18),
])
def test_erf_agrees_with_mpmath_to_twelve_digits(w, b):
    names = ("q_star", "c_star", "chi_1", "chi_c", "p_star_ab")
    with mp.workdps(60):
        q, c, chi_1, chi_c, _ = exact = erf_fixed_point(w, b)
        want = dict(zip(names, exact, strict=True)) | {"xi_c": -1 / mp.log(chi_c)}
        if chi_1 < 1:
            want |= {"p_star": q / (1 - chi_1), "xi_1": -1 / mp.log(chi_1)}
        else:
            want |= {"one_minus_c_star": 1 - c, "xi_star": -1 / mp.log(chi_c / chi_1)}
        want = {name: float(value) for name, value in want.items()}
    found = point("erf", w, b)
    for name, value in want.items():
        assert found[name] == pytest.approx(value, rel=1e-13), name  # a few roundings
    if abs(want["chi_1"] - 1) < 1e-2:
        assert "near-critical" in found["statements"][0]


def test_parameters_of_erf_reach_the_refined_solution():
    # a erf(b x) at (w, v) is erf at (a^2 b^2 w, b^2 v), its q scaled by b^2.
    plain, scaled = point("erf", 1.5, 0.05), point("erf:a=1.25,b=0.8", 1.5, 0.05 / 0.64)
    assert scaled["q_star"] * 0.64 == pytest.approx(plain["q_star"], rel=1e-14)
    # 0.05 / 0.64 is rounded; 1 - chi, 0.03, has its error 30 times over.
    for name in ("chi_1", "c_star", "xi_star", "xi_c"):
        assert scaled[name] == pytest.approx(plain[name], rel=1e-14)
    offset = point("erf:c=0.3", 1.5, 0.05)
    plain = point("erf", 1.5, 0.05 + 1.5 * 0.09)
    assert offset["q_star"] == pytest.approx(plain["q_star"], rel=1e-14)


def test_the_critical_value_agrees_with_the_theory():
    critical = critical_w_var(LayerMaps.of("erf"), 0.18)
    assert critical == pytest.approx(1.74760374977, abs=6e-12)  # the theory gives 12 digits
    line = critical_line(LayerMaps.of("erf"), [0.0, 0.18, 0.05])
    # One by one or together: the solver stops at other points of the last interval.
    np.testing.assert_allclose(line[1:], [critical, 1.37583900735], rtol=3e-12)
    assert line[0] == pytest.approx(np.pi / 4, rel=1e-15)


def test_series_say_how_many_digits_are_left_near_criticality():
    lines = point("tanh", 2.2339, 0.18)["statements"]
    assert "near-critical" in lines[0]
    assert "about 9 are left" in lines[1]


def test_the_critical_point_itself_is_a_power_law():
    found = point("erf", critical_w_var(LayerMaps.of("erf"), 0.18), 0.18)
    assert found["phase"] == "critical"
    assert found["xi_1"] is found["p_star"] is found["xi_star"] is None
    assert "power law" in found["statements"][0]


def test_tanh_by_series_agrees_with_quadrature_in_mpmath():
    found = point("tanh", 2.0, 0.05)
    q, w = found["q_star"], 2.0

    def mean(function):
        def density(z):
            return function(mp.sqrt(q) * z) * mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)

        return mp.quad(density, [-12, -6, -3, -1, 0, 1, 3, 6, 12])

    # The fixed point equation itself, and the slope; both sides are good to 1e-14.
    assert float(w * mean(lambda x: mp.tanh(x) ** 2) + 0.05) == pytest.approx(q, rel=1e-12)
    chi_1 = float(w * mean(lambda x: mp.sech(x) ** 4))
    assert found["chi_1"] == pytest.approx(chi_1, rel=1e-12)
    assert 0 < found["error"] < 1e-12


def test_scale_free_activations_have_statements_instead_of_nan():
    critical = point("relu", 2.0, 0.0)
    assert critical["phase"] == "critical"
    assert critical["q_star"] is None
    assert any("every q is a fixed point" in line for line in critical["statements"])
    assert any("(1/4) l q" in line for line in critical["statements"])
    ordered = point("relu", 1.5, 0.1)
    assert ordered["q_star"] == pytest.approx(0.4, rel=1e-15)
    assert ordered["p_star"] == pytest.approx(1.6, rel=1e-15)
    growing = point("relu", 2.5, 0.1)
    assert growing["phase"] == "chaotic"
    assert any("without bound" in line for line in growing["statements"])
    with_bias = point("relu", 2.0, 0.18)["statements"]
    assert any("b_var l^2 / 2" in line and "4/7" in line for line in with_bias)
    smooth = point("gelu", 2.5, 0.18)["statements"]
    assert any("scale-free" in line and "(1/4) l q_l" in line for line in smooth)
    assert point("leakyrelu:alpha=0.1", 2.0, 0.0)["w_var_critical"] == pytest.approx(2 / 1.01)
    for found in (critical, ordered, growing):
        assert all(value == value for value in found.values() if isinstance(value, float))


def test_the_kink_of_the_rectified_family():
    # (a - b)^2 / (a^2 + b^2), by hand: 1 for ReLU, 0.81 / 1.01 for slopes 0.1 and 1.
    for act, bend in (("relu", 1.0), ("leakyrelu:alpha=0.1", 0.81 / 1.01), ("identity", 0.0)):
        maps = LayerMaps.of(act)
        assert kink(maps, maps.homogeneity()) == pytest.approx(bend, abs=1e-14)


def test_no_bias_and_small_weights_let_signals_vanish():
    found = point("erf", 0.5, 0.0)
    assert found["q_star"] == 0
    assert found["c_star"] is None
    assert found["w_var_critical"] == pytest.approx(np.pi / 4, rel=1e-15)
    assert point("erf", 1.5, 0.0)["c_star"] == pytest.approx(0, abs=1e-12)  # erf is odd


@pytest.mark.parametrize("act", ["erf", "tanh", "sin", "gelu"])
def test_a_map_holds_the_points(act):
    w, b = np.linspace(0.2, 2.4, 24), np.linspace(0.02, 0.25, 18)
    result = phase_map(act, w, b)
    # A series is tabulated from 400 points on; its tables are good to 1e-11.
    for i, j in ((0, 0), (10, 3), (23, 17), (17, 9)):
        single = fixed_points(LayerMaps.of(act), w[i], b[j]).item()
        for name in ("q_star", "chi_1", "chi_c", "gap"):
            np.testing.assert_allclose(
                getattr(result.solved, name)[i, j], single[name], rtol=1e-9, atol=1e-11
            )


def test_a_map_file_reads_back(tmp_path):
    result = phase_map("erf", parse_range("0:3:0.25", "w"), parse_range("0.05:0.2:0.05", "b"))
    write_phase(result, tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["q_star"].shape == (13, 4)
        codes = file["phase"][()]
        chi = file["chi_1"][()]
        np.testing.assert_array_equal(codes, np.where(chi < 1, -1, 1))
        np.testing.assert_array_equal(file["critical_w_var"][()], result.critical)
    with pytest.raises(WidegramError, match="exists"):
        write_phase(result, tmp_path / "p.h5")


def test_ranges():
    np.testing.assert_array_equal(parse_range("0:3:0.01", "w")[[0, 3, -1]], [0, 0.03, 3])
    assert parse_range("0:3:0.01", "w").size == 301
    assert parse_range("0.01:0.25:0.001", "b").size == 241
    assert parse_range("2,1", "w").tolist() == [1, 2]
    for text, match in (("3:0:0.1", "empty"), ("0:1:0", "positive"), ("0:1", "three"),
                        ("-1:1:0.5", "negative"), ("a", "give"), ("0:inf:1", "finite")):
        with pytest.raises(WidegramError, match=match):
            parse_range(text, "w")


@pytest.mark.parametrize(("arguments", "match"), [
    (("erf", -1.0, 0.1), "not negative"),
    (("erf", 1.0, float("nan")), "finite"),
    (("sign", 1.0, 0.1), "no mean square"),
    (("nothing", 1.0, 0.1), "unknown activation"),
    (("leakyrelu:alpha=x", 1.0, 0.1), "NAME=NUMBER"),
])
def test_bad_points_are_refused(arguments, match):
    with pytest.raises(WidegramError, match=match):
        point(*arguments)


def test_a_grid_too_large_names_its_size():
    with pytest.raises(WidegramError, match=r"3001 x 2001 points needs 15\.0 GB"):
        phase_map("erf", np.zeros(3001), np.zeros(2001), memory="100MB")


def test_the_package_offers_its_functions_lazily():
    assert meanfield.point("erf", 1.25, 0.05)["phase"] == "ordered"
    for name in meanfield.__all__:
        assert callable(getattr(meanfield, name))
    with pytest.raises(AttributeError):
        _ = meanfield.nothing
