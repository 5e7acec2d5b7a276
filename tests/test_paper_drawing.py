"""`make paper` runs the commands that docs/paper.md shows, with and without CIFAR-10."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from doc_examples import PAGES, ROOT, commands, examples, parse

if shutil.which("make") is None:
    pytest.skip("there is no make", allow_module_level=True)

# Notes its name and words, and makes the file of --out, which the script may copy.
STAND_IN = """#!/bin/sh
name=${0##*/}
for word in "$name" "$@"; do printf '%s\\n' "$word"; done >>"$NOTES"
echo >>"$NOTES"
while [ $# -gt 0 ]; do
    if [ "$1" = --out ]; then : >"$2"; fi
    shift
done
"""


def drawn(folder: Path, *variables: str) -> list[list[str]]:
    """The commands of `make paper` with stand-ins, in a copy of what it needs."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / "docs").mkdir()
    for name in ("Makefile", "pyproject.toml", "docs/paper.md"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docs/paper", folder / "docs/paper")
    for name in ("widegram", "python"):
        (folder / ".venv/bin" / name).write_text(STAND_IN)
        (folder / ".venv/bin" / name).chmod(0o755)
    sums = ["sh", "-c", "cksum <pyproject.toml | cut -d ' ' -f 1"]
    said = subprocess.run(sums, cwd=folder, capture_output=True, text=True, check=True)
    (folder / f".venv/installed-{said.stdout.strip()}").touch()
    environment = {"PATH": "/usr/bin:/bin", "NOTES": str(folder / "notes")}
    done = subprocess.run(["make", "paper", *variables], cwd=folder, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = (folder / "notes").read_text().split("\n\n")
    return [command.split("\n") for command in found if command]


def by_picture(found: list[list[str]]) -> dict[str, dict[str, str]]:
    """Options of the commands that draw or prepare, by the name of what they make."""
    named = {}
    for _, *words in found:
        options = dict(zip(words, [*words[1:], ""], strict=True))
        options = {k: v for k, v in options.items() if k.startswith("--") and k != "--overwrite"}
        made = options.pop("--plot", None) or (options.get("--out") if "prepare" in words else None)
        if made is not None:
            options.pop("--out", None)
            named[Path(made).name] = {k: Path(v).name for k, v in options.items()}
    return named


def shown() -> dict[str, dict[str, str]]:
    """The same of the page."""
    page = [e.text for e in examples(PAGES["paper.md"].read_text()) if e.language == "sh"]
    return by_picture([words for text in page for words in commands(text)])


@pytest.mark.parametrize("cifar10", [False, True])
def test_make_paper(cifar10: bool, tmp_path: Path) -> None:
    data = ["CIFAR10=a directory"] if cifar10 else []
    found = drawn(tmp_path / "copy", f"FASHION={tmp_path}", *data)
    for name, *words in found:
        if name == "widegram":
            parse(words)
    made, page = by_picture(found), shown()
    of_cifar = {name for name in page if "cifar10" in name}
    assert of_cifar == {
        "cifar10.h5", "trainability-cifar10.png", "trainability-cifar10-cnn-f.png",
    }  # fmt: skip
    wanted = set(page) if cifar10 else set(page) - of_cifar
    assert {name: made.get(name) for name in wanted} == {name: page[name] for name in wanted}
    assert cifar10 == bool(of_cifar & set(made))
    if cifar10:
        prepared = next(words for _, *words in found if "a directory" in words)
        assert prepared[:3] == ["data", "prepare", "a directory"]


def test_without_fashion_mnist_digits_take_its_place(tmp_path: Path) -> None:
    found = drawn(tmp_path / "copy", "FASHION=nowhere")
    assert "images.h5" not in by_picture(found)
    assert (tmp_path / "copy/paper-out/images.h5").exists()
    assert any(shlex.join(words).count("images.h5") for words in found)
