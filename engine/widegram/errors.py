"""Errors whose message is meant for the user: one line that says what, where and what to do."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

# Bytes of a message in UTF-8. What exceeds it loses its middle: the place stands at the beginning
# and the way out at the end.
LONGEST = 900
_LONGEST_VALUE = 100


def reason(error: BaseException, named: bool = False) -> str:
    """What an error says, its line ends as spaces; the name of its class where it says nothing,
    and before it with ``named``."""
    said = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {said}" if named and said else said or kind


def one_line(message: object, longest: int = LONGEST) -> str:
    """A message as one printable line of at most ``longest`` bytes in UTF-8.

    Control characters, line ends, bytes that are no text (lone surrogates) and what reorders text
    are written as escapes, so that a hostile name can neither forge a line nor move the cursor.
    """
    text = str(message)
    # Longer texts are cut before they are looked at one character at a time.
    if len(text) > 4 * longest:
        text = _cut(text, 2 * longest)
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    while len(safe.encode()) > longest:
        over = len(safe.encode()) - longest
        safe = _cut(safe, max(len(safe) - over - 40, 80))
    return safe


def _cut(text: str, length: int) -> str:
    """The first two thirds and the last third of ``length`` characters."""
    tail = length // 3
    return f"{text[: length - tail]} [...] {text[-tail:]}"


class _Short(reprlib.Repr):
    """``repr`` that neither recurses deeply nor writes out what is large."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxarray = 10
        self.maxstring = self.maxother = self.maxlong = _LONGEST_VALUE

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write integers of many digits, and takes long over those it writes.
        digits = int(abs(x).bit_length() * 0.30103) + 1
        return repr(x) if digits <= 40 else f"an integer of about {digits:,} digits"


_short = _Short()


def shown(value: object) -> str:
    """``repr(value)``, shortened where it is long or deep: for messages."""
    text = _short.repr(value)
    return text if len(text) <= 2 * _LONGEST_VALUE else _cut(text, 2 * _LONGEST_VALUE)


class WidegramError(ValueError):
    """Bad input or an impossible request; the command line ends with exit code 2.

    Its text is one printable line of bounded length, whatever the values that it quotes.
    """

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


@contextmanager
def of_the_user(what: str) -> Iterator[None]:
    """Errors of a function of the user's, which may raise anything, as a :class:`WidegramError`
    that says ``what`` fails, and why."""
    try:
        yield
    except Exception as error:  # The function is the user's: it may raise anything.
        raise WidegramError(f"{what}: {reason(error, named=True)}") from None


class WriteFailed(WidegramError):
    """The file system refused or lost what was written; the process should end without clean-up."""


class OutOfRange(WidegramError):
    """A value that the dtype cannot hold: an overflow, or an underflow of what is not 0."""


class Damaged(WidegramError):
    """A file whose content does not agree with its checksums or its recomputed values."""

    exit_code = 3


class Interrupted(WidegramError):
    """Work stopped by the user after the batch in flight was saved; running it again resumes."""

    exit_code = 130
