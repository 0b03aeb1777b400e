"""Answers to unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from stepcredit.envs.contract import EnvError

_SHOWN = 8


def unknown(what: str, name: str, known: Iterable[str]) -> EnvError:
    """The error for a name that is not among the known ones, with the nearest of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return EnvError(f"unknown {what} {name!r}; did you mean {near[0]!r}?")
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return EnvError(f"unknown {what} {name!r}; known: {', '.join(names[:_SHOWN])}{more}")
