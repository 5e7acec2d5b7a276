"""What decides the bits of a result beside the request: this program, and the processor."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from widegram import __version__


def program() -> tuple[str, str]:
    """The version of this program, and a digest of its sources."""
    return __version__, source_digest()


@cache
def source_digest() -> str:
    """Changes with any source file of the engine."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def processor() -> str:
    """The processor as compiled code sees it, and the libraries that compute on it, in words."""
    import llvmlite
    import numpy as np
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    name = binding.get_host_cpu_name()
    return f"{name}/{digest}, llvmlite {llvmlite.__version__}, NumPy {np.__version__}"
