"""One part of the benchmark on a card, in a process of its own (:mod:`widegram_bench.gpu_run`).

    python -m widegram_bench.gpu_part card|own|peer|profile NUMBER SECONDS [[CASE DTYPE] FORM]

prints one JSON object in the last line of its output.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from widegram_bench import gpu, gpu_card, gpu_peer, gpu_profile


def part(kind: str, number: int, seconds: float, key: tuple[str, ...]) -> dict[str, Any]:
    """The results of one part: of the case with that key for 'own' and 'peer', of a form of kernels
    for 'profile'."""
    card = gpu_card.describe(number)
    if kind == "card":
        return card
    if kind == "profile":
        return gpu_profile.profile(number, seconds, *key)
    case = next(c for c in gpu.cases() if c.key == key)
    if kind == "own":
        from widegram.cuda.device import gpus

        return gpu.own(case, gpus((number,))[0], card, seconds)
    with tempfile.TemporaryDirectory() as folder:
        return gpu_peer.run(
            case.network, case.dtype, case.batches, seconds, card["memory"], Path(folder)
        )


def main(arguments: Sequence[str]) -> None:
    """Run the part that the arguments name."""
    kind, number, seconds, *key = arguments
    print(json.dumps(part(kind, int(number), float(seconds), tuple(key))))


if __name__ == "__main__":
    main(sys.argv[1:])
