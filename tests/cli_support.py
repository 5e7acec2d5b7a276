"""Running the command line inside a test."""

from __future__ import annotations

import json
import re
from typing import Any

from click.testing import CliRunner, Result

from widegram_cli.main import program


def run(*args: object) -> Result:
    """Run in this process; stdout and stderr are captured apart."""
    return CliRunner().invoke(program, [str(arg) for arg in args])


def run_json(*args: object) -> dict[str, Any]:
    """Run with --json; stdout must be exactly one JSON object, and the exit code 0."""
    result = run(*args, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    values = json.loads(result.stdout)
    assert isinstance(values, dict)
    return values


def refused(message: str, *args: object, code: int = 2) -> str:
    """Run what must fail with one line on stderr that matches ``message``; returns the line."""
    result = run(*args)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("widegram: error: ")
    assert re.search(message, result.stderr), result.stderr
    return result.stderr
