"""Kernels from kernels: sums and products of Gram files of the same inputs."""

from __future__ import annotations

from widegram.combining.combination import combine

__all__ = ["combine"]
