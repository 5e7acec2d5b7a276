"""Files of ours whose checksums are right and whose values are none that this program writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cli_support import refused, run
from widegram.durable.contents import checksum
from widegram.durable.sealed import CHECKSUM, seal

TUNE = "tune --net fcn:depth=1 --x x.npy --y y.npy --diag-reg-path 0.1 --device cpu --out FILE"
MAP = "meanfield trainability --data D.h5 --depths 1 --w-var 1,2 --train 4 --out FILE"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forged")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.save("x.npy", rng.standard_normal((8, 3)))
        np.save("y.npy", np.arange(8) % 2)
        Path("t.csv").write_text("a,b,c\n" + "".join(f"{n},u{n % 2},{n % 3}\n" for n in range(8)))
        for line in (
            "gram --net fcn:depth=1 --device cpu --x x.npy --out K.h5",
            "solve K.h5 --y y.npy --diag-reg 1e-3 --out A.h5",
            "data prepare x.npy --labels y.npy --test 4 --out D.h5",
            "data prepare t.csv --target c --test 2 --out B.h5",
            TUNE.replace("FILE", "T.h5"),
            MAP.replace("FILE", "F.h5"),
        ):
            found = run(*line.split())
            assert found.exit_code == 0, (line, found.stderr)
    return folder


def text(name: str, value: Any) -> Callable[[h5py.File], None]:
    """Another value of an attribute; without it where that is None."""

    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def array(name: str, values: Any) -> Callable[[h5py.File], None]:
    """Another dataset, with its checksum."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values
        file[name].attrs[CHECKSUM] = np.uint64(checksum(values))

    return change


def huge(name: str) -> Callable[[h5py.File], None]:
    """A dataset of 4 EiB, of which nothing is stored."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, (2**40, 2**20), "<f4", chunks=(1, 1024))
        file[name].attrs[CHECKSUM] = np.uint64(1)

    return change


def octets(content: str) -> np.ndarray:
    return np.frombuffer(content.encode(), np.uint8)


DEEP = "[" * 20_000
PREDICT = "predict FILE --rows 0:3"
APPLY = "data apply FILE t.csv --out o.h5"
FORGED = {
    "solution without": ("A.h5", text("diag_reg", None), PREDICT),
    "solution deep": ("A.h5", text("network", DEEP), PREDICT),
    "solution classes": ("A.h5", array("classes", np.arange(1)), PREDICT),
    "verified huge": ("T.h5", huge("diag_reg"), "verify FILE"),
    "table without": ("T.h5", text("kernel", None), TUNE),
    "table text": ("T.h5", text("holdout", "x"), TUNE),
    "table deep": ("T.h5", array("networks", octets(DEEP)), TUNE),
    "table of numbers": ("T.h5", array("networks", octets("[1]")), TUNE),
    "table longer": ("T.h5", array("networks", octets("[{}, {}]")), TUNE),
    "table shape": ("T.h5", array("loo_mse", np.ones(3)), TUNE),
    "statistics without": ("D.h5", text("normalize", None), "data apply FILE x.npy --out o.h5"),
    "statistics text": ("D.h5", text("statistics_rows", "x"), "data apply FILE x.npy --out o.h5"),
    "statistics shape": ("D.h5", text("input_shape", "x"), "data apply FILE x.npy --out o.h5"),
    "statistics mean": ("D.h5", array("statistics/scaled_mean", np.ones(2)),
                        "data apply FILE x.npy --out o.h5"),
    "columns deep": ("B.h5", array("statistics/table", octets(DEEP)), APPLY),
    "columns list": ("B.h5", array("statistics/table", octets("[]")), APPLY),
    "columns without": ("B.h5", array("statistics/table", octets('{"features": [{}]}')), APPLY),
    "map deep": ("F.h5", text("run", DEEP), MAP),
    "map list": ("F.h5", text("run", "[]"), MAP),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_they_are_refused_in_one_line(
    name: str, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind, change, line = FORGED[name]
    monkeypatch.chdir(files)
    forged = tmp_path / kind
    forged.write_bytes((files / kind).read_bytes())
    with h5py.File(forged, "r+") as file:
        change(file)
        seal(file)
    before = forged.read_bytes()
    refused(f"{kind}: .*damaged", *line.replace("FILE", str(forged)).split(),
            code=3 if line.startswith("verify") else 2)  # fmt: skip
    assert forged.read_bytes() == before
    assert not (files / "o.h5").exists()
