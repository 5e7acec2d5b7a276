"""Predictions of infinitely wide networks, with the functions and meaning of neural-tangents.

``gp_inference``, ``gradient_descent``, ``gradient_descent_mse``, ``gradient_descent_mse_ensemble``
and ``max_learning_rate`` take and return what ``neural_tangents.predict`` does, on NumPy arrays;
the training matrix may also be a Gram file. Streamed predictions from files are in
:mod:`widegram.predict.predicting`.
"""

from __future__ import annotations

from widegram.predict.any_loss import ODEState, gradient_descent
from widegram.predict.descent import gradient_descent_mse
from widegram.predict.ensemble import gradient_descent_mse_ensemble
from widegram.predict.posterior import Gaussian, gp_inference
from widegram.predict.rates import max_learning_rate

__all__ = [
    "Gaussian",
    "ODEState",
    "gp_inference",
    "gradient_descent",
    "gradient_descent_mse",
    "gradient_descent_mse_ensemble",
    "max_learning_rate",
]
