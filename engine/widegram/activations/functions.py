"""Functions of the user's as activations, known again by a digest of their values.

No file can hold a function of Python's. A network that has one is written with a digest of what it
gives at many places; whoever goes on with the file must have the function itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from widegram.activations.base import Array
from widegram.activations.piecewise import Pieces
from widegram.errors import WidegramError, of_the_user, shown

# Where a function is asked for its fingerprint: its values there count to ten digits, so that the
# last bits of another machine's arithmetic do not matter.
_FAR = np.logspace(-6, 2, 41)
SAMPLES = np.concatenate([np.linspace(-12, 12, 481), -_FAR, _FAR])
_DIGITS = 10
_NEAR = 4.0
_PROBE = np.array([-0.7, 0.3, 1.6])


class Function(str):
    """phi and phi' of arrays of any shape, float64; as a text the digest of their values, by which
    two of them are equal."""

    __slots__ = ("phi", "slope")
    phi: Callable[[Array], Array]
    slope: Callable[[Array], Array]

    def __new__(
        cls, text: str, phi: Callable[[Array], Array], slope: Callable[[Array], Array]
    ) -> Function:
        """Use :func:`function`."""
        made = super().__new__(cls, text)
        made.phi, made.slope = phi, slope
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies."""
        return str(self), self.phi, self.slope


def function(
    fn: Any, df: Any = None, layer: str = "Elementwise", names: tuple[str, str] = ("fn", "df")
) -> Function:
    """The function ``fn`` of a number or of an array, with its derivative ``df``, else that of its
    Chebyshev series; ``layer`` and ``names`` of both for messages.

    Raises WidegramError for what is no function, and for one that fails, computes in float32 or
    gives something else than numbers.
    """
    digest = hashlib.sha256()
    given = (fn,) if df is None else (fn, df)
    parts = [_Called(one, name) for one, name in zip(given, names, strict=False)]
    pieces = []
    for part in parts:
        values = part(SAMPLES)
        good = np.isfinite(values)
        near = np.abs(SAMPLES) <= _NEAR
        if not good[near].all():
            where = SAMPLES[near & ~good][0]
            raise WidegramError(f"{part.what} is no finite number at {where:.6g}")
        rounded = np.round(np.arcsinh(np.where(good, values, 0.0)), _DIGITS) + 0.0
        digest.update(rounded.tobytes() + good.tobytes())
        pieces.append(Pieces(part, f"{layer}: {part.what}", float(np.abs(values[near]).max())))
    slope = pieces[0].slope if df is None else pieces[1].value
    return Function(digest.hexdigest()[:32], pieces[0].value, slope)


def known_function(value: Any) -> Function:
    """What a network may have as a function; raises a ValueError that says what is wrong."""
    if isinstance(value, Function):
        return value
    if isinstance(value, str):
        raise ValueError(
            f"is a function of Python's (its values have the digest {shown(value)}), which no file "
            "holds; give the network that has it, made with widegram.stax.Elementwise"
        )
    try:
        return function(value)
    except WidegramError as error:
        raise ValueError(str(error).removeprefix("fn ")) from None


class _Called:
    """A function of the user's, ``what`` for messages, for arrays."""

    def __init__(self, fn: Any, what: str) -> None:
        if not callable(fn):
            raise WidegramError(f"{what} must be a function, found {shown(fn)}")
        self.fn, self.what = fn, what
        each = np.array([self._number(self._try(float(x))) for x in _PROBE])
        try:
            together = self._try(_PROBE)
            self.takes_arrays = np.shape(together) == _PROBE.shape and bool(
                np.allclose(together, each, rtol=1e-12, atol=1e-12, equal_nan=True)
            )
        except WidegramError:
            self.takes_arrays = False

    def __call__(self, x: Array) -> Array:
        x = np.asarray(x, dtype=np.float64)
        if self.takes_arrays:
            return np.array(self._try(x), dtype=np.float64)
        flat = [self._number(self._try(float(v))) for v in x.ravel()]
        return np.array(flat, dtype=np.float64).reshape(x.shape)

    def _try(self, x: Any) -> Any:
        with of_the_user(f"{self.what} fails"), np.errstate(all="ignore"):
            found = np.asarray(self.fn(x))
        if found.dtype in (np.float16, np.float32):
            raise WidegramError(
                f"{self.what} gives {found.dtype}, of too few digits; let it compute in float64 "
                "(of JAX: jax_enable_x64)"
            )
        if found.dtype.kind not in "fiub":
            raise WidegramError(f"{self.what} must give a number, found {found.dtype}")
        return found

    def _number(self, value: Any) -> float:
        if np.size(value) != 1:
            raise WidegramError(f"{self.what} must give a number for a number")
        return float(np.reshape(value, ()))
