"""Dense float64 NumPy backend: full tensors over all pixel pairs, obviously right, slow."""

from widegram.reference.evaluator import Kernels, ReferenceEvaluator, kernel

__all__ = ["Kernels", "ReferenceEvaluator", "kernel"]
