"""What is known of a value between two layers, and the rules that ask for it."""

from __future__ import annotations

from dataclasses import dataclass

from widegram.errors import WidegramError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class State:
    """What is known between two layers.

    * ``shape``: (H, W) of an image, (L,) of a sequence, () of a vector
    * ``lost_at``: the path of what made the values non-Gaussian, None where they are Gaussian
    * ``affine``: whether values have gone through a Dense or Conv
    * ``axes``: which axes of the inputs those of ``shape`` are
    * ``channels``: their number, None where the layer ``unsaid_at`` does not say it
    """

    shape: Shape
    lost_at: str | None
    affine: bool
    axes: tuple[int, ...]
    channels: int | None
    unsaid_at: str = ""


def require_gaussian(state: State, path: str, note: str, what: str) -> None:
    """Refuse a value that is not Gaussian; ``path`` and ``note`` name the layer that asks, ``what``
    the value."""
    if state.lost_at is not None:
        raise WidegramError(
            f"{path}{note}: {what} must be Gaussian, but comes from {state.lost_at} with no "
            "Dense or Conv layer since; put a Dense or Conv layer in between"
        )


def shown(shape: Shape) -> str:
    """A spatial shape as messages write it."""
    return " x ".join(map(str, shape)) if shape else "a vector"
