"""``widegram net --device cuda --source``: what runs on the card at hand."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from virtual_card.devices import Emulated
from widegram.cuda import device
from widegram.errors import WidegramError
from widegram_cli.main import program

# Planes of 64 x 64 numbers: in float64 they fit no block that asks for no more than every card has.
LAYERS = [
    {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"},
    {"layer": "Relu"},
    {"layer": "Conv", "filter_shape": [2, 2], "padding": "VALID", "strides": [2, 2]},
    {"layer": "GlobalAvgPool"},
]
NETWORK = json.dumps({"input_shape": [64, 64, 1], "layers": LAYERS})
ARGUMENTS = ["net", NETWORK, "--device", "cuda", "--source", "--dtype", "float64"]


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(numbers: tuple[int, ...]) -> list[Emulated]:
        raise WidegramError("device cuda: CUDA is not available here")

    monkeypatch.setattr(device, "gpus", none)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Emulated:
    found = Emulated(name="card A", shared=200_000)
    monkeypatch.setattr(device, "gpus", lambda numbers: [found])
    return found


def _printed(*arguments: str) -> str:
    result = CliRunner().invoke(program, [*ARGUMENTS, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_text_says_what_was_assumed(no_card: None) -> None:
    text = _printed()
    assert text.startswith("# Shared memory of a block: 49152 bytes (assumed, no usable card")
    assert text.count("def kernel(") == 2
    assert "# window" in text
    compile(text, "source", "exec")


def test_a_card_has_its_own_kernels(card: Emulated) -> None:
    assert _printed().startswith("# Shared memory of a block: 200000 bytes (of card A)")
    assert max(k["dynamic_shared_bytes"] for k in json.loads(_printed("--json"))["kernels"]) > 49152


def test_json_is_one_object(no_card: None) -> None:
    found = json.loads(_printed("--json"))
    assert (found["card"], found["shared_bytes"]) == (None, 49152)
    for kernel in found["kernels"]:
        assert list(kernel) == [
            "name", "form", "threads", "dynamic_shared_bytes", "registers", "source",
        ]  # fmt: skip
        compile(kernel["source"], "source", "exec")
        assert f"# {kernel['name']}: form {kernel['form']}" in _printed()


def test_source_needs_the_device() -> None:
    refused = CliRunner().invoke(program, ["net", NETWORK, "--source"])
    assert refused.exit_code == 2
    assert "--device cuda" in refused.stderr
