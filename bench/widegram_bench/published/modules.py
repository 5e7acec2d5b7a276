"""What the modules that rows run by ``python -m`` share: sources of arrays, and bad input."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from widegram.errors import WidegramError, one_line, reason


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An .npz file while it is read. Raises WidegramError where it is none, or lacks an array."""
    try:
        with np.load(path) as file:
            yield file
    except WidegramError:
        raise
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise WidegramError(f"{path}: cannot be read as .npz: {reason(error, True)}") from None


def ended(main: Callable[[], None]) -> None:
    """Run ``main``; bad input is one line on stderr and exit code 2."""
    try:
        main()
    except WidegramError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        raise SystemExit(2) from None
