"""Where workers are: what ``--dask`` is given."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from widegram.errors import WidegramError, shown
from widegram.machine.budgets import budget

_LOCAL = re.compile(r"local:(\d{1,4})")
_FORMS = "tcp://HOST:PORT, a scheduler file, or local:N"
_MOST = 512
INSTALL = "pip install 'widegram[distributed]'"


@dataclass(frozen=True)
class Address:
    """``scheduler``: the address of one that runs; '' where ``local`` processes are started here.
    ``text``: as it was given."""

    text: str
    scheduler: str = ""
    local: int = 0

    def share_of(self, memory: str | int | None) -> str | int | None:
        """The memory of each process, as an option: those of this machine share this one's."""
        return budget(memory) // (self.local + 1) if self.local else memory


def parse_address(given: Any) -> Address:
    """``tcp://HOST:PORT`` (or another of Dask's protocols), a scheduler file, or ``local:N``.

    Raises :class:`WidegramError` for anything else, and where Dask is not installed.
    """
    _require_dask()
    text = str(given) if isinstance(given, str | Path) else ""
    if found := _LOCAL.fullmatch(text):
        count = int(found[1])
        if not 1 <= count <= _MOST:
            raise WidegramError(f"dask {text}: give local:N with N from 1 to {_MOST}")
        return Address(text, local=count)
    if "://" in text:
        if not re.fullmatch(r"\w+://[^/:]*(\[[^\]]*\])?:\d+/?", text):
            raise WidegramError(f"dask {shown(text)}: has no host and port; give {_FORMS}")
        return Address(text, text)
    if text and Path(text).is_file():
        return Address(text, _from_file(Path(text)))
    raise WidegramError(f"dask {shown(given)}: is no address and no file; give {_FORMS}")


def _from_file(path: Path) -> str:
    try:
        address = json.loads(path.read_text())["address"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WidegramError(
            f"{path}: is no scheduler file; `dask scheduler --scheduler-file {path}` writes one"
        ) from error
    if not isinstance(address, str) or "://" not in address:
        raise WidegramError(f"{path}: names {shown(address)}, which is no address of a scheduler")
    return address


def _require_dask() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise WidegramError(f"dask: Dask's workers are not installed here; run: {INSTALL}")
