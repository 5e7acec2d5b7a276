"""The CUDA backend: the same plans as source text for numba-cuda."""
