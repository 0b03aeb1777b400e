"""A retriever that remembers its last answers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from stepcredit.envs.searchqa.retrieval.contract import Hit, Retriever


class CachedRetriever:
    """Answers as the inner retriever does, and asks it once for a query that comes again soon.

    Args:
        size: how many answers are kept; the one that was not asked for longest goes first.
    """

    def __init__(self, inner: Retriever, size: int = 65_536) -> None:
        self._inner = inner
        self._size = size
        self._answers: OrderedDict[tuple[str, int], tuple[Hit, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`. What is not remembered is asked for in one call, each distinct query once."""
        known = self._recall(queries, k)
        missing = [query for query in dict.fromkeys(queries) if query not in known]
        if missing:
            found = self._inner.search(missing, k)
            known.update((query, tuple(hits)) for query, hits in zip(missing, found, strict=True))
            self._remember(missing, k, known)
        return [list(known[query]) for query in queries]

    @property
    def info(self) -> Mapping[str, str]:
        """See `Retriever`: that of the inner one, whose answers these are."""
        return self._inner.info

    def _recall(self, queries: Sequence[str], k: int) -> dict[str, tuple[Hit, ...]]:
        known = {}
        with self._lock:
            for query in queries:
                hits = self._answers.get((query, k))
                if hits is not None:
                    self._answers.move_to_end((query, k))
                    known[query] = hits
        return known

    def _remember(self, queries: Sequence[str], k: int, answers: Mapping[str, tuple[Hit, ...]]) -> None:
        with self._lock:
            for query in queries:
                self._answers[query, k] = answers[query]
                self._answers.move_to_end((query, k))
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)
