"""Networks that are refused, each with the message that says where and what to do."""

from __future__ import annotations

import pytest

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
    SEQUENCE,
    VECTOR,
    load,
    residual,
)
from widegram.errors import WidegramError
from widegram.network import load_network


def index(*idx):
    return {"layer": "Index", "idx": list(idx)}


BAD_LAYERS = [
    # names and parameters
    ((VECTOR, {"layer": "Dens"}), r"layers\[0\]: unknown layer 'Dens', did you mean 'Dense'\?"),
    ((VECTOR, {"layer": "relu"}), r"layers\[0\]: unknown layer 'relu', did you mean 'Relu'\?"),
    ((VECTOR, {"layer": "Xyzzy"}), r"unknown layer 'Xyzzy'; known: ABRelu, .*Tanh"),
    ((VECTOR, {"W_std": 1}), r'layers\[0\]: must be \{"layer": NAME, ...\}, found'),
    ((VECTOR, "Dense"), r"layers\[0\]: must be .* found 'Dense'"),
    (
        (IMAGE, RELU, {**CONV, "W_sdt": 1}),
        r"layers\[1\] Conv: unknown parameter 'W_sdt', did you mean 'W_std'\?",
    ),
    ((VECTOR, {**DENSE, "out_dim": 3}), r"layers\[0\] Dense: .*'out_dim': widths are infinite"),
    ((IMAGE, {"layer": "Conv"}), r"layers\[0\] Conv: parameter 'filter_shape' is missing"),
    ((IMAGE, {"layer": "AvgPool"}), r"layers\[0\] AvgPool: parameter 'window_shape' is missing"),
    ((VECTOR, DENSE, {"layer": "LeakyRelu"}), r"layers\[1\] LeakyRelu: .*'alpha' is missing"),
    ((VECTOR, DENSE, {"layer": "Dropout"}), r"layers\[1\] Dropout: parameter 'rate' is missing"),
    (
        (VECTOR, DENSE, {"layer": "LeakyRelu", "alfa": 0.1}),
        r"layers\[1\] LeakyRelu: unknown parameter 'alfa', did you mean 'alpha'\?",
    ),
    # values
    ((VECTOR, {**DENSE, "W_std": -1}), r"layers\[0\] Dense: W_std .* must be >= 0, found -1"),
    ((VECTOR, {**DENSE, "b_std": -0.1}), r"layers\[0\] Dense: b_std .* must be >= 0, found -0.1"),
    ((VECTOR, {**DENSE, "W_std": float("nan")}), r"Dense: W_std must be finite, found nan"),
    ((VECTOR, {**DENSE, "W_std": float("inf")}), r"Dense: W_std must be finite, found inf"),
    ((VECTOR, {**DENSE, "W_std": True}), r"Dense: W_std must be a number, found True"),
    ((VECTOR, {**DENSE, "W_std": "1"}), r"Dense: W_std must be a number, found '1'"),
    ((VECTOR, {**DENSE, "W_std": None}), r"Dense: W_std must be a number, found None"),
    ((IMAGE, {**CONV, "filter_shape": 3}), r"Conv: filter_shape must be two integers >= 1"),
    (
        (IMAGE, {**CONV, "filter_shape": [3]}),
        r"layers\[0\] Conv: filter_shape \[3\] does not fit an image of 6 x 5 pixels",
    ),
    (
        (SEQUENCE, {**CONV, "filter_shape": [3, 1]}),
        r"Conv: filter_shape \[3, 1\] does not fit a sequence of 7 pixels; give a number for each",
    ),
    ((SEQUENCE, {**POOL, "window_shape": [2] * 3}), r"window_shape must be two integers >= 1"),
    (
        (SEQUENCE, {**POOL, "window_shape": [2], "strides": [2, 1]}),
        r"layers\[0\] AvgPool: strides .* and window .* must have as many numbers",
    ),
    ((SEQUENCE, DENSE, {**NORM, "axis": [1, 3]}), r"axis 3 does not exist in .* \(batch, L, C\)"),
    ((SEQUENCE, DENSE, {**NORM, "axis": 1}), r"leaves out the channels, .* add axis 2 \(or -1\)"),
    ((SEQUENCE, DENSE, RELU), r"the output is still a sequence of 7 pixels; add Flatten"),
    ((IMAGE, CONV, {**POOL, "normalize_edges": 1}), r"normalize_edges must be true or false"),
    ((IMAGE, CONV, {"layer": "SumPool", "window_shape": [2, 2], "normalize_edges": True}),
     r"layers\[1\] SumPool: unknown parameter 'normalize_edges'"),
    ((IMAGE, CONV, {"layer": "Index"}), r"layers\[1\] Index: parameter 'idx' is missing"),
    ((IMAGE, CONV, index("1:x")), r'Index: idx must be integers, slices such as "2:8" or ":"'),
    ((IMAGE, CONV, index(":", "::-1")), r"idx must have steps >= 1, found -1; flip the inputs"),
    ((IMAGE, CONV, index("...", "...")), r"Index: idx has '...' more than once"),
    ((IMAGE, CONV, index()), r"Index: idx must have 1 to 64 entries"),
    ((IMAGE, CONV, index(*[":"] * 5)), r"Index: idx has 5 entries, its input has 4 axes"),
    ((IMAGE, CONV, index(":", 6)), r"Index: idx 6 is outside of an axis of 6"),
    ((IMAGE, CONV, index(":", "4:2")), r"Index: idx '4:2' takes nothing of an axis of 6"),
    ((IMAGE, CONV, index("1:")), r"Index: idx takes part of the batch, which a kernel keeps"),
    ((IMAGE, CONV, index("...", 1)), r"Index: idx takes part of the channels"),
    ((VECTOR, DENSE, index(":", "1:")), r"Index: idx takes part of the channels"),
    (
        ((6, 6, 1), CONV, residual(CONV, index(":", 1), shortcut=[index(":", ":", 1)]), GAP),
        r"layers\[1\] Residual: the branch and the shortcut keep different axes of the image",
    ),
    ((SEQUENCE, CONV), r"Conv: filter_shape \[3, 3\] does not fit a sequence of 7 pixels"),
    ((IMAGE, {**CONV, "filter_shape": [3, 0]}), r"filter_shape must be two integers >= 1"),
    ((IMAGE, {**CONV, "filter_shape": [3, 3.0]}), r"filter_shape must be two integers >= 1"),
    ((IMAGE, {**CONV, "strides": [0, 1]}), r"layers\[0\] Conv: strides must be two integers >= 1"),
    ((IMAGE, {**CONV, "strides": [True, 1]}), r"Conv: strides must be two integers >= 1"),
    ((IMAGE, {**POOL, "strides": [-2, 2]}), r"AvgPool: strides must be two integers >= 1"),
    ((IMAGE, {**CONV, "padding": "same"}), r"padding must be SAME, .* did you mean 'SAME'\?"),
    ((IMAGE, {**CONV, "padding": 1}), r"padding must be SAME, VALID or CIRCULAR, found 1"),
    ((VECTOR, DENSE, {**DROPOUT, "rate": 0}), r"Dropout: rate .* in \(0, 1\], found 0"),
    ((VECTOR, DENSE, {**DROPOUT, "rate": 1.5}), r"Dropout: rate .* in \(0, 1\], found 1.5"),
    ((VECTOR, DENSE, {"layer": "Erf", "a": "x"}), r"layers\[1\] Erf: a must be a number"),
    ((VECTOR, DENSE, {"layer": "Erf", "a": None}), r"layers\[1\] Erf: a must be a number"),
    ((VECTOR, DENSE, {**NORM, "axis": "c"}), r"LayerNorm: axis must be an integer or a list"),
    ((VECTOR, DENSE, {**NORM, "axis": []}), r"LayerNorm: axis must be an integer or a list"),
    ((VECTOR, DENSE, {**NORM, "eps": 0}), r"layers\[1\] LayerNorm: eps must be > 0, found 0"),
    ((VECTOR, DENSE, {**NORM, "eps": -1e-5}), r"LayerNorm: eps must be > 0, found -1e-05"),
    ((VECTOR, DENSE, {**NORM, "eps": "x"}), r"LayerNorm: eps must be a number, found 'x'"),
    # shapes
    ((VECTOR, CONV), r"\[0\] Conv: needs an image \(H, W, C\) or a sequence \(L, C\), but its"),
    ((IMAGE, FLATTEN, POOL), r"layers\[1\] AvgPool: needs an image"),
    ((IMAGE, CONV, GAP, GAP), r"layers\[2\] GlobalAvgPool: needs an image"),
    (
        (IMAGE, {**CONV, "filter_shape": [7, 3], "padding": "VALID"}),
        r"layers\[0\] Conv: filter_shape 7 x 3 is larger than its image of 6 x 5 pixels",
    ),
    (
        (IMAGE, CONV, {**POOL, "strides": [3, 3]}, {**POOL, "window_shape": [3, 2]}),
        r"layers\[2\] AvgPool: window_shape 3 x 2 is larger than its image of 2 x 2 pixels",
    ),
    ((IMAGE, CONV, RELU), r"output is still an image of 6 x 5 pixels; add Flatten or GlobalAvg"),
    (
        (IMAGE, CONV, residual(RELU, {**CONV, "strides": [2, 2]}), GAP),
        r"layers\[1\] Residual: the branch ends with 3 x 3, the shortcut with 6 x 5",
    ),
    (
        (IMAGE, CONV, residual(RELU, CONV, GAP, shortcut=[CONV]), GAP),
        r"layers\[1\] Residual: the branch ends with a vector, the shortcut with 6 x 5",
    ),
    # what has no exact kernel
    ((VECTOR, RELU), r"layers\[0\] Relu: .* must be Gaussian, but comes from the raw input .*put"),
    ((IMAGE, POOL, RELU, GAP), r"layers\[1\] Relu: .* comes from the raw input"),
    (
        (VECTOR, DENSE, RELU, RELU),
        r"layers\[2\] Relu: .* comes from layers\[1\] Relu with no Dense or Conv layer since; put",
    ),
    ((VECTOR, DENSE, RELU, {"layer": "Identity"}, RELU), r"layers\[3\] Relu: .*layers\[1\] Relu"),
    ((VECTOR, NORM), r"layers\[0\] LayerNorm: its input must be Gaussian.* raw input"),
    ((VECTOR, DENSE, RELU, NORM), r"layers\[2\] LayerNorm: .* must be Gaussian.*layers\[1\] Relu"),
    ((IMAGE, CONV, {**NORM, "axis": [1, 2]}, GAP), r"LayerNorm: axis \[1, 2\] leaves out the chan"),
    ((IMAGE, CONV, {**NORM, "axis": [0, 3]}, GAP), r"LayerNorm: axis 0 is the batch"),
    ((IMAGE, CONV, {**NORM, "axis": [-4, 3]}, GAP), r"LayerNorm: axis 0 is the batch"),
    ((VECTOR, DENSE, {**NORM, "axis": 3}), r"LayerNorm: axis 3 does not exist in .*features"),
    ((VECTOR, DROPOUT), r"layers\[0\] Dropout: .*raw input; put a Dense or Conv layer before it"),
    ((IMAGE, POOL, DROPOUT, GAP), r"layers\[1\] Dropout: Dropout cannot act on the raw input"),
    ((VECTOR, DENSE, DROPOUT, RELU), r"layers\[2\] Relu: .*layers\[1\] Dropout"),
    ((IMAGE, CONV, FLATTEN, RELU), r"layers\[2\] Relu: .* must be Gaussian.*layers\[1\] Flatten"),
    (
        (VECTOR, residual(DENSE)),
        r"layers\[0\] Residual: the shortcut's output must be Gaussian.*raw input",
    ),
    (
        (VECTOR, DENSE, residual(DENSE, RELU)),
        r"the branch's output must be Gaussian.*layers\[1\] Residual.branch\[1\] Relu",
    ),
    (
        (VECTOR, DENSE, RELU, residual(DENSE)),
        r"layers\[2\] Residual: the shortcut's output .*layers\[1\] Relu",
    ),
    ((IMAGE, CONV, residual(POOL, shortcut=[POOL]), GAP), r"share all their random weights"),
    # nested paths
    (
        (IMAGE, CONV, RELU, residual({**CONV, "W_std": -1})),
        r"layers\[2\] Residual.branch\[0\] Conv: W_std",
    ),
    ((VECTOR, residual(DENSE, shortcut=[{"layer": "Dence"}])), r"Residual.shortcut\[0\]: unknown"),
    ((VECTOR, {"layer": "Residual", "branch": []}), r"layers\[0\] Residual: branch must be a list"),
    (
        (VECTOR, {**residual(DENSE), "shortcuts": []}),
        r"Residual: unknown parameter 'shortcuts', did you mean 'shortcut'\?",
    ),
    ((VECTOR, {"layer": "Repeat", "times": 2}), r"layers\[0\] Repeat: body must be a list"),
    ((VECTOR, {"layer": "Repeat", "body": [DENSE]}), r"Repeat: parameter 'times' is missing"),
    ((VECTOR, {"layer": "Repeat", "times": 0, "body": [DENSE]}), r"times must be an integer >= 1"),
    ((VECTOR, {"layer": "Repeat", "times": 2, "body": "D"}), r"Repeat.body: must be a list of"),
    (
        (VECTOR, DENSE, {"layer": "Repeat", "times": 2, "body": [RELU, DENSE, RELU]}),
        r"layers\[1\] Repeat.body\[0\] Relu \(repetition 2\): .*layers\[1\] Repeat.body\[2\] Relu",
    ),
    (
        (
            IMAGE,
            {"layer": "Repeat", "times": 4, "body": [{**CONV, "padding": "VALID"}]},
            GAP,
        ),
        r"Repeat.body\[0\] Conv \(repetition 3\): filter_shape 3 x 3 .* image of 2 x 1 pixels",
    ),
]


@pytest.mark.parametrize(("network", "message"), BAD_LAYERS)
def test_refused_layers(network, message):
    with pytest.raises(WidegramError, match=message) as caught:
        load(*network)
    assert "\n" not in str(caught.value)


BAD_SPECS = [
    ({"layers": [DENSE]}, r"'input_shape' \[D\], \[L, C\] or \[H, W, C\] is missing"),
    ({"input_shape": [8]}, r"'layers' is missing"),
    ({"input_shape": [8], "layers": []}, r"the network has no layers"),
    ({"input_shape": [8], "layers": {"layer": "Dense"}}, r"layers: must be a list of layers"),
    ({"input_shape": [8], "layer": []}, r"unknown key 'layer', did you mean 'layers'\?"),
    ({"input_shape": [8, 8, 8, 8], "layers": [DENSE]},
     r"input_shape: must be \[D\], \[L, C\] or \[H, W, C\] .*; volumes \[D, H, W, C\] are not"),
    ({"input_shape": [0], "layers": [DENSE]}, r"input_shape: .* integers >= 1, found \[0\]"),
    ({"input_shape": [8.0], "layers": [DENSE]}, r"input_shape: .* integers >= 1"),
    ({"input_shape": 8, "layers": [DENSE]}, r"input_shape: .* found 8"),
    ('{"input_shape": [8], "layers": [}', r"not valid JSON: .* \(line 1, column 33\)"),
    ('{"input_shape": [8], "layers": [], "layers": []}', r"key 'layers' is given twice"),
    ('{"input_shape": [8], "layers": [{"layer": "Dense", "W_std": NaN}]}', r"W_std must be finite"),
    (3, r"a network is a file, JSON text, a dict or a preset, found 3"),
]


@pytest.mark.parametrize(("spec", "message"), BAD_SPECS)
def test_refused_specifications(spec, message):
    with pytest.raises(WidegramError, match=message):
        load_network(spec)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.toml", b"layers = [", r"net.toml: not valid TOML"),
        ("net.json", b"[1, 2", r"net.json: not valid JSON: .*line 1"),
        ("net.json", b"[1, 2]", r"net.json: network: must be .*found \[1, 2\]"),
        ("net.json", b"\xff\xfe\x00", r"net.json: not a text file"),
        ("net.json", b'{"input_shape": [8], "layers": [{"layer": "Dens"}]}', r"net.json: layers"),
        ("missing/net.json", None, r"missing/net.json: cannot read .*No such file"),
    ],
)
def test_refused_files(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WidegramError, match=message):
        load_network(str(path))
