"""Subset of regressors: n x M in place of n x n, by kernels of n rows and M centers.

The kernel is replaced by Q(x, x') = k(x, C) (K_CC + jitter I)^-1 k(C, x'): as a Gaussian process
that is the deterministic training conditional (DTC) of Quinonero-Candela and Rasmussen ("A unifying
view of sparse approximate Gaussian process regression", JMLR 6, 2005, section 5), as a solver the
Nystroem method. With K_CC + jitter I = L L^T and Phi = K_nC L^-T all of it is ridge regression on
the rows of Phi, whose M x M normal equations one pass over the file builds; their eigenvectors
serve every regulariser, and with a second pass its leave-one-out errors.
"""
