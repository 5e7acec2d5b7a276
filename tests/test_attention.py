"""GlobalSelfAttention: maps by weights that each image's own covariances make."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn_layers
import strategies
from agreement import PROMISED, cpu_agrees
from network_specs import CONV, DENSE, FLATTEN, GAP, NORM, RELU, load, residual
from strategies import settings_of
from test_cpu_properties import kernels, scale
from vocabulary import CONTINUOUS
from widegram import WidegramError, gram, kernel, reference, stax, verify
from widegram.cuda.source import source_of
from widegram.network import load_network


def attend(**more: Any) -> dict[str, Any]:
    return {
        "layer": "GlobalSelfAttention", "W_key_std": 1.3, "W_out_std": 1.2, "b_std": 0.2, **more
    }  # fmt: skip


ROOT = {"linear_scaling": False, "attention_mechanism": "IDENTITY"}
EMBEDDED = {"pos_emb_type": "CONCAT", "val_pos_emb": True, "W_pos_emb_std": 0.7}
CASES: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "first": ((5, 3), [attend(), RELU, DENSE, FLATTEN]),
    "image": ((3, 3, 2), [CONV, RELU, attend(), RELU, CONV, RELU, GAP]),
    "last": ((4, 3), [DENSE, RELU, attend(), GAP]),
    "rectified": ((3, 2, 2), [CONV, RELU, attend(attention_mechanism="RELU"), NORM, RELU, GAP]),
    "twice": ((2, 3, 2), [CONV, RELU, attend(attention_mechanism="ABS"), RELU,
              attend(attention_mechanism="IDENTITY"), GAP]),
    "branches": ((4, 3), [DENSE, residual(RELU, attend(), RELU, attend()), RELU, GAP]),
    "embedded": ((2, 3, 2), [CONV, RELU, attend(pos_emb_type="SUM", pos_emb_decay_fn="exp(-x/2)"),
                 RELU, GAP]),
    "values embedded": ((2, 3, 2), [CONV, RELU, attend(
        pos_emb_type="CONCAT", val_pos_emb=True, pos_emb_decay_fn="1/(1+x)", pos_emb_p_norm=1,
        W_pos_emb_std=0.7), RELU, GAP]),
    "values embedded, flat": ((5, 2), [DENSE, RELU, attend(pos_emb_type="SUM", val_pos_emb=True),
                              RELU, FLATTEN, DENSE]),
    "random weights": ((2, 3, 2), [CONV, RELU, attend(**ROOT), RELU, GAP]),
    "random weights, flat": ((4, 2), [attend(**ROOT, val_pos_emb=True, pos_emb_type="SUM",
                             pos_emb_decay_fn="exp(-x)"), RELU, DENSE, FLATTEN]),
    "channels": ((4, 2), [{**DENSE, "width": 6}, RELU, attend(**EMBEDDED, n_chan_pos_emb=2,
                 width=5), RELU, attend(**EMBEDDED, n_chan_pos_emb=4), GAP]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_cpu_and_reference_agree(name: str, dtype: str) -> None:
    cpu_agrees(*CASES[name], dtype)


@given(data=st.data())
@settings_of(6)
def test_random_networks(data: st.DataObject) -> None:
    """A random network behind an attention, of few and small inputs."""
    plain = data.draw(strategies.networks(CONTINUOUS, False, 2, 4)).canonical()
    kind = data.draw(st.sampled_from(["NONE", "SUM", "CONCAT"]))
    mechanism = data.draw(st.sampled_from(["SOFTMAX", "RELU", "IDENTITY"]))
    linear = mechanism != "IDENTITY" or data.draw(st.booleans())
    layer = attend(pos_emb_type=kind, attention_mechanism=mechanism, W_key_std=0.5,
                   val_pos_emb=data.draw(st.booleans()), linear_scaling=linear)  # fmt: skip
    conv = {**DENSE, "width": drawn_layers.WIDTH}
    network = load_network({**plain, "layers": [conv, layer, conv, *plain["layers"]]})
    x = data.draw(strategies.inputs(network, most=3)).clip(-2, 2)
    found, wanted = kernels(network, x), reference.kernel(network, x)
    for name in ("nngp", "ntk"):
        dense = getattr(wanted, name)
        # kinks make the root of a rounding of pixels that nearly coincide
        np.testing.assert_allclose(found[name], dense, atol=1e-7 * scale(dense), rtol=0)


def test_identical_pixels_attend_alike() -> None:
    """Of equal pixels softmax makes their mean, whatever the weights are."""
    x = np.repeat(np.random.default_rng(3).standard_normal((3, 1, 2)), 4, axis=1)
    plain = load((4, 2), {**DENSE, "W_std": 1.2, "b_std": 0.2}, GAP)
    found = kernel(load((4, 2), attend(), GAP), x, get="nngp")
    np.testing.assert_allclose(found, kernel(plain, x, get="nngp"), rtol=1e-13)  # some sums


def test_a_network_is_written_and_read() -> None:
    network = load((4, 2), DENSE, RELU, attend(pos_emb_type="sum", pos_emb_decay_fn="exp(-x)"), GAP)
    assert load_network(network.to_json()) == network
    # What embeddings that are not there would have been is no difference.
    assert load((4, 2), attend(W_pos_emb_std=3.0), GAP) == load((4, 2), attend(), GAP)


CONCAT3 = {"pos_emb_type": "CONCAT", "n_chan_pos_emb": 3}
REFUSED = {
    "scaling": ({"linear_scaling": False}, "linear_scaling=false has no known kernel with atten"),
    "scaled ABS": ({**ROOT, "attention_mechanism": "ABS"}, "attention_mechanism ABS: weights are"),
    "mechanism": ({"attention_mechanism": "SPARSEMAX"}, "must be one of SOFTMAX, IDENTITY, ABS"),
    "embedding": ({"pos_emb_type": "ROPE"}, "must be one of NONE, SUM, CONCAT, found 'ROPE'"),
    "channels": (CONCAT3, "counts beside the channels of its input; add 'width' to layers[0] Den"),
    "no channels": ({**CONCAT3, "n_chan_pos_emb": 0}, "n_chan_pos_emb must be"),
    "width": ({"width": -1}, "width must be"),
    "deviation": ({"W_key_std": -1.0}, "W_key_std is a standard deviation and must be >= 0"),
    "decay": ({"pos_emb_type": "SUM", "pos_emb_decay_fn": "open('x')"}, "pos_emb_decay_fn"),
    "norm": ({"pos_emb_p_norm": 0.0}, "pos_emb_p_norm must be > 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_parameters_are_refused(name: str) -> None:
    options, message = REFUSED[name]
    with pytest.raises(WidegramError, match=re.escape(message)) as error:
        load((4, 2), DENSE, attend(**options), GAP)
    assert str(error.value).startswith("layers[1] GlobalSelfAttention: ")
    assert "\n" not in str(error.value)


def test_inputs_beyond_the_range_are_refused() -> None:
    """Random weights make the third power of variances."""
    network = load((4, 2), DENSE, attend(**ROOT), GAP)
    x = 1e8 * np.random.default_rng(2).standard_normal((3, 4, 2)).astype(np.float32)
    with pytest.raises(WidegramError, match="overflows at row 0"):
        kernel(network, x, dtype="float32")
    assert np.isfinite(kernel(network, x.astype(np.float64)).nngp).all()


def test_what_it_cannot_act_on_is_refused() -> None:
    with pytest.raises(WidegramError, match="needs an image"):
        load((4, 2), DENSE, GAP, attend())
    with pytest.raises(WidegramError, match=r"couples all pairs of 10,000 pixels"):
        load((100, 100, 1), CONV, attend(), GAP)
    with pytest.raises(WidegramError, match=r"^layers\[1\] GlobalSelfAttention: has no CUDA"):
        source_of(load((4, 2), DENSE, attend(), GAP))
    with pytest.raises(WidegramError, match=r"^layers\[1\] GlobalSelfAttention: has no CUDA"):
        source_of(load((4, 2), DENSE, attend(**ROOT), GAP))
    with pytest.raises(WidegramError, match="3 are added to an input of 8 channels; leave it out"):
        load((4, 2), {**DENSE, "width": 8}, attend(pos_emb_type="SUM", n_chan_pos_emb=3), GAP)
    with pytest.raises(WidegramError, match="no finite value at distance 0, which two of 4 pixels"):
        load((4, 2), DENSE, attend(pos_emb_type="SUM", pos_emb_decay_fn="1/x"), GAP)
    with pytest.raises(WidegramError, match="no finite value at distance 9, which two of 4 pixels"):
        load((4, 2), attend(pos_emb_type="SUM", pos_emb_decay_fn=[[0, 1], [1, 0.5], [4, 0]]), GAP)


@pytest.mark.parametrize(("function", "message"), [
    (lambda d: 1 / 0, "fails for an array of distances: ZeroDivisionError: division by zero"),
    (lambda d: [1.0, 2.0], "fails for an array of distances: ValueError"),
    (lambda d: np.where(d == 0, np.inf, d), "has no finite value at distance 0"),
    (3.0, "must be an expression in x, such as 'exp(-x)', or a table of"),
])  # fmt: skip
def test_functions_that_fail_are_refused(function: Any, message: str) -> None:
    def made() -> Any:
        attention = stax.GlobalSelfAttention(
            1, 1, 1, 1, pos_emb_type="SUM", pos_emb_decay_fn=function
        )
        return stax.serial(stax.Dense(1), attention, stax.GlobalAvgPool())[2].network((3, 2))

    with pytest.raises(WidegramError, match=re.escape(message)) as error:
        made()
    assert "\n" not in str(error.value)


def test_a_function_is_a_table_of_its_distances() -> None:
    """In a network as data, behind a pool, and going on from a Kernel."""
    def network(decay: Any) -> list[Any]:
        layer = stax.GlobalSelfAttention(
            1, 1, 1, 1, pos_emb_type="SUM", pos_emb_p_norm=1.5, pos_emb_decay_fn=decay
        )
        return [stax.Conv(1, (2, 2), padding="SAME"), stax.AvgPool((1, 2), (1, 2)), layer,
                stax.GlobalAvgPool()]  # fmt: skip

    by_function, by_text = network(lambda d: np.exp(-d)), network("exp(-x)")
    made = stax.serial(*by_function)[2].network((3, 4, 1))
    table = made.layers[2].pos_emb_decay_fn
    wanted = sorted({i**1.5 + j**1.5 for i in range(3) for j in range(2)})
    np.testing.assert_allclose([d for d, _ in table], wanted, rtol=1e-15)  # a rounding
    assert load_network(made.to_json()) == made
    x = np.random.default_rng(4).standard_normal((3, 3, 4, 1))
    for n in (0, 2):
        first = stax.serial(*by_text[:n], stax.Identity())[2](x) if n else x
        found, wanted = (stax.serial(*of[n:])[2](first).ntk for of in (by_function, by_text))
        np.testing.assert_allclose(found, wanted, rtol=1e-13)  # a few roundings


def test_a_file_is_verified(tmp_path: Any) -> None:
    network = load((4, 2), DENSE, RELU, attend(), GAP)
    np.save(tmp_path / "x.npy", np.random.default_rng(2).standard_normal((5, 4, 2)))
    gram(network, tmp_path / "x.npy", tmp_path / "K.h5")
    report = verify(tmp_path / "K.h5")
    assert report.entries_recomputed == 25
    assert not report.damage


def test_stax_makes_the_same_network() -> None:
    _, _, kernel_fn = stax.serial(
        stax.Dense(1), stax.Relu(),
        stax.GlobalSelfAttention(8, 8, 8, 2, W_key_std=1.3, W_out_std=1.2, b_std=0.2,
                                 attention_mechanism=stax.AttentionMechanism.RELU),
        stax.GlobalAvgPool(),
    )  # fmt: skip
    wanted = load((4, 2), DENSE, RELU, attend(attention_mechanism="RELU"), GAP)
    assert kernel_fn.network((4, 2)) == wanted
