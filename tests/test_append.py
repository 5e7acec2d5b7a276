"""`gram --append`: a finished file grown by new inputs is the file of a run of the whole."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fake_evaluator as fake
import widegram
from cli_support import refused, run_json
from test_crash import content
from test_gram import stop_after
from widegram.errors import Interrupted, WidegramError

RNG = np.random.default_rng(2)
X = RNG.standard_normal((30, 4, 4, 2))
SWEEP = {
    "input_shape": [4, 4, 2],
    "layers": [
        {"layer": "Repeat", "times": 2, "body": [
            {"layer": "Conv", "filter_shape": [3, 3], "padding": "SAME"}, {"layer": "Relu"}]},
        {"layer": "Readouts", "heads": {
            "flat": [{"layer": "Flatten"}, {"layer": "Dense"}],
            "gap": [{"layer": "GlobalAvgPool"}, {"layer": "Dense"}]}},
    ],
}  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[fake.FakeEvaluator]:
    monkeypatch.setattr("widegram.machine.progress._REPORT_SECONDS", 0.0)
    return fake.install(monkeypatch)


@settings(max_examples=8)
@given(data=st.data())
def test_any_sizes_and_tiles(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    old, new = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 30))
    tiles = [data.draw(st.sampled_from([None, 8, 16, 48])) for _ in range(2)]
    cross = data.draw(st.booleans())
    columns = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 20))
    folder = tmp_path_factory.mktemp("append")
    x, x2 = fake.inputs(old + new), fake.inputs(sum(columns), seed=1) if cross else None
    with pytest.MonkeyPatch.context() as patch:
        evaluators = fake.install(patch)
        first = None if x2 is None else x2[: columns[0]]
        widegram.gram(fake.NETWORK, x[:old], folder / "K.h5", first, tile=tiles[0])
        out = widegram.gram(fake.NETWORK, x, folder / "K.h5", x2, tile=tiles[1], append=True)
        side = out.tile if out.entries else tiles[0]
        widegram.gram(fake.NETWORK, x, folder / "whole.h5", x2, tile=side)
    assert sorted(path.name for path in folder.iterdir()) == ["K.h5", "whole.h5"]
    wide = sum(columns) if cross else old + new
    known = old * (columns[0] if cross else old)
    if out.entries:
        assert content(folder / "K.h5") == content(folder / "whole.h5")
        assert (out.entries, out.copied_entries) == ((old + new) * wide - known, known)
    for rows, cols in evaluators[1].calls:  # nothing of the old matrix is computed
        assert rows.start >= old or cols.start >= (columns[0] if cross else old)


def test_depths_and_heads_of_a_real_network(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    options: dict[str, Any] = {"depths": (1, 2), "tile": 8}
    widegram.gram(SWEEP, X[:13], tmp_path / "K.h5", **options)
    widegram.gram(SWEEP, X[:5], tmp_path / "C.h5", X[:13], **options)
    widegram.gram(SWEEP, tmp_path / "x.npy", tmp_path / "K.h5", append=True, **options)
    widegram.gram(SWEEP, tmp_path / "x.npy", tmp_path / "whole.h5", **options)
    assert content(tmp_path / "K.h5") == content(tmp_path / "whole.h5")
    report = widegram.verify(tmp_path / "K.h5")
    assert report.ok, report.damage
    widegram.gram(SWEEP, X[:9], tmp_path / "C.h5", tmp_path / "x.npy", append=True, **options)
    widegram.gram(SWEEP, X[:9], tmp_path / "across.h5", tmp_path / "x.npy", **options)
    assert content(tmp_path / "C.h5") == content(tmp_path / "across.h5")


def test_it_stops_goes_on_and_ends(made: list, tmp_path: Path) -> None:
    x, path = fake.inputs(70), tmp_path / "K.h5"
    widegram.gram(fake.NETWORK, x[:20], path, tile=16)
    before = content(path)
    stop = stop_after(9, signal.SIGINT)
    with pytest.raises(Interrupted, match=r"K\.h5\.append: interrupted"):
        widegram.gram(fake.NETWORK, x, path, tile=16, append=True, progress=stop)
    assert content(path) == before
    other = fake.inputs(70, seed=1)
    other[:20] = x[:20]
    with pytest.raises(WidegramError, match="something else was being appended: it was made from"):
        widegram.gram(fake.NETWORK, other, path, tile=16, append=True)
    found = widegram.gram(fake.NETWORK, x, path, append=True)
    assert found.resumed_tiles > 0
    widegram.gram(fake.NETWORK, x, tmp_path / "whole.h5", tile=16)
    assert content(path) == content(tmp_path / "whole.h5")
    again = widegram.gram(fake.NETWORK, x, path, append=True)
    assert (again.entries, again.complete) == (0, True)
    with pytest.raises(WidegramError, match=r"K\.h5: has all of these rows, .*leave append out"):
        widegram.gram(fake.NETWORK, x, path, append=True, check=True)


def test_a_link_in_the_place_of_the_growing_file_is_refused(made: list, tmp_path: Path) -> None:
    x, path, grown = fake.inputs(70), tmp_path / "K.h5", tmp_path / "K.h5.append"
    widegram.gram(fake.NETWORK, x[:20], path, tile=16)
    with pytest.raises(Interrupted):
        widegram.gram(fake.NETWORK, x, path, tile=16, append=True,
                      progress=stop_after(9, signal.SIGINT))  # fmt: skip
    kept = grown.rename(tmp_path / "begun.h5")
    before = kept.read_bytes(), path.read_bytes()
    for link in (grown.symlink_to, grown.hardlink_to):
        link(kept)
        with pytest.raises(WidegramError, match=r"K\.h5\.append: is in the way"):
            widegram.gram(fake.NETWORK, x, path, tile=16, append=True)
        assert (kept.read_bytes(), path.read_bytes()) == before
        grown.unlink()
    grown.symlink_to("nowhere")
    with pytest.raises(WidegramError, match="is in the way"):
        widegram.gram(fake.NETWORK, x, path, tile=16, append=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_old_tile_is_not_copied(made: list, tmp_path: Path) -> None:
    x, path = fake.inputs(40), tmp_path / "K.h5"
    widegram.gram(fake.NETWORK, x[:30], path, tile=16)
    with widegram.GramFile(path) as file:
        offset = file.dataset("nngp").id.get_chunk_info(0).byte_offset
    fake.damage(path, offset + 5)
    with pytest.raises(WidegramError, match="is damaged: /nngp rows 0-15"):
        widegram.gram(fake.NETWORK, x, path, append=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "fcn:depth=2"}, "made from another network"),
        ({"dtype": "float64"}, "its dtype is float32, not float64"),
        ({"get": "ntk"}, "its kernels is nngp,ntk, not ntk"),
        ({"x1": fake.inputs(40, seed=1)}, "first 20 rows of array are not the inputs x"),
        ({"x1": fake.inputs(19)}, "array has 19 rows, and it was made from 20"),
        ({"x2": fake.inputs(20)}, "the symmetric matrix of x with itself, not a matrix of x with"),
        ({"overwrite": True}, "append goes neither with overwrite"),
        ({"dask": "local:2"}, "append goes neither with overwrite nor with dask"),
        ({"shard": "1/2"}, "nor with a shard"),
        ({"out": "gone.h5"}, "does not exist; there is nothing to append to"),
    ],
)
def test_what_is_refused(made: list, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    x = fake.inputs(40)
    widegram.gram(fake.NETWORK, x[:20], tmp_path / "K.h5", tile=16)
    before = content(tmp_path / "K.h5")
    request: dict[str, Any] = {"network": fake.NETWORK, "x1": x, "out": "K.h5", **change}
    request["out"] = tmp_path / request["out"]
    with pytest.raises(WidegramError, match=message):
        widegram.gram(append=True, **request)
    assert content(tmp_path / "K.h5") == before
    assert [path.name for path in tmp_path.iterdir()] == ["K.h5"]


def test_unfinished_and_virtual_files_do_not_grow(made: list, tmp_path: Path) -> None:
    x = fake.inputs(40)
    stop = stop_after(3, signal.SIGINT)
    with pytest.raises(Interrupted):
        widegram.gram(fake.NETWORK, x[:30], tmp_path / "K.h5", tile=8, progress=stop)
    with pytest.raises(WidegramError, match="is not complete"):
        widegram.gram(fake.NETWORK, x, tmp_path / "K.h5", append=True)
    widegram.gram(fake.NETWORK, x[:30], tmp_path / "V.h5", tile=8, shard="1/1")
    widegram.join(tmp_path / "V.h5", virtual=True)
    with pytest.raises(WidegramError, match="it is virtual; join its shards without --virtual"):
        widegram.gram(fake.NETWORK, x, tmp_path / "V.h5", append=True)


def test_from_the_shell(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    gram = ("gram", "--net", "cnn-f:depth=1", "--x", tmp_path / "x.npy", "--out",
            tmp_path / "K.h5")  # fmt: skip
    run_json(*gram, "--limit", 12)
    found = run_json(*gram, "--append")
    assert (found["entries"], found["copied_entries"]) == (30 * 30 - 144, 144)
    assert run_json("info", tmp_path / "K.h5")["complete"]
    refused("first 30 rows of .* are not the inputs x", *gram[:4], _shifted(tmp_path), *gram[5:],
            "--append")  # fmt: skip
    refused("--plan is of whole runs", *gram, "--append", "--plan")
    refused("--dask has no effect with --append", *gram, "--append", "--dask",
            "local:2")  # fmt: skip


def _shifted(folder: Path) -> Path:
    np.save(folder / "other.npy", np.concatenate([X, X]) + 1)
    return folder / "other.npy"
