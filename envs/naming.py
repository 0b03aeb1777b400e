"""Answers to unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from envs.contract import EnvError


def unknown(what: str, name: str, known: Iterable[str]) -> EnvError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return EnvError(f"unknown {what} {name!r}; {hint}")
