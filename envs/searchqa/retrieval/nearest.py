"""The best of a FAISS index, in an order that depends on nothing but scores and places."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def nearest(index: Any, queries: Scores, k: int) -> tuple[Scores, Places]:
    """For each query, a row, its k best vectors, best first; of equal scores the earlier vector's.

    FAISS leaves open which of equals it gives, so it is asked for more until none is left out.

    Returns:
        Scores, and the vectors' places in the index; -1 where an approximate index found fewer.
    """
    asked = k + 1
    scores, places = index.search(queries, asked)
    while _parts_equals(scores, places, k) and asked < index.ntotal:
        asked *= 2
        scores, places = index.search(queries, asked)
    best = np.lexsort((places, -scores))[:, :k]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(places, best, axis=1)


def _parts_equals(scores: Scores, places: Places, k: int) -> bool:
    """Whether what was not asked for could score as much as the k-th."""
    return bool(((scores[:, -1] == scores[:, k - 1]) & (places[:, -1] >= 0)).any())
