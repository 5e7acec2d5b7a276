"""What the assembler makes of a kernel: registers, spills, instructions of its innermost loop.

Needs no GPU: PTX from numba-cuda, ptxas and nvdisasm from PyPI (``nvidia-cuda-nvcc``,
``nvidia-cuda-nvdisasm``) or from a CUDA toolkit on the PATH.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from widegram.cuda.compiling import prepare_import, ptx
from widegram.cuda.generated import KernelText
from widegram.errors import WidegramError


@dataclass(frozen=True)
class Report:
    """``local``: whether the PTX uses local memory; ``spills`` bytes; ``loop``: instructions of the
    innermost loop that computes an activation (a root or a reciprocal), or of the product of
    vectors; None without one."""

    local: bool
    registers: int
    spills: int
    loop: int | None


def tool(name: str) -> Path | None:
    """ptxas, nvdisasm or ncu: of a PyPI package, on the PATH, or in the CUDA toolkit."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in sorted(Path(folder).glob(f"*/bin/{name}")):
            return path
    prepare_import()
    places = os.environ["PATH"] + os.pathsep + str(Path(os.environ.get("CUDA_HOME", "/"), "bin"))
    found = shutil.which(name, path=places)
    return Path(found) if found else None


def inspect(kernel: KernelText, dtype: str, capability: tuple[int, int]) -> Report:
    """Compile for a compute capability and count.

    Raises :class:`WidegramError` where ptxas or nvdisasm is missing.
    """
    text = ptx(kernel, dtype, capability)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(text)
        limit = [f"--maxrregcount={kernel.registers}"] if kernel.registers else []
        target = f"--gpu-name=sm_{capability[0]}{capability[1]}"
        said = _run("ptxas", ["-v", target, *limit, str(source), "-o", str(binary)])
        listing = _run("nvdisasm", ["-c", str(binary)])
    registers = re.search(r"Used (\d+) registers", said)
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", said)]
    assert registers is not None
    loop = shortest_loop(listing.splitlines(), "FMA" if kernel.form == "product" else "MUFU")
    return Report(".local" in text, int(registers[1]), sum(spills), loop)


def _run(name: str, arguments: Sequence[str]) -> str:
    path = tool(name)
    if path is None:
        raise WidegramError(
            f"{name} is not installed; pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm"
        )
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WidegramError(f"{name}: {(done.stderr or done.stdout).strip().splitlines()[0]}")
    return done.stdout + done.stderr


def shortest_loop(lines: Sequence[str], holding: str) -> int | None:
    """Instructions of the shortest loop that holds such an instruction, as MUFU for roots: where
    branches lead past some of them, the mean of the shortest and the longest way through."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in lines:
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            instructions.append(found[1])
    lengths = []
    for end, text in enumerate(instructions):
        start = _target(text, labels)
        if start is None or start > end:
            continue
        if any(holding in one for one in instructions[start : end + 1]):
            lengths.append(_way(instructions, labels, start, end))
    return min((length for length in lengths if length), default=None)


def _target(text: str, labels: dict[str, int]) -> int | None:
    """Number of the instruction that a branch leads to."""
    found = re.search(r"\bBRA\b.*?(\.L_\w+)", text)
    return labels.get(found[1]) if found else None


def _way(instructions: Sequence[str], labels: dict[str, int], start: int, end: int) -> int:
    """Mean length of the shortest and the longest way from ``start`` to ``end``, both included; 0
    where there is none."""
    ways = {end: (1, 1)}
    for n in range(end - 1, start - 1, -1):
        text, target = instructions[n], _target(instructions[n], labels)
        onward = [n + 1] if target is None or text.startswith("@") else []
        if target is not None and n < target <= end:
            onward.append(target)
        known = [ways[to] for to in onward if to in ways]
        if known:
            ways[n] = 1 + min(low for low, _ in known), 1 + max(high for _, high in known)
    return sum(ways.get(start, (0, 0))) // 2
