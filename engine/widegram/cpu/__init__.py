"""The CPU backend: plans run as vector code on all cores."""

from widegram.cpu.evaluator import CpuEvaluator

__all__ = ["CpuEvaluator"]
