"""widegram: NNGP and NTK Gram matrices of infinitely wide networks."""

__version__ = "0.1.0"
