"""Recall of supporting passages, worked out by hand on four passages."""

from pathlib import Path

import pytest

from stepcredit.envs.searchqa.corpus import Corpus, Passage
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.recall import Asked, measure

PASSAGES = [
    Passage("1", "Rush", "a rock band from Canada"),
    Passage("2", "Neil Peart", "the drummer of a rock band"),
    Passage("3", "Tulip", "a flower of spring"),
    Passage("4", "Oslo", "the capital of Norway"),
]


def test_recall_is_the_share_of_supporting_titles_found(tmp_path: Path) -> None:
    corpus = Corpus.of(PASSAGES)
    asked = [
        Asked("rock band Canada", frozenset({"Rush", "Neil Peart"})),
        Asked("capital Norway", frozenset({"Oslo"})),
        Asked("flower spring", frozenset({"Oslo"})),
    ]
    found = measure(corpus, asked, {"bm25": Bm25Retriever(corpus, cache=tmp_path)})
    assert found["passages"] == 4
    assert found["questions"] == 3
    assert found["bm25_recall_1"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["bm25_recall_3"] == pytest.approx((1 + 1 + 0) / 3)
