"""The polynomial that compiled backends use in place of inverse cosines and sines.

    ARC(x) = acos(x) / (pi sqrt(1 - x^2)),  x in [0, 1]

gives acos(c) / pi = sqrt(1 - c^2) ARC(c) and asin(z) / pi = z ARC(sqrt(1 - z^2)). It is analytic on
[0, 1] (the nearest singularity is x = -1), so interpolation at Chebyshev nodes is near-minimax; the
fits were made in 50-digit arithmetic (``bench/widegram_bench/polynomials.py`` makes them again).
Largest relative errors: float32 7.8e-8, float64 2.1e-16. Coefficients run from the constant term
up.
"""

from __future__ import annotations

ARC = {
    "float32": (
        0.49999996125979934173,
        -0.31830357397439890128,
        0.24982672798110624668,
        -0.21032600076606337758,
        0.17690038754533689682,
        -0.13429357807112385511,
        0.079617746944684026461,
        -0.030582037604435015702,
        0.0054702729075210690423,
    ),
    "float64": (
        0.49999999999999989874,
        -0.31830988618370956785,
        0.24999999998914772201,
        -0.21220659020983213684,
        0.18749998355174736377,
        -0.16976498556177422157,
        0.15624664085221169899,
        -0.14548518851940392824,
        0.136547529059590983,
        -0.12854579001046720618,
        0.12014603234724430452,
        -0.10925202212849446699,
        0.093548855285596589399,
        -0.072294019640670727034,
        0.048084612503723878485,
        -0.026173482255578502237,
        0.011014812726138191267,
        -0.0033249743355411314747,
        0.00063597767109936736628,
        -0.000057618957237489081457,
    ),
}
