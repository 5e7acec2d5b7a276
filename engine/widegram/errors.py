"""Errors whose message is meant for the user: one line that says what, where and what to do."""

from __future__ import annotations


class WidegramError(ValueError):
    """Bad input or an impossible request; the command line ends with exit code 2."""

    exit_code = 2


class WriteFailed(WidegramError):
    """The file system refused or lost what was written; the process should end without clean-up."""


class Damaged(WidegramError):
    """A file whose content does not agree with its checksums or its recomputed values."""

    exit_code = 3


class Interrupted(WidegramError):
    """Work stopped by the user after the batch in flight was saved; running it again resumes."""

    exit_code = 130
