"""The table of docs/activations.md: what sums leave out of activations without a closed form."""

from __future__ import annotations

from widegram.activations import get
from widegram.activations.table import SERIES

VARIANCES = (1.0, 10.0, 100.0, 1e4)
# What float64 needs: fewer terms are taken where the dtype is float32.
_TOLERANCE = 1e-14


def table() -> str:
    """Markdown rows: by variance, what is left out, relative, and of how many terms."""
    heads = " | ".join(f"variances to {q:g}" for q in VARIANCES)
    lines = [f"| activation | {heads} |", "|---" * (len(VARIANCES) + 1) + "|"]
    for name in SERIES:
        cells = [_cell(name, q) for q in VARIANCES]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(name: str, q: float) -> str:
    found = get(name, {}).for_range(q, _TOLERANCE)
    return f"{max(found.tail, 1e-16):.0e}, {found.size.removeprefix('Hermite ')}"
