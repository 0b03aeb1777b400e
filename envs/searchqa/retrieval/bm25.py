"""BM25 without a JVM: bm25s builds the index, a small compiled loop searches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import bm25s
import numpy as np

from stepcredit.envs.searchqa.corpus import Corpus, contents
from stepcredit.envs.searchqa.retrieval.analysis import analyzer
from stepcredit.envs.searchqa.retrieval.contract import Hit
from stepcredit.envs.searchqa.retrieval.index_cache import Recipe, open_index
from stepcredit.envs.searchqa.retrieval.limits import hits_wanted
from stepcredit.envs.searchqa.retrieval.ranking import rank

ENGINE = "bm25s"

_LIBRARIES = ("bm25s", "PyStemmer", "regex")
_ANALYSIS = "lucene-english-1"


class Bm25Retriever:
    """Lucene's BM25 over titles and texts, memory-mapped; agrees with Lucene but for its rounded lengths.

    Args:
        cache: where indexes live; None takes the user's cache directory.

    Raises:
        RetrievalError: the index cannot be written.
    """

    def __init__(self, corpus: Corpus, k1: float = 0.9, b: float = 0.4, cache: Path | None = None) -> None:
        self._corpus = corpus
        self._recipe = Recipe.of(ENGINE, _parameters(k1, b), corpus)
        folder = open_index(self._recipe, lambda empty: _build(empty, corpus, k1, b), cache)
        index = bm25s.BM25.load(folder, mmap=True)
        self._vocabulary: Mapping[str, int] = index.vocab_dict
        # Plain arrays over the mapped files: numba takes several microseconds to look at a memmap.
        self._indptr, self._indices, self._data = (np.asarray(index.scores[it]) for it in ("indptr", "indices", "data"))
        self._analyze = analyzer()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`."""
        wanted = hits_wanted(k, len(self._corpus))
        return [self._search(query, wanted) for query in queries]

    @property
    def info(self) -> Mapping[str, str]:
        """See `Retriever`."""
        return {"engine": ENGINE, **self._recipe.parameters, "corpus_sha256": self._corpus.sha256}

    def _search(self, query: str, k: int) -> list[Hit]:
        known = [self._vocabulary[term] for term in self._analyze(query) if term in self._vocabulary]
        if not known:
            return []
        terms = np.array(known, np.int64)
        positions, scores = rank(terms, self._indptr, self._indices, self._data, len(self._corpus), k)
        passages = self._corpus.passages
        return [Hit(passages[at], score) for at, score in zip(positions.tolist(), scores.tolist(), strict=True)]


def _parameters(k1: float, b: float) -> dict[str, str]:
    versions = {library: version(library) for library in _LIBRARIES}
    return {"method": "lucene", "k1": str(k1), "b": str(b), "analysis": _ANALYSIS, **versions}


def _build(folder: Path, corpus: Corpus, k1: float, b: float) -> None:
    analyze = analyzer()
    vocabulary: dict[str, int] = {}
    ids = [
        [vocabulary.setdefault(term, len(vocabulary)) for term in analyze(contents(passage))]
        for passage in corpus.passages
    ]
    index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
    with np.errstate(invalid="ignore"):  # passages of stop words alone have an average length of none
        index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    index.save(folder)
