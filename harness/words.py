"""Words of the command line: names as people type them, and counts as people read them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from stepcredit.harness.errors import UserError
from stepcredit.paper.words import counted as counted


def folded(name: str) -> str:
    """A name without case and without what stands between its words: `StepOPSD`, `step-opsd` and `stepopsd` are one."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def spelled(name: str, known: Iterable[str]) -> str | None:
    """The known name that is meant: the same letters, else the only one that is the same once folded, else None."""
    names = list(known)
    if name in names:
        return name
    alike = [other for other in names if folded(other) == folded(name)]
    return alike[0] if len(alike) == 1 else None


def one_of(kind: str, name: str, known: Iterable[str]) -> str:
    """The known name that is meant, whatever its case and spelling.

    Raises:
        UserError: it is not known; suggests the nearest.
    """
    names = list(known)
    found = spelled(name, names)
    if found is not None:
        return found
    raise UserError(f"unknown {kind} {name!r}: {_suggestion(name, names)}known are {', '.join(names)}")


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
