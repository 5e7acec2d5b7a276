"""scikit-learn estimators with kernels of infinitely wide networks."""

from widegram.sklearn.estimators import WidegramClassifier, WidegramRegressor

__all__ = ["WidegramClassifier", "WidegramRegressor"]
