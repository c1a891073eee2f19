"""The one exception that the package raises for a mistake of its user."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An input that cannot be used. The message is one line: the mistake, then its mend.

    The command line prints it without a traceback and exits with status 2.
    """


def first_line(error: Exception) -> str:
    """What another's error says first, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(":")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones; it offers the nearest."""
    choices = sorted(known)
    near = difflib.get_close_matches(name.lower(), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return InputError(f"unknown {kind} {name!r}: {hint}known are {', '.join(choices)}")
