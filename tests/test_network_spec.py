"""Specifications that are read: canonical form, fingerprint, shapes, depth sweeps."""

from __future__ import annotations

import json

import pytest

import golden_cases
from network_specs import (
    CONV,
    DENSE,
    DROPOUT,
    FLATTEN,
    GAP,
    IMAGE,
    NORM,
    POOL,
    RELU,
    VECTOR,
    load,
    residual,
)
from widegram.errors import WidegramError
from widegram.network import (
    Activation,
    Conv,
    Dense,
    Flatten,
    LayerNorm,
    Network,
    Pool,
    Repeat,
    Residual,
    load_network,
    padding,
)


@pytest.mark.parametrize("name", [case.name for case in golden_cases.cases()])
def test_golden_specifications_survive_a_round_trip(name):
    network = load_network(golden_cases.load(name).spec)
    again = load_network(network.to_json())
    assert again == network
    assert hash(again) == hash(network)
    assert again.fingerprint() == network.fingerprint()


def test_defaults_are_filled_in():
    network = load(IMAGE, {"layer": "Conv", "filter_shape": [3, 2]}, {"layer": "Erf"}, POOL, GAP)
    assert network.canonical() == {
        "input_shape": [6, 5, 3],
        "layers": [
            {
                "layer": "Conv",
                "filter_shape": [3, 2],
                "strides": [1, 1],
                "padding": "VALID",
                "W_std": 1.0,
                "b_std": 0.0,
            },
            {"layer": "Erf", "a": 1.0, "b": 1.0, "c": 0.0},
            {
                "layer": "AvgPool",
                "window_shape": [2, 2],
                "strides": [1, 1],
                "padding": "VALID",
            },
            {"layer": "GlobalAvgPool"},
        ],
    }


SAME_NETWORK = [
    '{"layers": [{"W_std": 1, "layer": "Dense"}, {"layer": "Relu"}], "input_shape": [8]}',
    '{"input_shape": [8],\n "layers": [{"layer": "Dense", "b_std": null}, {"layer": "Relu"}]}',
    {"input_shape": (8,), "layers": ({"layer": "Dense", "b_std": 0}, {"layer": "Relu"})},
    Network((8,), (Dense(), Activation("Relu"))),
]


def test_fingerprint_sees_the_network_and_not_its_spelling():
    prints = {load_network(spec).fingerprint() for spec in SAME_NETWORK}
    assert len(prints) == 1
    assert len(prints.pop()) == 64
    others = [
        load(VECTOR, DENSE, {"layer": "Abs"}),
        load((9,), DENSE, RELU),
        load(VECTOR, {**DENSE, "b_std": 1e-9}, RELU),
    ]
    assert len({n.fingerprint() for n in (*others, load(VECTOR, DENSE, RELU))}) == 4


def test_fingerprint_is_the_same_on_every_machine_and_version():
    # files remember it: a change here makes unfinished files of earlier versions unusable
    assert (
        load(VECTOR, DENSE, RELU).fingerprint()
        == "b45f6421f50193d421380746c76fd6c9fed0e37b2888775da83e0ceaa3f5c027"
    )


def test_networks_built_in_python_are_checked_and_completed():
    network = Network((8,), (Dense(), Activation("Erf"), Dense()))
    assert network.layers[1] == Activation("Erf", (("a", 1.0), ("b", 1.0), ("c", 0.0)))
    with pytest.raises(WidegramError, match=r"layers\[0\] Dense: W_std is a standard deviation"):
        Network((8,), (Dense(W_std=-1.0),))
    with pytest.raises(WidegramError, match="not a layer: 'Dense'"):
        Network((8,), ("Dense",))


def test_quadrature_degree_of_smooth_activations_is_accepted_and_dropped():
    assert load(VECTOR, DENSE, {"layer": "Tanh", "deg": 50}) == load(
        VECTOR, DENSE, {"layer": "Tanh"}
    )
    with pytest.raises(WidegramError, match=r"layers\[1\] Tanh: deg must be an integer >= 1"):
        load(VECTOR, DENSE, {"layer": "Tanh", "deg": 0})
    with pytest.raises(WidegramError, match=r"layers\[1\] Relu: unknown parameter 'deg'"):
        load(VECTOR, DENSE, {"layer": "Relu", "deg": 50})


GOOD = {
    "activation last": (VECTOR, DENSE, RELU),
    "identity anywhere": (VECTOR, {"layer": "Identity"}, DENSE, {"layer": "Identity"}, RELU),
    "pool of the raw input": (IMAGE, POOL, CONV, RELU, FLATTEN, DENSE),
    "pool keeps Gaussian": (IMAGE, CONV, POOL, RELU, GAP),
    "global pool keeps Gaussian": (IMAGE, CONV, GAP, RELU, DENSE),
    "dense per pixel": (IMAGE, DENSE, RELU, GAP),
    "flatten of a vector": (VECTOR, FLATTEN, DENSE),
    "layer norm after pool": (IMAGE, CONV, POOL, NORM, RELU, FLATTEN),
    "layer norm over all": (IMAGE, CONV, {**NORM, "axis": [1, 2, 3]}, RELU, GAP),
    "layer norm over width": (IMAGE, CONV, {**NORM, "axis": [-1, 2]}, RELU, GAP),
    "dropout last": (VECTOR, DENSE, RELU, DROPOUT),
    "dropout rate one": (VECTOR, DENSE, {**DROPOUT, "rate": 1}, DENSE, RELU),
    "circular filter beyond the image": (
        IMAGE,
        {**CONV, "filter_shape": [9, 9], "padding": "CIRCULAR"},
        GAP,
    ),
    "readout free residual": (
        IMAGE,
        CONV,
        {"layer": "Residual", "branch": [RELU, CONV], "shortcut": []},
        GAP,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_accepted(name):
    shape, *layers = GOOD[name]
    network = load(shape, *layers)
    assert network.shapes()[-1][2] == ()


def test_files(tmp_path):
    toml = tmp_path / "net.toml"
    toml.write_text('input_shape = [8]\n[[layers]]\nlayer = "Dense"\n[[layers]]\nlayer = "Relu"\n')
    json_file = tmp_path / "net.json"
    json_file.write_text(json.dumps({"input_shape": [8], "layers": [DENSE, RELU]}))
    assert load_network(str(toml)) == load_network(json_file) == load(VECTOR, DENSE, RELU)


def test_input_shape_of_the_data_must_agree():
    spec = {"input_shape": [8], "layers": [DENSE]}
    assert load_network(spec, (8,)).input_shape == (8,)
    with pytest.raises(WidegramError, match=r"network expects \[8\], the data has \[6, 5, 3\]"):
        load_network(spec, (6, 5, 3))


def test_shapes_of_nested_layers():
    strided = {**CONV, "strides": [2, 2]}
    valid = {"layer": "Conv", "filter_shape": [2, 2]}
    network = load(
        (9, 8, 3),
        CONV,
        residual(RELU, strided, shortcut=[strided]),
        {"layer": "Repeat", "times": 2, "body": [valid]},
        GAP,
    )
    assert network.shapes() == [
        ("layers[0] Conv", (9, 8), (9, 8)),
        ("layers[1] Residual", (9, 8), (5, 4)),
        ("layers[1] Residual.branch[0] Relu", (9, 8), (9, 8)),
        ("layers[1] Residual.branch[1] Conv", (9, 8), (5, 4)),
        ("layers[1] Residual.shortcut[0] Conv", (9, 8), (5, 4)),
        ("layers[2] Repeat", (5, 4), (3, 2)),
        ("layers[2] Repeat.body[0] Conv", (5, 4), (4, 3)),
        ("layers[3] GlobalAvgPool", (3, 2), ()),
    ]


def test_sweep_and_depths():
    repeat = {"layer": "Repeat", "times": 5, "body": [{**CONV, "padding": "VALID"}, RELU]}
    network = load((12, 12, 1), CONV, repeat, GAP, DENSE)
    prefix, body, times, suffix = network.sweep()
    assert [len(prefix), len(body), times, len(suffix)] == [1, 2, 5, 2]
    two = network.at_depth(2)
    assert two.layers[1] == Repeat(2, body)
    assert two.shapes()[1] == ("layers[1] Repeat", (12, 12), (8, 8))
    with pytest.raises(WidegramError, match=r"at depth 6: .*\(repetition 6\): filter_shape"):
        network.at_depth(6)
    with pytest.raises(WidegramError, match=r"at depth 0: .*times must be an integer >= 1"):
        network.at_depth(0)


@pytest.mark.parametrize("count", [0, 2])
def test_sweep_needs_exactly_one_repeat(count):
    repeat = {"layer": "Repeat", "times": 2, "body": [DENSE]}
    with pytest.raises(WidegramError, match=f"exactly one Repeat .* found {count}"):
        load(VECTOR, DENSE, *[repeat] * count).sweep()


def test_unrolled_writes_out_nested_repeats():
    inner = {"layer": "Repeat", "times": 2, "body": [RELU, DENSE]}
    network = load(VECTOR, DENSE, {"layer": "Repeat", "times": 2, "body": [residual(inner)]})
    pair = (Activation("Relu"), Dense())
    assert network.unrolled().layers == (Dense(), *[Residual(pair * 2)] * 2)


def test_deep_repeats_are_checked_quickly_by_their_fixed_point():
    repeat = {"layer": "Repeat", "times": 4999, "body": [RELU, DENSE]}
    assert load(VECTOR, DENSE, repeat).sweep()[2] == 4999


@pytest.mark.parametrize(
    ("size", "window", "stride", "mode", "want"),
    [
        (8, 3, 1, "SAME", (8, 1, 1)),
        (8, 3, 2, "SAME", (4, 0, 1)),
        (9, 3, 2, "SAME", (5, 1, 1)),
        (7, 2, 1, "SAME", (7, 0, 1)),
        (7, 4, 2, "CIRCULAR", (4, 1, 2)),
        (8, 1, 2, "SAME", (4, 0, 0)),
        (2, 6, 1, "CIRCULAR", (2, 2, 3)),
        (9, 3, 2, "VALID", (4, 0, 0)),
        (3, 3, 5, "VALID", (1, 0, 0)),
    ],
)
def test_padding(size, window, stride, mode, want):
    assert padding(size, window, stride, mode) == want


def test_layers_compare_by_value():
    a = load(IMAGE, CONV, {**NORM, "axis": [3, 1, 3]}, POOL, FLATTEN)
    assert a.layers == (
        Conv((3, 3), padding="SAME"),
        LayerNorm((1, 3)),
        Pool("avg", (2, 2)),
        Flatten(),
    )
