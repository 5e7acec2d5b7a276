"""scikit-learn estimators with kernels of infinitely wide networks."""

from widegram.sklearn.estimators import WidegramClassifier, WidegramRegressor
from widegram.sklearn.gaussian import GaussianProcessClassifier, GaussianProcessRegressor
from widegram.sklearn.network_kernel import NetworkKernel

__all__ = [
    "GaussianProcessClassifier",
    "GaussianProcessRegressor",
    "NetworkKernel",
    "WidegramClassifier",
    "WidegramRegressor",
]
