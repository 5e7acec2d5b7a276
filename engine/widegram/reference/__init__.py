"""Dense float64 NumPy backend: full tensors over all pixel pairs, obviously right, slow."""

from widegram.reference.evaluator import DenseKernels, ReferenceEvaluator, kernel

__all__ = ["DenseKernels", "ReferenceEvaluator", "kernel"]
