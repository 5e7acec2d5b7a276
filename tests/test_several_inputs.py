"""Networks whose input is a list: data as lists, masks of each, in memory and from Python.

Values of neural-tangents are in test_branches.py, the command line in test_cli_several_inputs.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, RELU
from strategies import networks
from test_branches import PROD, TWO, D, X, concat, conv, product_of, sum_of
from widegram import WidegramError, kernel, load_network, stax
from widegram.computing.job import make_job
from widegram.computing.remote import _session
from widegram.computing.served import make_job as job_at_worker
from widegram.cuda.source import source_of
from widegram.data.several import ListSource, open_inputs
from widegram.reference import kernel as dense

Spec = dict[str, Any]
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}  # of the largest entry: what is promised
SEQUENCE = {**conv(1, 1), "filter_shape": [3], "strides": [1]}
IMAGE_END = [CONV, RELU, GAP, DENSE]


def parallel(shapes: list[list[int]], join: Spec, *layers: Spec, **more: Any) -> Spec:
    return {"input_shape": shapes, "layers": [{**join, "parallel": True}, *layers], **more}


CASES = {
    "vectors": parallel([[5], [3]], sum_of([DENSE], [DENSE, RELU, DENSE]), RELU, DENSE),
    "image and vector": parallel([[5, 4, 2], [6]], product_of(IMAGE_END, [DENSE, RELU]), DENSE,
                                 RELU),
    "images": parallel([[5, 4, 2], [5, 4, 3]], sum_of([CONV, RELU, CONV], [conv(1, 1)]), RELU,
                       CONV, RELU, GAP, DENSE),
    "images of other sizes": parallel([[6, 5, 1], [5, 4, 2]], sum_of(IMAGE_END, [
        CONV, RELU, FLATTEN, DENSE]), RELU, DENSE),
    "circular": parallel([[4, 3, 1], [4, 3, 2]], product_of([conv(3, 3, "CIRCULAR"), RELU], [
        conv(3, 3, "CIRCULAR")]), conv(3, 3, "CIRCULAR"), RELU, GAP),
    "channels": parallel([[5, 4, 2], [6, 2], [4]], concat([{**CONV, "width": 3}, RELU, GAP], [
        {**SEQUENCE, "width": 4}, GAP], [{**DENSE, "width": 5}, RELU]), DENSE, NORM, RELU, DENSE),
    "rows": parallel([[3, 4, 2], [2, 4, 1]], concat([CONV], [CONV, RELU, CONV], axis=1), RELU,
                     CONV, FLATTEN, DENSE),
    "inputs themselves": parallel([[4], [7]], concat([], []), DENSE, RELU, DENSE),
    "masked": parallel([[5, 4, 2], [7]], sum_of(IMAGE_END, [DENSE, RELU, DENSE]), RELU, DENSE,
                       mask=[0.5, None]),
}  # fmt: skip


def lists(network: Spec, n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [rng.standard_normal((n, *shape)) for shape in network["input_shape"]]
    if "mask" in network:
        for x in found:
            x[rng.random(x.shape[:-1]) < 0.3] = 0.5
    return found


def assert_close(found: Any, wanted: Any, dtype: str) -> None:
    for name in ("nngp", "ntk"):
        one, two = getattr(found, name), getattr(wanted, name)
        assert one.dtype == dtype
        atol = TOLERANCES[dtype] * abs(two).max()
        np.testing.assert_allclose(one, two, rtol=0, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_cpu_and_reference_agree(name: str) -> None:
    network = load_network(CASES[name])
    x1, x2 = lists(CASES[name], 5), lists(CASES[name], 3, 1)
    for second in (x2, None):
        wanted = dense(network, x1, second)
        for dtype in TOLERANCES:
            assert_close(kernel(network, x1, second, dtype=dtype), wanted, dtype)


def test_a_specification_is_read_back() -> None:
    for spec in CASES.values():
        network = load_network(spec)
        assert load_network(network.to_json()) == network
        assert load_network({**spec, "input_shape": None} | {"input_shape": spec["input_shape"]},
                            tuple(map(tuple, spec["input_shape"]))) == network  # fmt: skip
    paths = [path for path, _, _ in load_network(CASES["vectors"]).shapes()]
    assert paths == [
        "layers[0] FanInSum", "layers[0] FanInSum.branches[0][0] Dense",
        "layers[0] FanInSum.branches[1][0] Dense", "layers[0] FanInSum.branches[1][1] Relu",
        "layers[0] FanInSum.branches[1][2] Dense", "layers[1] Relu", "layers[2] Dense",
    ]  # fmt: skip


@settings(max_examples=6)
@given(networks(vector=False, blocks=2, largest=4), networks(vector=True, blocks=2),
       st.sampled_from(["FanInSum", "FanInProd"]), st.integers(0, 2**16))  # fmt: skip
def test_what_joins_inputs_joins_their_kernels(one: Any, two: Any, join: str, seed: int) -> None:
    """K = K1 + K2 and T = T1 + T2; K = K1 K2 and T = T1 K2 + K1 T2."""
    ends, rng = [], np.random.default_rng(seed)
    specs = [network.canonical() for network in (one, two)]
    x = [rng.standard_normal((4, *spec["input_shape"])) for spec in specs]
    for spec in specs:
        spec["layers"].append({**DENSE, "width": 4})
    branches = [spec["layers"] for spec in specs]
    shapes = [spec["input_shape"] for spec in specs]
    found = kernel(parallel(shapes, {"layer": join, "branches": branches}), x)
    ends = [kernel(spec, each) for spec, each in zip(specs, x, strict=True)]
    (k, t), (k2, t2) = ((end.nngp, end.ntk) for end in ends)
    wanted = (k + k2, t + t2) if join == "FanInSum" else (k * k2, t * k2 + k * t2)
    for value, other in zip((found.nngp, found.ntk), wanted, strict=True):
        # what is promised of either side
        np.testing.assert_allclose(value, other, rtol=0, atol=2e-10 * abs(other).max())


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_inputs_equal_in_one_place_alone(dtype: str) -> None:
    """Rows that share an image and differ in the vector: c is 1 in one branch alone."""
    branches = [[CONV, RELU, CONV, RELU, FLATTEN, DENSE, RELU, DENSE], [DENSE, RELU, DENSE]]
    spec = parallel([[4, 5, 2], [6]], sum_of(*branches))
    image, vector = lists(spec, 12)
    image = np.repeat(image[:4], 3, axis=0) * np.tile([1.0, 1.0, 1 + 1e-4], 4)[:, None, None, None]
    found = kernel(spec, [image, vector], dtype=dtype)
    shapes = spec["input_shape"]
    one, two = (
        kernel({"input_shape": shape, "layers": layers}, x)
        for shape, layers, x in zip(shapes, branches, (image, vector), strict=True)
    )
    for name in ("nngp", "ntk"):
        wanted = getattr(one, name) + getattr(two, name)
        atol = TOLERANCES[dtype] * wanted.max()
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=0, atol=atol)


def test_masks_are_of_each_input() -> None:
    spec = CASES["masked"]
    x = lists(spec, 4)
    unmasked = {**spec, "mask": None}
    hidden = [np.where(x[0] == 0.5, 0.0, x[0]), x[1]]
    assert not np.allclose(kernel(spec, x, get="ntk"), kernel(unmasked, hidden, get="ntk"))
    both = kernel({**spec, "mask": 0.5}, x, get="ntk")
    np.testing.assert_array_equal(both, kernel({**spec, "mask": [0.5, 0.5]}, x, get="ntk"))
    assert not np.allclose(both, kernel(spec, x, get="ntk"))
    x[1][1, 2] = np.nan
    with pytest.raises(WidegramError, match=r"row 1 holds NaN; every input must be finite"):
        kernel(spec, x)


@pytest.mark.parametrize(("scale", "other"), [(1e-30, 1e-30), (1e30, 1e30), (1e12, 1e-12)])
def test_scales(scale: float, other: float) -> None:
    """Powers of two of all inputs are one."""
    spec = parallel([[4, 3, 2], [5]], product_of([CONV, RELU, GAP], [{"layer": "Dense"}]),
                    {"layer": "Dense"})  # fmt: skip
    spec["layers"][0]["branches"][0][0] = {**CONV, "b_std": 0.0}
    x = lists(spec, 4)
    wanted = kernel(spec, x)
    found = kernel(spec, [scale * x[0], other * x[1]])
    for name in ("nngp", "ntk"):
        value, one = getattr(found, name), getattr(wanted, name) * (scale * other) ** 2
        # some roundings of float64
        np.testing.assert_allclose(value, one, rtol=0, atol=1e-13 * abs(one).max())


def test_lists_of_data(tmp_path: Path) -> None:
    a, b = np.arange(12.0).reshape(3, 4), np.ones((3, 2, 1), np.float32)
    np.save(tmp_path / "a.npy", a)
    source = open_inputs([tmp_path / "a.npy", b])
    assert isinstance(source, ListSource)
    assert (source.shape, source.expects, source.dtype) == ((3, 6), ((4,), (2, 1)), np.float64)
    np.testing.assert_array_equal(source.read(1, 3), np.hstack([a, b[..., 0]])[1:])
    assert source.fingerprint().split() == [open_inputs(x).fingerprint() for x in (a, b)]
    assert source.place is None  # one is no file
    assert len(source.first(2).parts[1]) == 2
    assert open_inputs([a, b], limit=2).shape == (2, 6)
    np.save(tmp_path / "a.npy", a + 1)
    with pytest.raises(WidegramError, match=r"a\.npy: was changed while it was read"):
        source.check_unchanged()


def test_lists_of_data_at_workers(tmp_path: Path) -> None:
    """Found by their places, or sent."""
    spec = CASES["masked"]
    names = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for name, x in zip(names, lists(spec, 4), strict=True):
        np.save(name, x)
    job = make_job(spec, names, None, "ntk", "float64", None, 1, None)
    session = _session(job, "cpu", None)
    tables = {name: list(parcel.tables) for name, parcel in session.parcels.items()}
    for parcels in ({}, tables):
        found = job_at_worker({**session.request, "cores": 1}, parcels)
        assert isinstance(found.x1, ListSource)
        assert (found.network, found.x1.fingerprint()) == (job.network, job.x1.fingerprint())
        # -0.0 is a mask
        assert found.x1.read(0, 4).tobytes() == job.x1.read(0, 4).tobytes()


REFUSED = [
    ({"input_shape": [[4], [5]], "layers": [DENSE]}, r"the input is a list of 2; begin with"),
    ({"input_shape": [5], "layers": [{**sum_of([DENSE], [DENSE]), "parallel": True}]},
     r'FanInSum: "parallel" takes a list of 2 inputs, found one'),
    (parallel([[4], [5], [6]], sum_of([DENSE], [DENSE])), "has 2 branches for 3 inputs"),
    (parallel([[4]], sum_of([DENSE])), "input_shape: is a list of one input"),
    (parallel([[4], 5], sum_of([DENSE], [DENSE])), r"input_shape: must be \[D\].* found 5"),
    (parallel([[4], [[5], [6]]], sum_of([DENSE], [DENSE])), "input_shape: has a list in the list"),
    (parallel([[4], [5]], sum_of([DENSE], [RELU])), r"branches\[1\]\[0\] Relu: its input must be "
     "Gaussian, but comes from the raw input"),
    (parallel([[4], [5]], sum_of([DENSE], [])), r"output of branches\[1\] must be Gaussian"),
    (parallel([[4, 3, 1], [5]], sum_of([CONV], [DENSE])), "ends with 4 x 3, .* with a vector"),
    (parallel([[4, 3, 1], [4, 3, 1]], sum_of([CONV], [CONV])), "layers|output is still an image"),
    (parallel([[4], [5]], sum_of([DENSE], [sum_of([DENSE], [DENSE]) | {"parallel": True}])),
     '"parallel" stands in the first layer alone'),
    ({"input_shape": [[4], [5]], "layers": [{**sum_of([DENSE], [DENSE]), "parallel": 1}]},
     "FanInSum: parallel must be true or false, found 1"),
    (parallel([[4], [5]], sum_of([DENSE], [DENSE]), mask=[1, 2, 3]), "mask: is a list of 3"),
    ({"input_shape": [4], "layers": [DENSE], "mask": [1]}, "mask: .* the input no list"),
    (parallel([[4], [5, 2]], sum_of([DENSE], [SEQUENCE, GAP, DENSE]), augment=["flip-lr"]),
     r"augment: flip-lr turns images \(H, W, C\), the list has none"),
    (parallel([[4, 2], [5]], sum_of([{"layer": "Aggregate"}, FLATTEN, DENSE], [DENSE])),
     "Aggregate takes the pattern of one input"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "message"), REFUSED)
def test_specifications_that_are_refused(spec: Spec, message: str) -> None:
    with pytest.raises(WidegramError, match=message) as error:
        load_network(spec)
    assert "\n" not in str(error.value)


A, B = np.ones((3, 5)), np.ones((3, 3))


@pytest.mark.parametrize(("data", "message"), [
    ((A,), "data: is a list of 1; give one input as it is"),
    ((), "data: is a list of 0"),
    ((A, B, B), r"the network expects \[\[5\], \[3\]\], the data has \[\[5\], \[3\], \[3\]\]"),
    ((B, A), r"expects \[\[5\], \[3\]\], the data has \[\[3\], \[5\]\]"),
    (A, r"expects \[\[5\], \[3\]\], the data has \[5\]"),
    ((A, B[:2]), "array: has 2 rows, array has 3; inputs of one list must have as many rows"),
    ((A, (A, B)), "holds|array"),
    ((A, B.astype(int)), "holds integers"),
    ((A, B * np.inf), "row 0 holds an infinite value"),
])  # fmt: skip
def test_data_that_is_refused(data: Any, message: str) -> None:
    with pytest.raises(WidegramError, match=message) as error:
        kernel(CASES["vectors"], data)
    assert "\n" not in str(error.value)


def test_other_calls_that_are_refused() -> None:
    with pytest.raises(WidegramError, match="'fcn' is a preset, which takes one input"):
        kernel("fcn", [A, B])
    with pytest.raises(WidegramError, match="pattern: is not supported where the input is a list"):
        kernel(CASES["vectors"], [A, B], pattern=np.ones((3, 1, 1)))
    with pytest.raises(WidegramError, match="both must be inputs of one network"):
        kernel(CASES["vectors"], [A, B], [A, A])
    with pytest.raises(WidegramError, match=r"FanInSum: joins several inputs"):
        source_of(load_network(CASES["vectors"]))


def test_stax_and_the_engine_agree() -> None:
    kernel_fn = stax.serial(TWO, PROD, D)[2]
    network = kernel_fn.network(((4,), (3,)))
    assert network.inputs == ((4,), (3,))
    x = [X, X[:, :3]]
    found = kernel_fn(x, None)
    for name in ("nngp", "ntk"):
        np.testing.assert_array_equal(getattr(found, name), kernel(network, x, get=name))
    np.testing.assert_array_equal(kernel(kernel_fn, x, get="ntk"), found.ntk)
    assert (found.shape1, found.x1_is_x2, found.is_gaussian) == ((3, 4), True, True)
    assert kernel_fn(x, [x[0][:2], x[1][:2]], "nngp").shape == (3, 2)
    assert kernel_fn([X.astype("f4")] * 2, None, "ntk").dtype == np.float32
    for shape in ((4,), ((4,), (3,), (2,))):
        with pytest.raises(WidegramError, match=r"found one|has 2 branches for 3 inputs"):
            kernel_fn.network(shape)
    again = kernel_fn(x, None, pattern=(None, None))
    np.testing.assert_array_equal(again.ntk, found.ntk)
    with pytest.raises(WidegramError, match="takes a list of inputs where it begins with"):
        stax.Dense(1)[2].network(((4,), (3,)))


def test_masks_of_stax_and_the_engine_agree() -> None:
    spec = CASES["masked"]
    three = stax.Conv(4, (3, 3), padding="SAME")
    ends = [stax.serial(three, stax.Relu(), stax.GlobalAvgPool(), D),
            stax.serial(D, stax.Relu(), D)]  # fmt: skip
    kernel_fn = stax.serial(stax.parallel(*ends), stax.FanInSum(), stax.Relu(), D)[2]
    x = lists(spec, 4)
    x[0][2] = 0.5
    found = kernel_fn(x, None, mask_constant=0.5)
    network = kernel_fn.network(((5, 4, 2), (7,)), mask_constant=0.5)
    np.testing.assert_array_equal(found.ntk, kernel(network, x, get="ntk"))
    assert found.mask1.shape == (4, 1)
    assert not found.mask1.any()  # masked where all branches are
    x[1][2] = 0.5
    masked = kernel_fn(x, None, mask_constant=0.5).mask1
    np.testing.assert_array_equal(masked.ravel(), np.arange(4) == 2)
