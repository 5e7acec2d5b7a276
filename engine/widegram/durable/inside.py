"""HDF5 files that lead to other files by links, external storage or virtual datasets.

HDF5 opens what they name as soon as somebody touches them: a pipe makes it wait, a virtual dataset
of itself makes it crash, and what another file holds is no part of this one's checksums.
"""

from __future__ import annotations

from typing import Any

import h5py

from widegram.errors import WidegramError, shown


def check_inside(file: h5py.File, virtual: bool = False) -> None:
    """Raise :class:`WidegramError` where a link or a dataset of an open file leads out of it, but
    for datasets that are ``virtual``, where these are known."""

    def leads_out(name: bytes, info: Any) -> bytes | None:
        return None if info.type in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT) else name

    outside = file.id.links.visit(leads_out, info=True)
    if outside is not None:
        name = shown(outside.decode(errors="replace"))
        raise WidegramError(f"{file.filename}: its {name} is a link to another file; remove it")

    def check(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not (virtual and item.is_virtual):
            check_storage(item, f"{file.filename}:{name}")

    file.visititems(check)


def check_storage(dataset: h5py.Dataset, place: str) -> None:
    """Refuse a dataset, ``place`` for messages, whose numbers lie in other files."""
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise WidegramError(
            f"{place}: is a virtual dataset, whose numbers lie in other files; copy it into one "
            "(h5repack, or dataset[...] in h5py)"
        )
    if plist.get_external_count():
        raise WidegramError(
            f"{place}: keeps its numbers in another file (external storage); copy it into one "
            "(h5repack, or dataset[...] in h5py)"
        )


def check_place(dataset: h5py.Dataset, place: str) -> None:
    """Refuse a dataset whose numbers lie in other files or nowhere."""
    check_storage(dataset, place)
    if dataset.id.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        raise WidegramError(f"{place}: holds nothing, its dataspace is null")
