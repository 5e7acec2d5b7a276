"""CIFAR-10 kept as JPEG, as `bench published` decodes it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from widegram_bench.published import jpeg
from widegram_bench.published.modules import ended

Image = pytest.importorskip("PIL.Image")


def packed(colours: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures (n, 32, 32, 3) of one colour each, one behind the other, and where they begin."""
    pictures = []
    for colour in colours:
        file = io.BytesIO()
        whole = np.broadcast_to(colour.astype(np.uint8), (32, 32, 3))
        Image.fromarray(np.ascontiguousarray(whole)).save(file, "JPEG", quality=95)
        pictures.append(np.frombuffer(file.getvalue(), np.uint8))
    sizes = [len(picture) for picture in pictures]
    return {"jpeg": np.concatenate(pictures), "offsets": np.cumsum([0, *sizes])}


def test_pictures_are_decoded_in_their_order(tmp_path: Path, monkeypatch, capsys) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 3))
    arrays = {}
    for part, of in (("train", colours[:3]), ("test", colours[3:])):
        arrays |= {f"{name}_{part}": array for name, array in packed(of).items()}
        arrays[f"y_{part}"] = np.arange(len(of))
    np.savez(tmp_path / "pack.npz", **arrays)
    out = tmp_path / "out.npz"
    line = ["jpeg", str(tmp_path / "pack.npz"), "--train", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", line)
    ended(jpeg.main)
    assert json.loads(capsys.readouterr().out)["x_test"] == [2, 32, 32, 3]
    with np.load(out) as found:
        assert found["y_train"].tolist() == [0, 1]
        for part, of in (("train", colours[:2]), ("test", colours[3:])):
            wanted = np.broadcast_to(of[:, None, None], (2, 32, 32, 3))
            # a picture of one colour: what is left are the roundings of YCbCr and its table
            np.testing.assert_allclose(found[f"x_{part}"], wanted, atol=4)


def test_a_file_that_is_none_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    line = ["jpeg", str(tmp_path / "other.npz"), "--out", str(tmp_path / "out.npz")]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as stop:
        ended(jpeg.main)
    assert stop.value.code == 2
    assert "jpeg_train is not a file in the archive" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
