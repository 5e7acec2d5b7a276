"""Networks with one activation each, for any ``stax``: that of neural-tangents or of widegram.

Imports nothing but the standard library, so that neural-tangents' environment can run it too
(``golden_activations/generate.py``).
"""

from __future__ import annotations

from typing import Any

VECTOR, IMAGE = (5,), (4, 3, 2)
# Name, arguments, and whether neural-tangents knows an input's kernel with itself, which a second
# activation and pools need (its rectified monomials divide by the sine of the angle).
ACTIVATIONS: tuple[tuple[str, tuple[Any, ...], bool], ...] = (
    ("Exp", (), True),
    ("Exp", (-0.7, 0.6), True),
    ("Gaussian", (1.3, -0.4), True),
    ("Gaussian", (0.8, 0.05), True),
    ("Gabor", (), True),
    ("ExpNormalized", (), True),
    ("ExpNormalized", (2.5, 0.2, True), True),
    ("Hermite", (0,), True),
    ("Hermite", (3,), True),
    ("Monomial", (0,), True),
    ("Monomial", (2,), True),
    ("Monomial", (3,), True),
    ("Monomial", (5,), True),
    ("RectifiedMonomial", (0,), False),
    ("RectifiedMonomial", (1,), False),
    ("RectifiedMonomial", (2,), False),
    ("RectifiedMonomial", (3,), False),
    ("Polynomial", ((0.3, -1.0, 0.5, 0.25),), True),
    ("Polynomial", ((1.0, 0.0, -0.3),), True),
)


def functions(xp: Any) -> tuple[tuple[str, tuple[Any, ...], bool], ...]:
    """Functions of the user's, of ``xp``: NumPy, or what takes its place."""

    def cube(x: Any) -> Any:
        return x**3

    def kernel(k: Any, q: Any, q2: Any) -> Any:
        return 6 * k**3 + 9 * k * q * q2

    def wave(x: Any) -> Any:
        return x * xp.sin(x) + xp.exp(0.3 * x)

    return ("Elementwise", (cube, kernel), True), ("ElementwiseNumerical", (wave, 40), True)


def networks(stax: Any, xp: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """The shape of an input, and the triple, of every network by name."""
    found: dict[str, tuple[tuple[int, ...], Any]] = {}
    for name, arguments, at_one in ACTIVATIONS + functions(xp):
        known = [getattr(a, "__name__", str(a).replace(" ", "")) for a in arguments]
        text = "-".join([name, *known])
        for kind, (shape, layers) in _around(stax, name, arguments, at_one).items():
            found[f"{text}/{kind}"] = shape, stax.serial(*layers)
    return found


def _around(stax: Any, name: str, arguments: tuple[Any, ...], at_one: bool) -> dict[str, Any]:
    def act() -> Any:
        return getattr(stax, name)(*arguments)

    def conv(*window: int) -> Any:
        return stax.Conv(1, window, padding="SAME", W_std=0.9, b_std=0.2)

    def dense() -> Any:
        return stax.Dense(1, 0.8, 0.1)

    if not at_one:
        return {
            "vectors": (VECTOR, [dense(), act(), dense()]),
            "flatten": (IMAGE, [conv(3, 2), act(), stax.Flatten(), dense()]),
            "alone": (IMAGE, [stax.Flatten(), stax.Dense(1, 1.1), act()]),
        }
    return {
        "vectors": (VECTOR, [dense(), act(), dense(), act(), dense()]),
        "flatten": (IMAGE, [conv(3, 2), act(), conv(2, 2), act(), stax.Flatten(), dense()]),
        "pool": (IMAGE, [conv(2, 3), act(), conv(3, 3), act(), stax.GlobalAvgPool(), dense()]),
    }
