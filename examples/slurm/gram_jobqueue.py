"""A Gram matrix whose workers are jobs in Slurm's queue: python gram_jobqueue.py NET DATA OUT.

Runs where it can stay, such as a login node in tmux. Jobs begin as the queue lets them, and join;
those that end at their time limit are replaced; nothing is lost but the tiles in work. Run again,
it resumes.
"""

from __future__ import annotations

import sys

from dask_jobqueue import SLURMCluster

import widegram

JOBS = 16
THREADS = 32


def main(net: str, data: str, out: str) -> None:
    """Write ``out``, the kernels of ``net`` on ``data``."""
    with SLURMCluster(
        cores=THREADS,
        processes=1,
        memory="64GB",
        walltime="02:00:00",
        worker_extra_args=["--lifetime", "110m", "--lifetime-stagger", "5m"],
    ) as cluster:
        cluster.adapt(minimum_jobs=1, maximum_jobs=JOBS)
        result = widegram.gram(net, data, out, dask=cluster.scheduler_address)
    print(f"{out}: {result.entries:,} entries, {result.entries_per_second:,.0f} entries/s")


if __name__ == "__main__":
    main(*sys.argv[1:])
