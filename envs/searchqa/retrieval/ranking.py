"""The inner loop of BM25: add up the terms' postings, keep the best passages."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from stepcredit.envs import places
from stepcredit.envs.notice import say_once

Ranking = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Passages' positions, best first, and their scores."""

Rank = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], int, int], Ranking]
"""From terms (int64), the index's indptr, indices and data, the number of passages and k to a ranking.

Scores are added in the order of the terms, in float64, and compared as float32, as Lucene does; of two equal ones the
earlier passage comes first. Passages that hold none of the terms are not ranked.
"""


def rank_with_numpy(
    terms: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float32],
    passages: int,
    k: int,
) -> Ranking:
    """See `Rank`."""
    sums = np.zeros(passages)
    for term in terms:
        span = slice(indptr[term], indptr[term + 1])
        sums[indices[span]] += data[span]
    found = np.flatnonzero(sums)
    scores = sums[found].astype(np.float32)
    best = np.lexsort((found, -scores))[:k]
    return found[best], scores[best]


def _rank(
    terms: npt.NDArray[np.int64],
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    data: npt.NDArray[np.float32],
    passages: int,
    k: int,
) -> Ranking:
    sums = np.zeros(passages)
    for term in terms:
        for posting in range(indptr[term], indptr[term + 1]):
            sums[indices[posting]] += data[posting]
    positions = np.empty(k, np.int64)
    scores = np.zeros(k, np.float32)
    kept = 0
    for position in range(passages):
        score = np.float32(sums[position])
        if score > scores[k - 1]:
            place = min(kept, k - 1)
            while place > 0 and scores[place - 1] < score:
                scores[place], positions[place] = scores[place - 1], positions[place - 1]
                place -= 1
            scores[place], positions[place] = score, position
            kept = min(kept + 1, k)
    return positions[:kept], scores[:kept]


def _fastest() -> Rank:
    if find_spec("numba") is None:
        return rank_with_numpy
    places.settle(os.environ)
    try:
        from numba import njit
    except ImportError as error:
        say_once(f"numba is here but broken ({error}), so searching is slower")
        return rank_with_numpy
    compiled: Rank
    try:
        compiled = njit(nogil=True, cache=True)(_rank)
    except RuntimeError:  # no place for its cache
        compiled = njit(nogil=True)(_rank)
    return compiled


rank = _fastest()
"""The fastest at hand. Compiled once on a machine; later processes load it from numba's cache."""
