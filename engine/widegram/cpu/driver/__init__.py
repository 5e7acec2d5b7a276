"""The middle floor: integer arithmetic that Numba translates, and its way into plane kernels."""
