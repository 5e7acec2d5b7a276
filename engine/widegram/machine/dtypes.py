"""The two kinds of numbers that everything is computed in, and what each of them resolves."""

from __future__ import annotations

# Bytes of a number.
ITEMSIZE = {"float32": 4, "float64": 8}

# Standard deviations are floored so that zero patches give limit values instead of 0/0: the
# product of two floors must stay a normal number of the dtype.
FLOOR = {"float32": 1e-18, "float64": 1e-150}

# c = 1 to rounding must give angle 0: rounding of k and of the standard deviations moves c by
# about one resolution, and acos would turn that into its square root.
SNAP = {"float32": 2.0**-22, "float64": 2.0**-50}
