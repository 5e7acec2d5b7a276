"""Predictions of infinitely wide networks, with the functions and meaning of neural-tangents.

``gp_inference``, ``gradient_descent``, ``gradient_descent_mse``, ``gradient_descent_mse_ensemble``
and ``max_learning_rate`` take and return what ``neural_tangents.predict`` does, on NumPy arrays;
the training matrix may also be a Gram file.

The module itself is called as the command `widegram predict` is, on files, and streams them:
``widegram.predict("A.h5", "Kc.h5", y="d.h5:test/y").accuracy``. Its keywords are the fields of
:class:`PredictJob`, and it gives a :class:`PredictResult`.
"""

from __future__ import annotations

import sys

from widegram.predict.any_loss import ODEState, gradient_descent
from widegram.predict.called import Called
from widegram.predict.descent import gradient_descent_mse
from widegram.predict.ensemble import gradient_descent_mse_ensemble
from widegram.predict.merit import PredictResult
from widegram.predict.posterior import Gaussian, gp_inference
from widegram.predict.predicting import PredictJob
from widegram.predict.rates import max_learning_rate

__all__ = [
    "Gaussian",
    "ODEState",
    "PredictJob",
    "PredictResult",
    "gp_inference",
    "gradient_descent",
    "gradient_descent_mse",
    "gradient_descent_mse_ensemble",
    "max_learning_rate",
]

sys.modules[__name__].__class__ = Called
