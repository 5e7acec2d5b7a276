"""Taking the nngp or ntk out of what callers pass as a kernel."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.gramfile import GramFile
from widegram.gramfile.checked import CheckedMatrix
from widegram.linalg.gramsource import open_train
from widegram.machine.budgets import free_memory
from widegram.validation.arrays import plain
from widegram.validation.choices import KERNELS
from widegram.validation.kernel_names import Get, named

Array = NDArray[Any]


def kernel_of(kernel: Any, name: str, argument: str = "the kernel") -> Array:
    """The ``name`` ('nngp' or 'ntk') kernel as an array.

    An array is taken as it is; a Gram file (a path or :class:`GramFile`) is read, in its dtype; of
    anything else the attribute is taken. Raises WidegramError where there is none, naming the
    ``argument`` that was given.
    """
    if isinstance(kernel, (str, Path)):
        with open_train(kernel, name, memory=free_memory() // 16) as train:
            return train.operator.load(train.operator.dtype).T
    if isinstance(kernel, GramFile):
        kernel.require_complete()
        return CheckedMatrix(kernel, name)[:]
    if hasattr(kernel, "shape"):
        return plain(kernel, argument)
    value = getattr(kernel, name, None)
    if value is None:
        raise WidegramError(
            f"{argument} has no {name!r}: pass an array, or a kernel computed with "
            "get=('nngp', 'ntk')"
        )
    return plain(value, argument)


def has_kernel(kernel: Any, name: str) -> bool:
    """Whether a kernel of several has ``name``; an array does not say which one it is."""
    if isinstance(kernel, (str, Path)):
        with GramFile(kernel) as file:
            return name in file.kernels
    if isinstance(kernel, GramFile):
        return name in kernel.kernels
    return getattr(kernel, name, None) is not None


def canonical(get: Get) -> tuple[str, ...]:
    """``get`` as a tuple of lower-case names; None stands for both kernels. Raises as
    :func:`widegram.validation.kernel_names.named`."""
    return KERNELS if get is None else named(get)


def packed(get: Get, values: Mapping[str, Any]) -> Any:
    """The value itself for a single name, else a named tuple ``Gaussians`` in the order asked."""
    if isinstance(get, str):
        return values[get.lower()]
    return _gaussians(tuple(values))(*values.values())


@cache
def _gaussians(names: tuple[str, ...]) -> Callable[..., Any]:
    return namedtuple("Gaussians", names)
