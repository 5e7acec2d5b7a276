"""`widegram report` says what the commands said, and refuses what does not belong together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_support import refused, run, run_json

NET = "fcn:depth=1,act=erf"
TRAIN, TEST = 60, 30


def prepared(*words: object, log: Path) -> dict:
    found = run_json(*words)
    with log.open("a") as file:
        file.write(json.dumps(found) + "\n")
    return found


@pytest.fixture(scope="module")
def said() -> dict[str, dict]:
    """What the commands printed that made the files of `folder`."""
    return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, said: dict[str, dict]) -> Path:
    place = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((TRAIN + TEST, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    np.savez(place / "d.npz", x=x[:TRAIN], t=x[TRAIN:], y=y[:TRAIN], u=y[TRAIN:], r=x[:TRAIN, 2],
             s=x[TRAIN:, 2])  # fmt: skip
    log, data = place / "log", f"{place}/d.npz"
    gram = ("gram", "--net", NET, "--dtype", "float64")
    said["K"] = prepared(*gram, "--x", f"{data}:x", "--out", place / "K.h5", log=log)
    run_json(*gram, "--x", f"{data}:t", "--x2", f"{data}:x", "--out", place / "C.h5")
    said["A"] = prepared(
        "solve", place / "K.h5", "--kernel", "nngp", "--y", f"{data}:y", "--diag-reg-path",
        "1e-3,1e-2,1e-1", "--scale-prior", "--out", place / "A.h5", log=log,
    )  # fmt: skip
    said["P"] = prepared(
        "predict", place / "A.h5", "--cross", place / "C.h5", "--variance", "--y", f"{data}:u",
        "--out", place / "P.h5", log=log,
    )  # fmt: skip
    said["E"] = prepared(
        "eig", place / "K.h5", "--kernel", "nngp", "--out", place / "E.h5", log=log
    )
    return place


def files(folder: Path, names: str = "KAPE") -> list[Path]:
    return [folder / f"{name}.h5" for name in names]


class Page(HTMLParser):
    """The text of a page, and every address in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.addresses, self.tags = "", list[str](), list[str]()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_says_what_the_commands_said(folder: Path, said: dict, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    found = run_json(
        "report", *reversed(files(folder)), "--y", f"{folder}/d.npz:u", "--times", folder / "log",
        "--out", out,
    )  # fmt: skip
    test = found["predictions"]["test"]
    assert (test["accuracy"], test["mse"]) == (said["P"]["accuracy"], said["P"]["mse"])
    assert test["calibration"]["ece"] == said["P"]["ece"]
    assert test["calibration"]["log_loss"] == said["P"]["log_loss"]
    assert sum(row["points"] for row in test["calibration"]["bins"]) == TEST
    assert np.trace(test["confusion"]) == round(said["P"]["accuracy"] * TEST)
    assert np.sum(test["confusion"]) == TEST
    assert found["predictions"]["train"]["accuracy"] == said["P"]["train_accuracy"]
    assert [row["mse"] for row in found["solution"]["path"]] == [
        p["mse"] for p in said["A"]["path"]
    ]
    assert found["spectrum"]["lambda_max"] == said["E"]["lambda_max"]
    assert found["cost"]["seconds"]["gram file"] == said["K"]["seconds"]
    assert found["cost"]["entries_per_second"] == said["K"]["entries_per_second"]
    assert found["cost"]["bytes"] == (folder / "K.h5").stat().st_size
    page = Page(out)
    for text in (
        f"{test['accuracy']:.6g}",
        "Erf",
        f"{found['spectrum']['kappa']:.6g}",
        "no damage",
    ):
        assert text in page.text
    assert page.tags.count("img") == 4
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert "default-src 'none'" in out.read_text()


def test_a_gram_file_alone_and_twice_the_same(folder: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        assert run("report", *files(folder, "KE"), "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    found = run_json("report", folder / "K.h5", "--out", tmp_path / "c.html")
    assert found["solution"] is found["spectrum"] is found["predictions"] is None
    assert "Predictions" not in Page(tmp_path / "c.html").text


def test_names_are_no_markup(folder: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>&amp;.h5"
    shutil.copy(folder / "K.h5", tmp_path / name)
    assert run("report", tmp_path / name, "--out", tmp_path / "r.html").exit_code == 0
    page = Page(tmp_path / "r.html")
    assert name in page.text
    assert page.addresses == []


def test_rows_and_numbers(folder: Path, tmp_path: Path) -> None:
    """Predicted rows in an order of their own; the coverage of error bars of a regression."""
    rows, data = np.random.default_rng(0).permutation(TEST)[:20], f"{folder}/d.npz"
    np.save(tmp_path / "rows.npy", rows)
    a, p = tmp_path / "a.h5", tmp_path / "p.h5"
    run_json("solve", folder / "K.h5", "--kernel", "nngp", "--y", f"{data}:r", "--diag-reg", 0.1,
             "--normalize-y", "--out", a)  # fmt: skip
    said = run_json("predict", a, "--cross", folder / "C.h5", "--variance", "--rows",
                    tmp_path / "rows.npy", "--y", f"{data}:s", "--out", p)  # fmt: skip
    report = ("report", folder / "K.h5", a, p, "--out", tmp_path / "r.html")
    found = run_json(*report, "--y", f"{data}:s")["predictions"]["test"]
    assert found["mse"] == pytest.approx(said["mse"], rel=1e-12)  # sums in another order
    with h5py.File(p) as file, np.load(folder / "d.npz") as of:
        off = np.abs(of["s"][rows, None] - file["mean"][:])
        within = off <= 1.959963984540054 * np.sqrt(file["variance"][:].reshape(20, -1))
    assert found["coverage"][-1] == {"level": 0.95, "covered": within.mean()}
    refused("of all rows of the cross file", *report, "--overwrite", "--y", f"{data}:r")


def test_machines(folder: Path, tmp_path: Path) -> None:
    data, solution = f"{folder}/d.npz", tmp_path / "S.h5"
    run_json("solve", folder / "K.h5", "--method", "svm", "--c-path", "1",
             "--y", f"{data}:y", "--out", solution)  # fmt: skip
    predicted = run_json("predict", solution, "--cross", folder / "C.h5", "--y", f"{data}:u",
                         "--out", tmp_path / "P.h5")  # fmt: skip
    found = run_json("report", folder / "K.h5", solution, tmp_path / "P.h5", "--y", f"{data}:u",
                     "--out", tmp_path / "R.html")["predictions"]  # fmt: skip
    assert found["test"]["accuracy"] == predicted["accuracy"]
    assert found["train"]["accuracy"] == predicted["train_accuracy"]
    assert found["train"]["mse"] is None


def test_what_does_not_belong_is_refused(folder: Path, tmp_path: Path) -> None:
    data, out = f"{folder}/d.npz", ("--out", tmp_path / "r.html")
    gram = ("gram", "--dtype", "float64", "--x", f"{data}:x", "--limit", 20, "--out")
    run_json(*gram, tmp_path / "net.h5", "--net", "fcn:depth=1,act=relu")
    run_json(*gram, tmp_path / "x.h5", "--net", NET)
    run_json("eig", folder / "K.h5", "--kernel", "ntk", "--out", tmp_path / "ntk.h5")
    run_json("solve", folder / "K.h5", "--kernel", "nngp", "--y", f"{data}:y", "--diag-reg", 0.3,
             "--out", tmp_path / "a.h5")  # fmt: skip
    (tmp_path / "deep.log").write_text("[" * 20_000)
    k, a, p, e = files(folder)
    for message, *given in (
        ("its network differs", tmp_path / "net.h5", a),
        ("its training data differs", tmp_path / "x.h5", e),
        ("its kernel differs", k, a, tmp_path / "ntk.h5"),
        ("its regulariser differs", k, tmp_path / "a.h5", p),
        ("a report tells of one", k, a, tmp_path / "a.h5"),
        ("a report tells of one", k, k),
        ("give the gram file", a),
        ("give the solution", k, p),
        ("is not an HDF5 file", k, folder / "d.npz"),
        ("no such file", k, folder / "no.h5"),
        ("labels serve a prediction", k, a, "--y", f"{data}:u"),
        ("holds 60 labels, .*P.h5 has 30 rows", k, a, p, "--y", f"{data}:y"),
        ("line 1 is no JSON", k, "--times", __file__),
        ("line 1 is no JSON", k, "--times", tmp_path / "deep.log"),
    ):
        refused(message, "report", *given, *out)
    assert not (tmp_path / "r.html").exists()


def test_unfinished_damaged_and_foreign_files(folder: Path, tmp_path: Path) -> None:
    from linalg_support import write_gram

    out = ("--out", tmp_path / "r.html")
    part = write_gram(tmp_path / "part.h5", {"ntk": np.eye(40)}, complete=False)
    refused("is not complete", "report", part, *out)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1.0
    refused("is no file of this program", "report", folder / "K.h5", tmp_path / "foreign.h5", *out)
    for name in "KA":
        hurt = tmp_path / f"{name}.h5"
        content = bytearray((folder / f"{name}.h5").read_bytes())
        with h5py.File(folder / f"{name}.h5") as file:
            dataset = file["nngp" if name == "K" else "alpha"]
            chunked = dataset.chunks is not None
            at = dataset.id.get_chunk_info(0).byte_offset if chunked else dataset.id.get_offset()
        content[at + 3] ^= 16
        hurt.write_bytes(content)
        others = [folder / "K.h5"] if name == "A" else []
        refused("damaged", "report", hurt, *others, *out, code=3)


def test_the_output_is_no_input_and_is_kept(folder: Path, tmp_path: Path) -> None:
    k = shutil.copy(folder / "K.h5", tmp_path / "K.h5")
    refused("is an input of this command", "report", k, "--out", k, "--overwrite")
    (tmp_path / "r.html").write_text("mine")
    refused("exists", "report", k, "--out", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"
    assert run("report", k, "--out", tmp_path / "r.html", "--overwrite").exit_code == 0


@pytest.mark.slow
def test_a_browser_shows_it(folder: Path, tmp_path: Path) -> None:
    """All pictures are drawn, nothing is wider than a narrow window, nothing is asked for."""
    browser = shutil.which("chromium") or pytest.skip("no Chromium")
    run_json("report", *files(folder), "--y", f"{folder}/d.npz:u", "--out", tmp_path / "r.html")
    (tmp_path / "frame.html").write_text(
        '<iframe src="r.html" style="width:360px;height:900px"></iframe><pre id="said"></pre>'
        "<script>onload = () => { const page = document.querySelector('iframe').contentDocument;"
        "const drawn = [...page.images].filter(i => i.complete && i.naturalWidth > 0).length;"
        "document.title = `${drawn} ${page.documentElement.scrollWidth}`; }</script>"
    )
    found = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run", f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=10000",
         "--dump-dom", f"file://{tmp_path}/frame.html"],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    drawn, width = re.search(r"<title>(\d+) (\d+)</title>", found).groups()
    assert int(drawn) == 4
    assert int(width) <= 360
