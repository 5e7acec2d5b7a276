"""Generated kernels as NVVM compiles them, run from their PTX, against the dense reference.

What the emulator of threads (test_cuda_kernels) cannot see: the compiler's reordering, fused and
approximate instructions, numbers flushed to zero, races between warps.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from typing import Any

import numpy as np
import pytest

from cuda_support import CHAIN, GAP, assert_equal, conv
from jobs import job
from test_cuda_depths import FORMS, PLACES
from test_cuda_depths import NETWORKS as SWEEPS
from test_cuda_kernels import ACTIVATIONS, NETWORKS
from test_cuda_patch import NETWORKS as PATCHED
from virtual_card.devices import PtxDevice
from virtual_card.ptx.memory import Fault
from widegram.cuda.evaluator import CudaEvaluator
from widegram.data import open_source
from widegram.network import load_network
from widegram.reference import ReferenceEvaluator

_MISSING = [name for name in ("numba_cuda", "cuda") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)} (pip install 'widegram[cuda]')"
)

# The contract's tolerance for float32; in float64 rounding through a few layers.
_TOLERANCES = {"float32": 1e-5, "float64": 1e-13}
# Each takes seconds to compile; the others run with -m slow.
_QUICK = {
    ("sum pooling", "float64"), ("strips side by side around a pool", "float32"),
    ("circular and strided", "float32"),
    ("wide windows and rows behind the last", "float32"), ("strided residual", "float64"),
}  # fmt: skip
# Each place once: the steps around it are the same text in all three.
_SWEPT = {
    ("strip", "threads", "float32"), ("circular strip", "warps", "float64"),
    ("strip", "warps, in global memory", "float32"),
}  # fmt: skip


def _tiles(
    spec: dict[str, Any], dtype: str, device: PtxDevice, rows: int = 3, **options: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The tile of rows x (rows + 1) random inputs from PTX, and the reference's."""
    network = load_network(spec)
    rng = np.random.default_rng(7)
    counts = rows, rows + 1
    x1, x2 = (open_source(rng.standard_normal((n, *network.input_shape))) for n in counts)
    get, depths = ("nngp", "ntk"), options.pop("depths", ())
    evaluator = CudaEvaluator(
        job(network, x1, x2, kernels=get, depths=depths, dtype=dtype), [device], **options
    )
    wanted = ReferenceEvaluator(job(network, x1, x2, kernels=get, depths=depths))
    return tuple(e.tile(range(rows), range(rows + 1), False) for e in (evaluator, wanted))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=() if (name, dtype) in _QUICK else pytest.mark.slow)
        for name in NETWORKS
        for dtype in _TOLERANCES
    ],
)
def test_networks(name: str, dtype: str) -> None:
    shape, layers, forms = NETWORKS[name]
    device = PtxDevice(worst=True)
    found, wanted = _tiles({"input_shape": shape, "layers": layers}, dtype, device)
    assert [form for form, _ in device.launches if form != "product"] == forms
    assert_equal(found, wanted, _TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer["layer"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
def test_activations(layer: dict[str, Any], form: str, dtype: str) -> None:
    spec = {"input_shape": [4, 4, 1], "layers": [conv(), layer, conv(), layer, GAP]}
    forms = tuple(dict.fromkeys((form, "block")))
    found, wanted = _tiles(spec, dtype, PtxDevice(worst=True), forms=forms)
    # A series is cut where its relative tail is 1e-13 of the variance; the tail adds up.
    series = layer["layer"] == "Tanh" and dtype == "float64"
    assert_equal(found, wanted, 1e-11 if series else _TOLERANCES[dtype])


@pytest.mark.parametrize("layer", ["Erf", pytest.param("Sin", marks=pytest.mark.slow)])
def test_smooth_activations_in_float32(layer: str) -> None:
    spec = {"input_shape": [3, 4, 1], "layers": [conv(), {"layer": layer}, conv(), GAP]}
    found, wanted = _tiles(spec, "float32", PtxDevice(worst=True))
    assert_equal(found, wanted, _TOLERANCES["float32"])


def test_planes_in_global_memory() -> None:
    shape, layers, _ = NETWORKS["strided"]
    spec = {"input_shape": shape, "layers": layers}
    found, wanted = _tiles(spec, "float64", PtxDevice(shared=64), block_threads=64)
    assert_equal(found, wanted, _TOLERANCES["float64"])


def test_rows_in_shared_memory_given_at_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("strip_elements", "strip_windows", "strip_fit"):
        # Room for the halos of 33 threads and their sums, but not for the rows.
        monkeypatch.setattr(f"widegram.cuda.{module}.SHARED_BYTES", 3000)
    spec = {"input_shape": [3, 33, 1], "layers": [*CHAIN, GAP]}
    device = PtxDevice()
    found, wanted = _tiles(spec, "float64", device, 1)
    assert [form for form, _ in device.launches] == ["strip", "point"]
    assert_equal(found, wanted, _TOLERANCES["float64"])


@pytest.mark.parametrize(
    ("name", "place", "dtype"),
    [
        pytest.param(*case, marks=() if case in _SWEPT else pytest.mark.slow)
        for case in itertools.product(SWEEPS, PLACES, _TOLERANCES)
    ],
)
def test_depth_sweeps(name: str, place: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.cuda.sums._MOST_BYTES", PLACES[place])
    spec, form = SWEEPS[name]
    device, forms = PtxDevice(worst=True), FORMS[FORMS.index(form) :]
    found, wanted = _tiles(spec, dtype, device, depths=range(1, 7), forms=forms)
    assert [launched for launched, _ in device.launches] == [form, "point"]
    assert_equal(found, wanted, _TOLERANCES[dtype])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(*case, marks=() if case == ("circular", "float32") else pytest.mark.slow)
        for case in itertools.product(PATCHED, _TOLERANCES)
    ],
)
def test_patches(name: str, dtype: str) -> None:
    shape, layers, _, forms = PATCHED[name]
    device = PtxDevice(worst=True)
    found, wanted = _tiles({"input_shape": shape, "layers": layers}, dtype, device, forms=FORMS)
    if dtype == "float32":
        assert [form for form, _ in device.launches] == forms
    # A series is cut where its relative tail is 1e-13 of the variance; the tail adds up.
    series = name == "series" and dtype == "float64"
    assert_equal(found, wanted, 1e-11 if series else _TOLERANCES[dtype])


def test_a_missing_barrier_is_found() -> None:
    # Blocks of two warps: only several have anything to wait for. test_networks finds no race.
    shape, layers, _ = NETWORKS["sum pooling"]
    spec = {"input_shape": shape, "layers": layers}
    without = PtxDevice(edit=lambda text: re.sub(r"bar\.sync\s+0;", "", text))
    with pytest.raises(Fault, match=r"kernel.*: race: thread \d+ of block \d+ .*shared"):
        _tiles(spec, "float64", without)
