"""The console script: safe streams and signals first, then everything else."""

from __future__ import annotations

from widegram_cli import running, streams, threads


def main() -> None:
    """Run ``widegram`` and end the process."""
    streams.secure()
    guard = running.Guard()
    guard.listen()
    threads.prepare()
    running.end(running.run(_program, guard))


def _program() -> int:
    from widegram_cli.main import run

    return run()
