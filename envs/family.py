"""What the command line must know of a benchmark before it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stepcredit.envs.contract import Benchmark


@dataclass(frozen=True, slots=True)
class Suite:
    """A variant of a benchmark, and the room that its episodes need.

    Attributes:
        max_turns: turns after which an episode ends.
        max_context_tokens: tokens of transcript that so many turns need at least.
        max_observation_tokens: tokens that an observation needs at least where policies cut it; None where none do.
        variables: environment variables that lead to its data, one of which must be set; empty where it is generated.
    """

    max_turns: int
    max_context_tokens: int
    max_observation_tokens: int | None = None
    variables: tuple[str, ...] = ()


class Copies(StrEnum):
    """How an episode of a benchmark is copied."""

    CLONE = "clone"
    """Its environments have `clone`."""
    REPLAY = "replay"
    """They have not: a copy is a fresh episode that takes the same actions again, which costs their time."""


@dataclass(frozen=True, slots=True)
class Family:
    """A benchmark in all its variants.

    Attributes:
        load: the benchmark of a suite with options.
        complete: options, as JSON values, with defaults for whatever is left open.
        suites: by name; the first is the default.
        held_out: split that is evaluated where nothing else is said.
        closed_book: whether its tasks are questions that can be asked without the environment.
        copies: how its episodes are copied.
        study: ending of the folders that `stepcredit reproduce` writes and compares with; None takes `-` and the name.
    """

    load: Callable[[str, Mapping[str, Any]], Benchmark]
    complete: Callable[[Mapping[str, Any]], dict[str, Any]]
    suites: Mapping[str, Suite]
    held_out: str = "test"
    closed_book: bool = False
    study: str | None = None
    copies: Copies = Copies.CLONE

    @property
    def default_suite(self) -> str:
        """The suite where none is asked for."""
        return next(iter(self.suites))
