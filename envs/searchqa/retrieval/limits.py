"""What every local engine asks of a search."""

from __future__ import annotations

from stepcredit.envs.searchqa.retrieval.contract import RetrievalError


def hits_wanted(k: int, passages: int) -> int:
    """How many hits a query can have: k, but no more than there are passages.

    Raises:
        RetrievalError: k is below 1.
    """
    if k < 1:
        raise RetrievalError(f"a search was asked for {k} passages; ask for at least 1")
    return min(k, passages)
