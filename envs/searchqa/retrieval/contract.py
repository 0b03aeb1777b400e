"""What a retriever promises to whoever searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Passage


class RetrievalError(EnvError):
    """A retriever cannot answer: one sentence that says which, why and what to do. It ends the run, not an episode."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, and the engine's score of it."""

    passage: Passage
    score: float


class Retriever(Protocol):
    """Finds passages. Equal queries get equal answers, in any batch and from any thread."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """At most k hits per query, best first; an empty query, or one of stop words alone, has none.

        Raises:
            RetrievalError: the engine cannot answer.
        """
        ...

    @property
    def info(self) -> Mapping[str, str]:
        """What determines the answers: engine, its parameters, `corpus_sha256`. Goes into a run's manifest."""
        ...
