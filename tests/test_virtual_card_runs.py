"""Runs on virtual cards that fail or are small: what is kept, what the file says, what is freed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from virtual_card.card import VirtualCard, lacking, virtual_card

pytestmark = pytest.mark.skipif(bool(lacking()), reason=f"no {lacking()}")

NETWORK = {"input_shape": [6], "layers": [{"layer": "Dense"}, {"layer": "Relu"}]}
X = np.random.default_rng(1).standard_normal((20, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualCard]:
    with virtual_card(tmp_path_factory.mktemp("driver")) as made:
        yield made


@pytest.fixture
def arguments(tmp_path: Path) -> list[object]:
    """A Gram matrix in ten tiles."""
    np.save(tmp_path / "x.npy", X)
    return [
        "gram", "--net", json.dumps(NETWORK), "--x", tmp_path / "x.npy", "--out", tmp_path / "K.h5",
        "--tile", 5, "--device", "cuda", "--threads", 1,
    ]  # fmt: skip


# Ten tiles launch two kernels each. The last is begun when all but two are finished and one of
# these is: its failure loses the other one at most.
@pytest.mark.parametrize(("launches", "names"), [((1, 2, 3), "cpu"), ((19,), "cuda,cpu")])
def test_tiles_before_a_failure_are_kept_and_only_who_finished_tiles_is_named(
    launches: tuple[int, ...], names: str, card: VirtualCard, arguments: list[object],
    tmp_path: Path,
) -> None:  # fmt: skip
    failures = ",".join(f"launch:{n}:700" for n in launches)
    done = card.widegram(*arguments, fail=failures)
    assert done.returncode == 2
    assert "finished tiles are kept" in done.stderr
    report = widegram.gram(NETWORK, X, tmp_path / "K.h5", device="cpu")
    assert report.resumed_tiles in ([0] if names == "cpu" else [8, 9])
    with h5py.File(tmp_path / "K.h5") as file:
        assert file.attrs["device"] == names
        assert bool(file.attrs["device_note"]) == ("," in names)
        exact = widegram.kernel(NETWORK, X, get="ntk", device="cpu")
        # The contract's tolerance for float32.
        np.testing.assert_allclose(file["ntk"], exact, rtol=0, atol=1e-5 * np.abs(exact).max())


_BLOCKS = """
import numpy as np
from types import SimpleNamespace
from widegram.cuda.device import gpus
from widegram.cuda.images import DeviceImages

card = gpus(())[0]
x = np.ones((10, 100))
with card.entered():
    stream = card.stream()
    images, before = DeviceImages(card, stream, 50_000), card.free_memory()
    for n in range(40):
        block = SimpleNamespace(key=(0, n, n + 1), scaled=x, x=x, factors=x)
        images.pair(block, block)
        # Without what numba-cuda does itself when memory runs out.
        free = card._cuda.current_context().get_memory_info()[0]
        assert before - free <= 50_000, (n, before - free)
    card.wait(stream)
"""


def test_images_that_are_dropped_are_freed(card: VirtualCard) -> None:
    done = card.run("-c", _BLOCKS)
    assert (done.returncode, card.faults) == (0, []), done.stderr


def test_source_is_that_of_the_card(card: VirtualCard) -> None:
    request = ["net", json.dumps(NETWORK), "--device", "cuda", "--source", "--json"]
    found = json.loads(card.widegram(*request).stdout)
    assert found["card"] == "Virtual card A"
    assert found["shared_bytes"] > 48 * 1024
    assert [kernel["form"] for kernel in found["kernels"]] == ["product", "point"]
    assert json.loads(card.widegram(*request, count=0).stdout)["card"] is None
