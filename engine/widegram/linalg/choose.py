"""Which solver is taken, from n, memory and dtype, and why."""

from __future__ import annotations

from importlib import import_module

from widegram.errors import WidegramError
from widegram.linalg.methods.method import Choice, Demand, Method
from widegram.validation.choices import METHODS, SOLVERS


def method_named(name: str) -> Method:
    """The solver of that name; its module is imported now."""
    method: Method = import_module(SOLVERS[name].module).METHOD
    return method


def choose(method: str, demand: Demand) -> Choice:
    """The solver to use and how; 'auto' takes the first of the table that can.

    Raises WidegramError for one that does not fit in the budget, naming one that does.
    """
    if method not in METHODS:
        raise WidegramError(f"no method {method!r}; choose from {', '.join(METHODS)}")
    asked = method != "auto"
    for name in (method,) if asked else SOLVERS:
        found = method_named(name).choice(demand, asked)
        if found is not None:
            return found
    raise AssertionError("the last solver of the table refuses what it cannot hold")
