"""Solvers on Gram matrices: operators, factorisations, iterations, spectra."""
