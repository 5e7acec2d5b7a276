"""An output is never an input, by whatever name: checked before anything is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from widegram.data.formats import split_spec
from widegram.data.patterns import places
from widegram.data.several import ListSource
from widegram.errors import WidegramError

# What a command keeps beside its output while it works.
_WORK_SUFFIXES = (
    ".factor", ".restart", ".normal", ".basis", ".leverage", ".kernels", ".best.json", ".append",
)  # fmt: skip
# Attributes of our files that name the files they were made from.
_NAMING = ("x1_location", "x2_location", "gram", "centers")
_RECIPE = "network"  # of a combined Gram file: JSON that names the files of its kernels
_MOST_FILES = 10_000  # looked at in a directory or in a file of links
Identity = tuple[int, int] | str


def check_distinct(outputs: Iterable[Any], inputs: Iterable[Any]) -> None:
    """Refuse an output, or a work file beside it, that is an input or another output.

    ``inputs`` are paths, ``file:key`` specifications, directories, opened sources, memory maps;
    None and what names no file count as nothing. Files are compared by device and inode, so that
    links are seen through, and with them the files that an input names: the data of a gram file,
    the gram file of a solution, what an HDF5 file links to, the files in a directory.
    """
    chosen = [Path(output) for output in outputs if output is not None]
    for index, output in enumerate(chosen):
        if any(_identity(output) == _identity(other) for other in chosen[:index]):
            raise WidegramError(f"{output}: is named for two outputs; give another name")
    places = {
        _identity(place): place
        for output in chosen
        for place in (output, *(Path(f"{output}{end}") for end in _WORK_SUFFIXES))
        if os.path.lexists(place)
    }
    if not places:
        return
    for path in _files(inputs):
        place = places.get(_identity(path))
        if place is not None:
            known = "" if path == place else f" ({path})"
            raise WidegramError(
                f"{place}: is an input of this command{known}; choose another name for the output"
            )


def _identity(path: Path) -> Identity:
    """Device and inode of what a path leads to; the path without links where nothing is."""
    try:
        stat = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    except ValueError:  # a null character: no file has such a name
        return str(path)
    return (stat.st_dev, stat.st_ino)


def _files(inputs: Iterable[Any]) -> Iterator[Path]:
    """Every file that the inputs are or name, each once."""
    seen: set[Identity] = set()
    waiting = [path for given in inputs for path in _given(given)]
    while waiting:
        path = waiting.pop()
        identity = _identity(path)
        if isinstance(identity, str) or identity in seen:
            continue
        seen.add(identity)
        yield path
        waiting += _inside(path) if path.is_dir() else _named(path)


def _given(given: Any) -> list[Path]:
    """The path of an input, or those of a list, as a command or a library call takes it."""
    if isinstance(given, list | tuple):
        return [path for one in given for path in _given(one)]
    if isinstance(given, ListSource):
        return _given(given.parts)
    place = getattr(given, "location", None) or getattr(given, "filename", None) or given
    if not isinstance(place, str | Path) or not str(place):
        return []
    return [split_spec(str(place))[0], Path(place)]


def _inside(folder: Path) -> list[Path]:
    """The files of a directory of raw data, and of its directories."""
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        found += [Path(place, name) for name in names]
        if len(found) >= _MOST_FILES or place.count(os.sep) > str(folder).count(os.sep) + 1:
            break
    return found[:_MOST_FILES]


def _named(path: Path) -> list[Path]:
    """The files that an HDF5 file names; none where it cannot be read, which is said later."""
    if not path.is_file():
        return []
    import h5py

    if not h5py.is_hdf5(path):
        return []
    try:
        with h5py.File(path, "r", locking=False) as file:
            names = [str(file.attrs[name]) for name in _NAMING if name in file.attrs]
            names += _combined(file.attrs.get(_RECIPE, "")) + _links(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return []
    names = [place for name in names for place in places(name)]
    return [path.parent / split_spec(name)[0] for name in names if name]


def _combined(network: Any) -> list[str]:
    """The Gram files that a combined one was made from; none of any other network."""
    made = json.loads(network) if network else {}
    return [str(part["file"]) for part in made.get("of", ())] if "combine" in made else []


def _links(file: Any) -> list[str]:
    """File names of external links, external storage and virtual sources."""
    import h5py

    names: list[str] = []
    groups, count = [file], 0
    while groups and count < _MOST_FILES:
        group = groups.pop()
        for name in group:
            count += 1
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                names.append(link.filename)
            elif isinstance(link, h5py.HardLink):
                item = group.get(name)
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    names += [entry[0] for entry in item.external or ()]
                    names += (
                        [s.file_name for s in item.virtual_sources()] if item.is_virtual else []
                    )
    return [name for name in names if name != "."]
