"""Man pages, made from the commands when a package is built; all else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
sys.path[:0] = [str(ROOT / part) for part in ("docs", "cli", "engine")]

from making import manual  # noqa: E402

from widegram import __version__  # noqa: E402

setup(data_files=[("share/man/man1", manual.write("build/man", __version__))])
