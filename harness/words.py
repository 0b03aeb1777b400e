"""Words of the command line: names as people type them, and counts as people read them."""

from __future__ import annotations

from collections.abc import Iterable

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
