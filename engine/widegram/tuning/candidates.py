"""Networks that a search tries: each once, those that differ in depth alone together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from widegram.errors import WidegramError
from widegram.network import Network, load_network
from widegram.tiling import End


class CandidateNetwork(NamedTuple):
    """A network to be tried, as ``net`` names it, and which of its heads."""

    net: str
    network: Network
    head: str


class DepthSweep(NamedTuple):
    """Networks that differ in depth alone: their deepest, and where each is read out."""

    network: Network
    depths: tuple[int, ...]
    members: dict[End, CandidateNetwork]


def named(texts: Sequence[str], shape: tuple[int, ...]) -> list[CandidateNetwork]:
    """Every network of ``texts`` that is to be tried, by head, each once.

    All are read before the first is computed; ``shape`` is that of an input. Raises
    :class:`WidegramError` for a network that cannot be, and where there is none.
    """
    found: dict[tuple[str, str], CandidateNetwork] = {}
    for text in texts:
        network = load_network(text, shape)
        for head in network.heads or ("",):
            one = network.at_head(head) if head else network
            found.setdefault((one.fingerprint(), head), CandidateNetwork(text, one, head))
    if not found:
        raise WidegramError("no network to try; name one with --net")
    return list(found.values())


def grouped(candidates: Sequence[CandidateNetwork]) -> list[DepthSweep]:
    """Networks in the order in which they were named, those that differ in depth alone together."""
    groups: dict[tuple[str, str], dict[int | None, CandidateNetwork]] = {}
    for one in candidates:
        depth: int | None = None
        key = one.network.fingerprint()
        with suppress(WidegramError):  # has no depths
            depth, key = one.network.sweep()[2], one.network.at_depth(1).fingerprint()
        groups.setdefault((key, one.head), {})[depth] = one  # equal heads are rows of their own
    found = []
    for members in groups.values():
        deepest = max(members.values(), key=lambda one: len(one.network.unrolled().layers))
        depths = tuple(sorted(depth for depth in members if depth is not None))
        if len(depths) < 2:
            depths, ends = (), {End(): deepest}
        else:
            ends = {End(depth): members[depth] for depth in depths}
        found.append(DepthSweep(deepest.network, depths, ends))
    return found
