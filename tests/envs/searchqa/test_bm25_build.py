"""The index that is built piece by piece is bm25s's own, to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.searchqa.corpus import contents, read_corpus
from stepcredit.envs.searchqa.records import mapped
from stepcredit.envs.searchqa.retrieval.analysis import analyzer
from stepcredit.envs.searchqa.retrieval.bm25_build import DATA, INDICES, INDPTR, Builder
from stepcredit.envs.searchqa.retrieval.vocabulary import Vocabulary, encoded, write_vocabulary
from tests.envs.searchqa.engines import DATA as SHARED
from tests.envs.searchqa.engines import needs_data

Postings = dict[str, tuple[list[int], bytes]]

terms = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=3)
texts = st.lists(st.lists(st.sampled_from("abcde") | terms, max_size=8), min_size=1, max_size=10)


def whole(passages: Sequence[Sequence[str]], k1: float, b: float) -> Postings:
    """Every term's passages and the bits of its scores, as bm25s indexes them at once."""
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(term, len(vocabulary)) for term in passage] for passage in passages]
    index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
    with np.errstate(invalid="ignore"):
        index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    indptr, indices, data = (index.scores[name] for name in ("indptr", "indices", "data"))
    spans = {term: slice(indptr[number], indptr[number + 1]) for term, number in vocabulary.items()}
    return {term: (indices[span].tolist(), data[span].tobytes()) for term, span in spans.items()}


def by_pieces(passages: Sequence[Sequence[str]], builder: Builder) -> Postings:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builder.build(folder, passages)
        indptr, indices, data = (mapped(folder / part) for part in (INDPTR, INDICES, DATA))
        assert indptr[-1] == len(indices) == len(data)
        vocabulary, found = Vocabulary(folder), {}
        for term in {term for passage in passages for term in passage}:
            number = vocabulary.find(term)
            assert number is not None
            span = slice(indptr[number], indptr[number + 1])
            found[term] = (indices[span].tolist(), data[span].tobytes())
        assert len(vocabulary) == len(found) == len(indptr) - 1
        return found


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(1, 40), st.integers(1, 40), st.floats(0, 3), st.floats(0, 1))
def test_the_index_is_bm25s_own_whatever_the_pieces(
    passages: list[list[str]], tokens: int, postings: int, k1: float, b: float
) -> None:
    assert by_pieces(passages, Builder(k1, b, tokens, postings)) == whole(passages, k1, b)


@needs_data
@pytest.mark.parametrize(("tokens", "postings"), [(1 << 23, 1 << 22), (50_021, 10_007)])
def test_real_passages_are_indexed_to_the_bit(tokens: int, postings: int) -> None:
    analyze = analyzer()
    passages = [analyze(contents(passage)) for passage in read_corpus(SHARED / "corpus.jsonl.gz").passages[::8]]
    assert by_pieces(passages, Builder(0.9, 0.4, tokens, postings)) == whole(passages, 0.9, 0.4)


def test_what_was_needed_on_the_way_is_deleted(tmp_path: Path) -> None:
    Builder(0.9, 0.4, tokens=1).build(tmp_path, [["a", "b"], [], ["b"]])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [INDPTR, INDICES, DATA, "vocabulary.npy", "vocabulary.ends.npy"]
    )


@settings(max_examples=100, deadline=None)
@given(st.sets(st.text(max_size=3), max_size=9), st.text(max_size=3))
def test_a_vocabulary_finds_its_terms_and_no_others(known: set[str], asked: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_vocabulary(Path(folder), sorted(map(encoded, known)))
        vocabulary = Vocabulary(Path(folder))
    assert [vocabulary.find(term) for term in sorted(known)] == list(range(len(known)))
    assert vocabulary.find(asked) == (sorted(known).index(asked) if asked in known else None)
