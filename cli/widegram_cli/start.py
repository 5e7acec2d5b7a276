"""The console script: signals and safe streams first, then everything else."""

from __future__ import annotations

from widegram_cli import running


def main() -> None:
    """Run ``widegram`` and end the process."""
    guard = running.Guard()
    guard.listen()
    from widegram_cli import streams, threads

    streams.secure()
    threads.prepare()
    running.end(running.run(_program, guard))


def _program() -> int:
    from widegram_cli.main import run

    return run()
