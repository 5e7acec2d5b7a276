"""The examples of docs/data.md run, in their order; its tables name all that there is."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import pytest

from doc_examples import PAGES, run_page
from widegram.data.zca import _LEARNING
from widegram.validation.choices import NORMALIZATIONS

TEXT = PAGES["data.md"].read_text()


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGES["data.md"])
    # What the page says of the files that the examples made.
    with h5py.File("digits.h5") as file, h5py.File("cars.h5") as cars:
        names = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        documented = set(re.findall(r"[a-z_]+", TEXT.split("## What is written")[1].split("##")[0]))
        assert {part for name in [*names, *cars["statistics"]] for part in name.split("/")} <= (
            documented
        )
        assert set(file.attrs) | set(cars.attrs) <= documented | {
            "format", "format_version", "input_shape", "seal",
        }  # fmt: skip


def test_names_and_sizes() -> None:
    for name in NORMALIZATIONS:
        assert f"`{name}`" in TEXT
    assert f"{8 * _LEARNING} D^2 bytes" in TEXT
