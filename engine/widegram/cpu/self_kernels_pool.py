"""Images against themselves on all cores: runners that share the work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from widegram.backends.own import Own
from widegram.cpu.self_kernels import Array, SelfKernelRunner
from widegram.cpu.together import results
from widegram.plan.formulas import FactorLayout
from widegram.plan.plan import Plan


class SelfKernelPool:
    """Runners as of :mod:`~widegram.cpu.self_kernels`, one to a thread of ``pool``.

    The working memory of all ``count`` of them takes at most ``memory`` bytes, but there is always
    one. What they compute does not depend on their number. Calls must not come from the pool's own
    threads.
    """

    def __init__(
        self, plan: Plan, layout: FactorLayout, outputs: bool, dtype: str,
        pool: ThreadPoolExecutor, threads: int, memory: int,
    ) -> None:  # fmt: skip
        first = SelfKernelRunner(plan, layout, outputs, dtype)
        most = memory // first.nbytes if first.nbytes else threads
        self.count = max(1, min(threads, most))
        self.first, self.pool = first, pool
        self._free: SimpleQueue[SelfKernelRunner] = SimpleQueue()
        for runner in (first, *(first.another() for _ in range(self.count - 1))):
            self._free.put(runner)

    @property
    def pointwise(self) -> bool:
        """Whether images need no planes, but numbers at each pixel."""
        return self.first.pointwise

    def run(self, x: Array) -> Own:
        """Run images ``x`` (n, h, w, C), float64; vectors are (n, 1, 1, D)."""
        own, step = self.first.empty(len(x)), self.first.step
        jobs = [
            self.pool.submit(self._part, x[lo : lo + step], own, lo)
            for lo in range(0, len(x), step)
        ]
        for _ in results(jobs):
            pass
        return own

    def _part(self, x: Array, own: Own, lo: int) -> None:
        runner = self._free.get()
        try:
            runner.fill(x, own, lo)
        finally:
            self._free.put(runner)
