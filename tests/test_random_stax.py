"""Random networks through ``stax``, of every layer and parameter, beside neural-tangents.

``golden_random/values.npz`` was written by neural-tangents 0.6.5 (its README.md).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import random_examples
from campaigns import peer_stax
from widegram import stax

with np.load(Path(__file__).parent / "golden_random" / "values.npz") as file:
    WANTED = dict(file)


@pytest.mark.parametrize("number", sorted({int(name.split("/")[0]) for name in WANTED}))
def test_values_of_neural_tangents(number: int) -> None:
    for name, found in random_examples.run(stax, [number]).items():
        wanted = WANTED[name]
        assert found.shape == wanted.shape
        # of the largest entry: what is promised of float64
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


VECTORS = 2  # a number whose network takes vectors, channels first


def test_a_campaign_beside_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer that a peer may give to one network: right, wrong by 1e-6, no numbers, none."""
    ours = random_examples.run(stax, [VECTORS])
    changes = {"agree": 1.0, "the peer is off": 1 + 1e-6, "no numbers there": np.nan}
    answers = [
        {"values": {name: (by * value).tolist() for name, value in ours.items()}}
        for by in changes.values()
    ]
    lines = "\n".join(map(json.dumps, [*answers, {"error": "NotImplementedError: no"}]))
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!{sys.executable}\nprint({lines!r}, flush=True)\n")
    interpreter.chmod(0o700)
    monkeypatch.setenv("WIDEGRAM_PEER_PYTHON", str(interpreter))
    monkeypatch.setattr(peer_stax, "draw", lambda seed, number: random_examples.draw(1, VECTORS))
    monkeypatch.setattr(random_examples, "run", lambda stax, numbers, seed: ours)
    told: list[str] = []
    figures = peer_stax.compare(range(4), 1, 60.0, told.append)
    assert figures["counts"] == dict.fromkeys([*changes, "refused there"], 1)
    assert len(told) == figures["networks"] == 4
    _, kind, here, there = figures["listed"][0]
    assert (kind, here < 1e-10, 5e-7 < there < 2e-6) == ("the peer is off", True, True)
    wrong = {name: 1.001 * value for name, value in ours.items()}
    monkeypatch.setattr(random_examples, "run", lambda stax, numbers, seed: wrong)
    assert peer_stax.outcome(1, VECTORS, answers[0]).kind == "off"
