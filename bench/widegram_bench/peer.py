"""Where the peer lives, and running jobs in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from widegram.errors import WidegramError
from widegram_bench.child import finished

_HERE = Path(__file__).parent
_FIND = "import importlib.util as u, sys; sys.exit(u.find_spec('neural_tangents') is None)"


def default_python() -> Path:
    """$WIDEGRAM_PEER_PYTHON, or the environment that ``bench/peers/install.sh`` makes."""
    named = os.environ.get("WIDEGRAM_PEER_PYTHON")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "widegram" / "peers" / "neural-tangents" / "bin" / "python"


def require(python: Path) -> Path:
    """``python`` where it can import neural-tangents.

    Raises :class:`WidegramError` with the commands that install it where it cannot.
    """
    reason = "does not exist"
    if python.is_file():
        try:
            done = subprocess.run(
                [python, "-I", "-c", _FIND], capture_output=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"cannot be run ({error})"
        else:
            if done.returncode == 0:
                return python
            reason = "has no neural_tangents"
    venv = python.parent.parent
    raise WidegramError(
        f"the peer neural-tangents is missing: {python} {reason}; install it with "
        f"`bench/peers/install.sh {venv}`, or `python3 -m venv {venv} && {venv}/bin/pip install "
        f"neural-tangents==0.6.5 && {venv}/bin/pip install jax==0.4.35 jaxlib==0.4.35 "
        "tf2jax==0.3.6`, or name its interpreter with --peer-python"
    )


def run_peer(python: Path, job: dict[str, Any]) -> dict[str, Any]:
    """The result of ``peer_runner`` for a job."""
    return _run([str(python), "-I", str(_HERE / "peer_runner.py")], job, "neural-tangents", {})


def run_own(job: dict[str, Any], cache: Path | None = None) -> dict[str, Any]:
    """The result of ``own_runner``; ``cache``: where its compiled code is kept, None as always."""
    changed = (
        {} if cache is None else {"WIDEGRAM_CACHE_DIR": str(cache), "NUMBA_CACHE_DIR": str(cache)}
    )
    return _run([sys.executable, "-m", "widegram_bench.own_runner"], job, "widegram", changed)


def _run(
    command: list[str], job: dict[str, Any], name: str, changed: dict[str, str]
) -> dict[str, Any]:
    done = finished(command, json.dumps(job), os.environ | changed)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise WidegramError(f"{name} failed with exit code {done.returncode}: {last}")
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise WidegramError(f"{name} printed no result: {done.stdout[-200:]!r}") from None
    return found
