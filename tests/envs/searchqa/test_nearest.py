"""The best of an index, against sorting all of it: whole numbers, so that many scores are equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.searchqa.retrieval.nearest import nearest

faiss = pytest.importorskip("faiss", reason="FAISS is not installed")


def whole_numbers(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (rows, 3)).astype(np.float32)


@settings(deadline=None)
@given(seed=st.integers(0, 99), size=st.integers(1, 60), queries=st.integers(1, 30), data=st.data())
def test_of_equal_scores_the_earlier_vectors_come_first(
    seed: int, size: int, queries: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, size))
    vectors, asked = whole_numbers(seed, size), whole_numbers(seed + 100, queries)
    index = faiss.IndexFlatIP(3)
    index.add(vectors)
    scores, places = nearest(index, asked, k)
    expected = asked @ vectors.T
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, order, axis=1))


def test_what_an_approximate_index_does_not_find_comes_last() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    index = faiss.index_factory(3, "IVF3,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    _, places = nearest(index, np.eye(3, dtype=np.float32), 6)
    np.testing.assert_array_equal(places, [[0, 1, 2, 3, -1, -1], [4, 5, 6, 7, -1, -1], [8, 9, 10, 11, -1, -1]])
