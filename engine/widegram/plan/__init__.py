"""From a network to programs of plane operations.

:mod:`operations` says what an operation is, :mod:`graph` makes them of a network's layers,
:mod:`scales` keeps their values in range, :mod:`needs` walks back which displacements each is
needed at, :mod:`groups` cuts the graph where displacements mix, :mod:`program` writes each group's
steps, and :mod:`plan` puts them together with their cost.
"""

from widegram.plan.plan import Plan, build

__all__ = ["Plan", "build"]
