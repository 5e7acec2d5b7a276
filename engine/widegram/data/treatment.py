"""What is done to every input: learnt from training inputs, kept in a file, done to new ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from widegram.data.selecting import Selection, input_shape
from widegram.data.statistics import CENTRED, Scaling, check_held, measure, narrowed, normalized
from widegram.data.zca import Zca, check_zca_room, learn_zca, zca_block
from widegram.errors import WidegramError, shown
from widegram.validation.choices import NORMALIZATIONS

if TYPE_CHECKING:
    from widegram.durable.sealed import SealedFile

Array = NDArray[Any]
GROUP = "statistics"
_SCALING = ("exponent", "scaled_mean", "scaled_std")
_ZCA = ("zca_mean", "zca_eigenvalues", "zca_matrix")
_MOST_IN_ATTRIBUTE = 4096  # numbers; HDF5 holds 64 KiB of attributes


@dataclass(frozen=True)
class Treatment:
    """What happens to an input: it is normalized, then whitened where there is ``zca``.

    * ``shape``: of an input, (D,) or (H, W, C)
    * ``normalize``: a row of ``validation.choices.NORMALIZATIONS``
    * ``scaling``: statistics per channel of images or feature of vectors, one for all with
      'global'; they are learnt whether ``normalize`` uses them or not
    * ``rows``: how many training inputs it was learnt from
    """

    shape: tuple[int, ...]
    normalize: str
    scaling: Scaling
    zca: Zca | None
    rows: int

    def apply(self, rows: Array, numbers: Array, name: str) -> Array:
        """Finite rows (n, *shape) treated, in float32; each depends on its own numbers alone.

        ``numbers`` are those of the rows in the source ``name``. Raises :class:`WidegramError` for
        a row that float32 cannot hold.
        """
        made = normalized(rows, self.normalize, self.scaling)
        made = made if self.zca is None else self.zca.apply(made)
        held = narrowed(made)
        check_held(held, rows, numbers, name, self._remedy())
        return held

    def _remedy(self) -> str:
        if self.zca is not None:
            return "use a larger --zca"
        if self.normalize == "none":
            return "use --normalize standardize or unit-norm"
        return "its feature hardly varies in training inputs: remove it, or use --normalize none"

    def datasets(self) -> dict[str, Array]:
        """What a file keeps of it, by the names of datasets."""
        found: dict[str, Array] = {name: getattr(self.scaling, name) for name in _SCALING}
        if self.zca is not None:
            found |= {name: getattr(self.zca, name.removeprefix("zca_")) for name in _ZCA}
        return {f"{GROUP}/{name}": value for name, value in found.items()}

    def statistics(self) -> dict[str, Any]:
        """What a file keeps of it as attributes of its root; mean and std are of raw inputs."""
        found: dict[str, Any] = {
            "input_shape": np.array(self.shape),
            "statistics_rows": self.rows,
        }
        if self.scaling.mean.size <= _MOST_IN_ATTRIBUTE:
            found |= {"mean": self.scaling.mean, "std": self.scaling.std}
        return found

    def summary(self) -> dict[str, Any]:
        """Attributes of every file whose inputs it was done to."""
        found = {"normalize": self.normalize, "treatment": self.described()}
        if self.zca is None:
            return found
        return found | {"zca": self.zca.eps, "zca_regulariser": self.zca.regulariser}

    def described(self) -> str:
        """What is done, in one line."""
        steps = [] if self.normalize == "none" else [self.normalize]
        if self.zca is not None:
            steps.append(f"zca {self.zca.eps:g} (regulariser {self.zca.regulariser:.4g})")
        learnt = f" with statistics of {self.rows} training inputs"
        uses = self.zca is not None or self.normalize in CENTRED
        return (", ".join(steps) or "converted to float32") + (learnt if uses else "")


def learn(part: Selection, normalize: str, eps: float | None, block: int) -> Treatment:
    """The treatment that training inputs ask for; ``eps`` is that of ZCA.

    Inputs are read block by block of at most ``block`` bytes: three times for what is subtracted
    and divided by, and once for ZCA. Raises WidegramError as :func:`~widegram.data.zca.learn_zca`.
    """
    part = part.ascending()
    x = part.split.x
    shape = input_shape(x)
    channels = 1 if normalize == "global" else shape[-1]
    scaling = measure(lambda: part.blocks(block), channels, x.dtype)
    zca = None
    if eps is not None:
        features = int(np.prod(shape))
        raw = part.blocks(zca_block(features))
        rows = (normalized(block, normalize, scaling) for block in raw)
        zca = learn_zca(rows, features, eps, x.name)
    return Treatment(shape, normalize, scaling, zca, len(part.indices))


def stored(file: SealedFile, memory: str | int | None) -> Treatment:
    """The treatment that a file of ``data prepare`` keeps.

    Raises :class:`WidegramError` where it keeps none, or one that needs more than ``memory``,
    KeyError, TypeError or ValueError for values that are none of a treatment's.
    """
    attributes = file.attributes
    if any(f"{GROUP}/{name}" not in file for name in _SCALING):
        raise WidegramError(
            f"{file.path}: holds no statistics to apply; give a file that `widegram data prepare` "
            "wrote (one of an older version: prepare it again)"
        )
    shape = tuple(map(int, np.atleast_1d(attributes["input_shape"]).tolist()))
    normalize, features = attributes["normalize"], math.prod(shape)
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize is {shown(normalize)}")
    channels = 1 if normalize == "global" else shape[-1]
    sizes: dict[str, tuple[int, ...]] = dict.fromkeys(_SCALING, (channels,))
    if "zca" in attributes:
        check_zca_room(features, memory, learning=False)
        sizes |= {"zca_mean": (features,), "zca_eigenvalues": (features,)}
        sizes["zca_matrix"] = (features, features)
    arrays = {name: file.array(f"{GROUP}/{name}") for name in sizes}
    for name, size in sizes.items():
        if arrays[name].shape != size:
            raise ValueError(f"/{GROUP}/{name} has shape {arrays[name].shape}, not {size}")
    zca = None
    if "zca" in attributes:
        zca = Zca(
            float(attributes["zca"]),
            float(attributes["zca_regulariser"]),
            *(arrays[name] for name in _ZCA),
        )
    return Treatment(
        shape,
        normalize,
        Scaling(*(arrays[name] for name in _SCALING)),
        zca,
        int(attributes["statistics_rows"]),
    )
