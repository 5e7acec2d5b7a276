"""Where the data of published numbers lie, under which names, and what a row lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import xxhash

# name -> file or folder in a data directory, the first that is there
NAMES: Mapping[str, Sequence[str]] = {
    "mnist": ("mnist.npz", "mnist"),
    "cifar10": ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar10_jpeg.npz"),
    "uci": ("uci90.npz",),
    "fashion": ("fashion-mnist",),
}
PACKAGES = {"scikit-learn": "sklearn", "Pillow": "PIL"}
_JPEG_TRAIN = 2000
_BLOCK = 2**20


@dataclass(frozen=True)
class DataPlace:
    """A source that is there.

    * ``path``: where; a link of the same name lies where commands run
    * ``digest``: of its content
    * ``place``: what stands for it in a command
    * ``before``: the command that makes ``place`` of the source, if any
    * ``note``: what to know of it, if anything
    """

    path: Path
    digest: str
    place: str
    before: str = ""
    note: str = ""


def look(folders: Sequence[Path]) -> dict[str, DataPlace]:
    """The sources that some folders hold, by name."""
    found = {}
    for name, files in NAMES.items():
        places = [folder / file for file in files for folder in folders]
        there = [place for place in places if place.exists()]
        if there:
            found[name] = _found(there[0].absolute())
    return found


def _found(path: Path) -> DataPlace:
    if path.name != "cifar10_jpeg.npz":
        return DataPlace(path, _digest(path), path.name)
    decode = f"python -m widegram_bench.published.jpeg {path.name} --train {_JPEG_TRAIN}"
    note = "CIFAR-10 as JPEG, not the original pixels"
    return DataPlace(path, _digest(path), "cifar10.npz", f"{decode} --out cifar10.npz", note)


def _digest(path: Path) -> str:
    """The digest of a file, or of the names and content of a folder's files."""
    digest = xxhash.xxh3_64()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while block := content.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()


def missing(needs: Sequence[str], found: Mapping[str, DataPlace]) -> str:
    """Why rows with these needs cannot be computed, empty where they can."""
    packages = [need for need in needs if need in PACKAGES]
    if "cifar10" in found and found["cifar10"].before and "cifar10" in needs:
        packages.append("Pillow")
    for need in needs:
        if need in NAMES and need not in found:
            return f"no {' or '.join(NAMES[need])} in --data"
    for package in packages:
        if find_spec(PACKAGES[package]) is None:
            return f"needs {package}: pip install {package}"
    return ""
