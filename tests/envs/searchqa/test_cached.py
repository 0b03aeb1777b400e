"""The cache in front of a retriever: same answers, fewer questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.searchqa.corpus import Passage
from stepcredit.envs.searchqa.retrieval.cached import CachedRetriever
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError

calls = st.lists(st.tuples(st.lists(st.sampled_from("abcd"), max_size=4), st.integers(1, 2)), max_size=8)


class Recorder:
    """Answers from the query alone, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []
        self.broken = False

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self.broken:
            raise RetrievalError("the engine is gone")
        self.asked.append((list(queries), k))
        return [[Hit(Passage(f"{query}{rank}", query, ""), float(k - rank)) for rank in range(k)] for query in queries]

    @property
    def info(self) -> Mapping[str, str]:
        return {"engine": "recorder"}


@given(calls, st.integers(0, 5))
def test_answers_are_the_inner_ones(calls: list[tuple[list[str], int]], size: int) -> None:
    cached, plain = CachedRetriever(Recorder(), size), Recorder()
    for queries, k in calls:
        assert cached.search(queries, k) == plain.search(queries, k)


@given(calls)
def test_nothing_is_asked_twice_while_there_is_room(calls: list[tuple[list[str], int]]) -> None:
    inner = Recorder()
    cached = CachedRetriever(inner, 100)
    for queries, k in calls:
        cached.search(queries, k)
    asked = [(query, k) for queries, k in inner.asked for query in queries]
    assert len(set(asked)) == len(asked)
    assert all(queries for queries, _ in inner.asked)


def test_misses_go_in_one_call_each_query_once() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner)
    cached.search(["b"], 2)
    cached.search(["a", "b", "c", "a"], 2)
    cached.search(["a", "c"], 1)
    assert inner.asked == [(["b"], 2), (["a", "c"], 2), (["a", "c"], 1)]


def test_what_was_not_asked_for_longest_goes_first() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner, 2)
    for query in "abaca":
        cached.search([query], 1)
    assert [queries for queries, _ in inner.asked] == [["a"], ["b"], ["c"]]
    cached.search(["b"], 1)
    assert inner.asked[-1] == (["b"], 1)


def test_an_answer_that_its_reader_changes_stays_as_it_was() -> None:
    cached = CachedRetriever(Recorder())
    cached.search(["a", "a"], 2)[0].clear()
    assert [len(hits) for hits in cached.search(["a", "a"], 2)] == [2, 2]


def test_a_failure_is_not_remembered() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner)
    inner.broken = True
    with pytest.raises(RetrievalError, match="the engine is gone"):
        cached.search(["a"], 1)
    inner.broken = False
    assert cached.search(["a"], 1) == Recorder().search(["a"], 1)


def test_threads_get_the_same_answers() -> None:
    cached, queries = CachedRetriever(Recorder(), 3), [chr(97 + number % 7) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda query: cached.search([query], 2)[0], queries))
    assert answers == Recorder().search(queries, 2)


def test_info_is_the_inner_ones() -> None:
    assert CachedRetriever(Recorder()).info == {"engine": "recorder"}
