"""(K + reg I) alpha = Y by the solver asked for, within a byte budget."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from widegram.errors import WidegramError
from widegram.linalg.choose import choose, method_named
from widegram.linalg.definite import ZeroMatrix, relative_shift
from widegram.linalg.methods.method import Choice, Demand, Factorisation
from widegram.linalg.operator import GramOperator
from widegram.linalg.refine import Factor
from widegram.linalg.settings import Resources, SolveOptions
from widegram.linalg.solution import Solution

Array = NDArray[Any]


def absolute_regulariser(operator: GramOperator, diag_reg: float, absolute: bool) -> float:
    """What is added to the diagonal: ``diag_reg``, times trace / n unless ``absolute``.

    Raises WidegramError for a negative value or one that is not finite, and :class:`ZeroMatrix`
    where a relative one adds nothing.
    """
    trace = operator.trace()
    shift = relative_shift(trace, operator.shape[0], diag_reg, absolute)
    if trace == 0.0 and not absolute and operator.frobenius() == 0.0:
        raise ZeroMatrix
    return shift


def solve(
    operator: GramOperator, b: Array, options: SolveOptions, resources: Resources
) -> Solution:
    """Solve A x = b for the operator with its shift; b of shape (n, k).

    The solution's details name the solver's reason under "why". Raises WidegramError when A is
    not positive definite or the solver does not fit in memory.
    """
    choice = chosen(operator, b.shape[1], options, resources)
    method = method_named(choice.method)
    solution = method.solve(operator, b, choice, options, resources)
    solution.details["why"] = choice.reason
    return solution


def chosen(
    operator: GramOperator, k: int, options: SolveOptions, resources: Resources
) -> Choice:
    """The choice that :func:`solve` takes for ``k`` right-hand sides."""
    folder = Path.cwd() if resources.work is None else resources.work.resolve().parent
    free_disk = shutil.disk_usage(folder).free if folder.is_dir() else 0
    demand = Demand(operator.shape[0], k, resources.memory, options.dtype, free_disk)
    return choose(options.method, demand)


def factored(
    operator: GramOperator, k: int, choice: Choice, resources: Resources, *, advise: bool = True
) -> AbstractContextManager[Factor]:
    """A factor of the operator by the solver ``choice``, for ``k`` right-hand sides at a time.

    Raises as :meth:`widegram.linalg.methods.method.Factorisation.factored`, and WidegramError for a
    solver that makes no factor.
    """
    method = method_named(choice.method)
    if not isinstance(method, Factorisation):
        raise WidegramError("this needs a factorisation; take --method cholesky or cholesky-ooc")
    return method.factored(operator, k, choice, resources, advise)
