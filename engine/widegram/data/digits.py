"""The embedded 8 x 8 digits (UCI Machine Learning Repository, CC BY 4.0; see the note beside)."""

from __future__ import annotations

from importlib import resources

import numpy as np

from widegram.data.formats import array_table
from widegram.data.raw import RawData, Split


def open_digits() -> RawData:
    """1797 images (8, 8, 1) of values 0 to 16, with labels 0 to 9 and no split of their own."""
    with (
        resources.files("widegram.data").joinpath("digits.npz").open("rb") as file,
        np.load(file) as arrays,
    ):
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    return RawData("digits", Split(array_table(images[..., np.newaxis], "digits"), labels))
