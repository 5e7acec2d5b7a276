"""Pictures to files: drawn in memory, then written like every other file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from widegram.durable import write_bytes
from widegram.errors import WidegramError

ENDINGS = (".png", ".pdf", ".svg", ".eps", ".ps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def check_ending(path: str | Path) -> None:
    """Refuse, before anything is computed, a picture whose ending names no format."""
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in ENDINGS:
        raise WidegramError(
            f"{path}: {suffix} is no format for pictures; give a name ending in .png, .pdf or .svg"
        )


def require_matplotlib(what: str = "--plot") -> None:
    """Raise WidegramError, with the command that installs it, where Matplotlib is missing.

    ``what`` needs it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise WidegramError(f"{what} needs matplotlib: pip install 'widegram[plot]'") from error


def save_figure(figure: Any, path: str | Path, *, overwrite: bool = False, dpi: int = 120) -> None:
    """Write a Matplotlib figure in the format of the file's ending, PNG where it has none."""
    check_ending(path)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix.lower().lstrip(".") or "png", dpi=dpi)
    write_bytes(path, drawn.getvalue(), overwrite=overwrite)
