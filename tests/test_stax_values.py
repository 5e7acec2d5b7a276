"""Examples of neural-tangents' README and documentation give its numbers with the import changed.

``golden_stax/values.npz`` was written by neural-tangents 0.6.5 (``golden_stax/README.md``).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stax_examples
from widegram import predict, stax

HERE = Path(__file__).parent
GOLDEN = HERE / "golden_stax"

# Double precision on both sides. neural-tangents takes acos of covariances near their variance,
# which turns 1e-16 of rounding into 1e-8 of an angle, times (angle)^2 in K and once in the ntk.
KERNEL = 1e-9
# A hundred ReLU layers bring every correlation near 1.
DEEP = 1e-6
# A solve multiplies that by the condition number of these small matrices.
PREDICTION = 1e-6
_PREDICTED = ("y_test", "mean", "covariance", "curve", "fx_")


# neural-tangents' Sign writes 1 into every pair of pixels of cov1, so that pools sum too much; its
# nngp is right. test_variances_are_the_diagonal covers these.
WRONG_THERE = {
    f"layer_tour/Sign_{pool}/{field}"
    for pool in ("Avg", "Sum")
    for field in ("cov1", "cov2", "alone_cov1")
}


def tolerance(name: str) -> float:
    if name.startswith("repeat_docstring"):
        return DEEP
    return PREDICTION if any(part in name for part in _PREDICTED) else KERNEL


@pytest.fixture(scope="module")
def ours() -> dict[str, np.ndarray]:
    return stax_examples.run(stax, predict)


def compare(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(found) == sorted(expected)
    wrong = {}
    for name, value in expected.items():
        if name in WRONG_THERE:
            continue
        assert found[name].shape == value.shape, name
        assert found[name].dtype == value.dtype, name
        error = np.max(np.abs(found[name] - value)) / max(np.max(np.abs(value)), 1e-300)
        if not error <= tolerance(name):
            wrong[name] = float(error)
    assert not wrong


def test_stored_values(ours: dict[str, np.ndarray]) -> None:
    with np.load(GOLDEN / "values.npz") as stored:
        compare(ours, dict(stored))


def test_variances_are_the_diagonal(ours: dict[str, np.ndarray]) -> None:
    with np.load(GOLDEN / "values.npz") as stored:
        names = [n for n in stored if n.endswith("/alone_nngp")]
        for name in names:
            cov1 = ours[name.replace("alone_nngp", "alone_cov1")]
            # neural-tangents' Sign loses half the digits of the diagonal of its nngp.
            np.testing.assert_allclose(cov1, np.diag(stored[name]), rtol=1e-7, err_msg=name)
    assert len(names) > 60


@pytest.mark.peer
def test_live_values(ours: dict[str, np.ndarray], tmp_path: Path) -> None:
    python = os.environ.get("WIDEGRAM_PEER_PYTHON")
    if python is None:
        pytest.skip("set WIDEGRAM_PEER_PYTHON to the Python of neural-tangents' environment")
    out = tmp_path / "values.npz"
    subprocess.run([python, str(GOLDEN / "generate.py"), str(out)], check=True)
    with np.load(out) as values:
        compare(ours, dict(values))
