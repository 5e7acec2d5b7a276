"""Presets: the networks they stand for, their options, and what is refused."""

from __future__ import annotations

import math

import pytest

import golden_cases
from widegram.errors import WidegramError
from widegram.network import (
    PRESETS,
    Activation,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    Pool,
    Repeat,
    Residual,
    build,
    load_network,
)

RELU = Activation("Relu")


def test_fcn():
    network = load_network("fcn:depth=3,act=erf,w_var=1.5,b_var=0.05", (10,))
    dense = Dense(math.sqrt(1.5), math.sqrt(0.05))
    erf = Activation("Erf", (("a", 1.0), ("b", 1.0), ("c", 0.0)))
    assert network.layers == (Repeat(3, (dense, erf)), dense)
    assert network.input_shape == (10,)


def test_fcn_flattens_images():
    assert load_network("fcn", (4, 4, 1)).layers[0] == Flatten()


@pytest.mark.parametrize(("name", "end"), [("cnn-f", Flatten()), ("cnn-p", GlobalPool("avg"))])
def test_cnn(name, end):
    he = math.sqrt(2.0)
    conv = Conv((3, 3), padding="CIRCULAR", W_std=he)
    assert load_network(name, (8, 8, 3)).layers == (Repeat(3, (conv, RELU)), end, Dense(he))
    network = load_network(f"{name}:depth=5,filter=5,padding=same,b_var=1", (8, 8, 3))
    conv = Conv((5, 5), padding="SAME", W_std=he, b_std=1.0)
    assert network.layers == (Repeat(5, (conv, RELU)), end, Dense(he, 1.0))


@pytest.mark.parametrize(
    ("text", "activation"),
    [
        ("act=RELU", RELU),
        ("act=leaky_relu,alpha=0.1", Activation("LeakyRelu", (("alpha", 0.1),))),
        ("a=-0.5,act=AB-Relu,b=2", Activation("ABRelu", (("a", -0.5), ("b", 2.0)))),
        ("act=Tanh", Activation("Tanh")),
    ],
)
def test_activations_by_any_spelling(text, activation):
    assert load_network(f"fcn:depth=1,{text}", (3,)).layers[0].body[1] == activation


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_every_preset_fits_the_usual_images(name, shape):
    network = load_network(name, shape)
    assert network.input_shape == shape
    assert load_network(network.to_json()) == network


@pytest.mark.parametrize(("name", "convs"), [("myrtle5", 4), ("myrtle7", 6), ("myrtle10", 9)])
def test_myrtle_counts_its_readout(name, convs):
    layers = load_network(name, (32, 32, 3)).layers
    assert sum(isinstance(layer, Conv) for layer in layers) == convs
    assert isinstance(layers[-1], Dense)


def test_myrtle5_is_the_golden_one_up_to_its_last_pools():
    golden = load_network(golden_cases.load("myrtle5-32x32").spec)
    ours = load_network("myrtle5", (32, 32, 3))
    # three 2 x 2 pools in a row on 8 x 8 pixels and Flatten are a global average
    assert ours.layers[:-2] == golden.layers[:-5]
    assert ours.layers[-2] == GlobalPool("avg")


def test_wide_resnet():
    network = load_network("wide-resnet:depth=16", (32, 32, 3))
    blocks = [layer for layer in network.layers if isinstance(layer, Residual)]
    assert [b.shortcut[0].strides if b.shortcut else None for b in blocks] == [
        (1, 1),
        None,
        (2, 2),
        None,
        (2, 2),
        None,
    ]
    convs = 1 + sum(isinstance(x, Conv) for b in blocks for x in b.branch)
    assert convs + len([b for b in blocks if b.shortcut]) == 16
    assert network.shapes()[-2][1] == (8, 8)


def test_images_and_sequences():
    with pytest.raises(WidegramError, match=r"reshape images to \(28, 28, 1\), or add input=28x28"):
        load_network("cnn-p", (28, 28))
    network = load_network("myrtle5:input=16x3", (16, 3))
    assert network.layers[:3:2] == (
        Conv((3,), (1,), "SAME", math.sqrt(2)), Conv((3,), (1,), "SAME", math.sqrt(2))
    )  # fmt: skip
    assert network.layers[4] == Pool("avg", (2,), (2,))
    wide = load_network("wide-resnet:depth=10,input=8x2")
    assert [after for _, _, after in wide.shapes()][-1] == ()
    assert load_network("fcn", (5, 3)).layers[0] == Flatten()


def test_input_shape_without_data():
    assert load_network("myrtle5:input=28x28x1").input_shape == (28, 28, 1)
    with pytest.raises(WidegramError, match=r"fcn takes its input shape from the data; .*input="):
        load_network("fcn")
    with pytest.raises(WidegramError, match=r"input=8x8x1, but the data has shape \(9, 9, 1\)"):
        load_network("cnn-f:input=8x8x1", (9, 9, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fnc:depth=3", r"unknown network 'fnc', did you mean 'fcn'\? \(or give a .json or .toml"),
        ("myrtle6", r"unknown network 'myrtle6', did you mean 'myrtle"),
        ("", r"unknown network ''; known: cnn-f"),
        ("cnn-f:dpeth=3", r"preset cnn-f: unknown option 'dpeth', did you mean 'depth'\?"),
        ("cnn-f:depth", r"preset cnn-f: expected option=value, found 'depth'"),
        ("cnn-f:depth=", r"preset cnn-f: expected option=value, found 'depth='"),
        ("cnn-f:depth=2,depth=3", r"preset cnn-f: option 'depth' is given twice"),
        ("cnn-f:depth=0", r"preset cnn-f: depth must be >= 1, found 0"),
        ("cnn-f:depth=2.5", r"preset cnn-f: depth must be an integer, found '2.5'"),
        ("cnn-f:w_var=-1", r"preset cnn-f: w_var must be finite and >= 0, found -1"),
        ("cnn-f:w_var=nan", r"preset cnn-f: w_var must be finite and >= 0, found nan"),
        ("cnn-f:w_var=x", r"preset cnn-f: w_var must be a number, found 'x'"),
        ("cnn-f:padding=VALID", r"preset cnn-f: padding must be SAME or CIRCULAR, found VALID"),
        ("cnn-f:act=rleu", r"preset cnn-f: unknown activation 'rleu', did you mean 'Relu'\?"),
        ("cnn-f:act=leaky_relu", r"preset cnn-f: LeakyRelu: parameter 'alpha' is missing"),
        ("cnn-f:alpha=0.1", r"preset cnn-f: unknown option 'alpha'"),
        ("cnn-f:act=erf,a=x", r"preset cnn-f: a must be a number, found 'x'"),
        ("cnn-f:input=8x8", r"preset cnn-f: input=8x8, but the data has shape"),
        ("cnn-f:input=8xy", r"preset cnn-f: input must be an integer"),
        ("wide-resnet:depth=12", r"wide-resnet: depth must be 6 n \+ 4 .* found 12"),
        ("wide-resnet:depth=4", r"wide-resnet: depth must be 6 n \+ 4 .* found 4"),
        ("myrtle10:depth=3", r"preset myrtle10: unknown option 'depth'"),
    ],
)
def test_refused(text, message):
    with pytest.raises(WidegramError, match=message):
        load_network(text, (8, 8, 3))


def test_image_presets_refuse_vectors_and_tiny_images():
    with pytest.raises(WidegramError, match=r"needs images .* shape \(10,\); preset fcn takes"):
        load_network("cnn-p", (10,))
    with pytest.raises(WidegramError, match=r"AvgPool: window_shape 2 x 2 is larger than"):
        load_network("myrtle5", (3, 3, 1))


@pytest.mark.parametrize(("text", "act", "more", "same"), [
    ("fcn", None, {}, "fcn"),
    ("fcn:depth=2", "leakyrelu:alpha=0.1", {"w_var": 1.5},
     "fcn:depth=2,act=LeakyRelu,alpha=0.1,w_var=1.5"),
    # Values reach the network without a digit lost.
    ("cnn-p", "erf:a=2,b=0.5", {"depth": 4, "w_var": 1 / 3, "b_var": 0.1 + 0.2},
     "cnn-p:act=erf,a=2,b=0.5,depth=4,w_var=0.3333333333333333,b_var=0.30000000000000004"),
])
def test_options_as_values_build_what_the_text_builds(text, act, more, same):
    assert build(text, (4, 4, 1), act, **more) == load_network(same, (4, 4, 1))


@pytest.mark.parametrize(("text", "act", "more", "match"), [
    ("fcn:w_var=1", None, {"w_var": 1.0},
     "'w_var' is given twice, in 'fcn:w_var=1' and beside it; leave one of them out"),
    ("fcn:act=erf", "relu", {}, "'act' is given twice"),
    ("fcn", "bogus", {}, "unknown activation 'bogus'"),
    ("fcn", "leakyrelu:alpha", {}, "expected option=value, found 'alpha'"),
    ("fcn", None, {"depth": 2.5}, "depth must be an integer"),
    ("fcn", None, {"w_var": math.nan}, "w_var must be finite"),
    ("fnc", None, {"depth": 3}, "unknown network 'fnc'"),
])
def test_options_as_values_are_checked_as_those_of_the_text(text, act, more, match):
    with pytest.raises(WidegramError, match=match):
        build(text, (4,), act, **more)
