"""BM25 without a JVM: bm25s's scores in mapped files, and a small compiled loop that searches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stepcredit.envs.searchqa.corpus import Corpus, contents
from stepcredit.envs.searchqa.records import mapped
from stepcredit.envs.searchqa.retrieval.analysis import analyzer
from stepcredit.envs.searchqa.retrieval.bm25_build import DATA, INDICES, INDPTR, Builder
from stepcredit.envs.searchqa.retrieval.contract import Hit
from stepcredit.envs.searchqa.retrieval.index_cache import Recipe, open_index
from stepcredit.envs.searchqa.retrieval.limits import hits_wanted
from stepcredit.envs.searchqa.retrieval.ranking import rank
from stepcredit.envs.searchqa.retrieval.vocabulary import Vocabulary

ENGINE = "bm25s"

_LIBRARIES = ("bm25s", "PyStemmer", "regex")
_ANALYSIS = "lucene-english-1"
_LAYOUT = 2  # 1 was bm25s's own, with the vocabulary as JSON


class Bm25Retriever:
    """Lucene's BM25 over titles and texts, memory-mapped; agrees with Lucene but for its rounded lengths.

    Args:
        cache: where indexes live; None takes the user's cache directory.

    Raises:
        RetrievalError: the index cannot be written.
    """

    def __init__(self, corpus: Corpus, k1: float = 0.9, b: float = 0.4, cache: Path | None = None) -> None:
        self._corpus = corpus
        self._recipe = Recipe.of(ENGINE, _parameters(k1, b), corpus, _LAYOUT)
        folder = open_index(self._recipe, lambda empty: _build(empty, corpus, k1, b), cache)
        self._vocabulary = Vocabulary(folder)
        self._indptr, self._indices, self._data = (mapped(folder / name) for name in (INDPTR, INDICES, DATA))
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
        known = [number for term in self._analyze(query) if (number := self._vocabulary.find(term)) is not None]
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
    Builder(k1, b).build(folder, (analyze(contents(passage)) for passage in corpus.passages))
