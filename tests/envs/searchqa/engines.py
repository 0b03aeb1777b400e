"""What the tests of both lexical engines share."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from stepcredit.envs.searchqa.corpus import Corpus, Passage
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.retrieval.jvm import find_toolchain

DATA = Path(os.environ.get("STEPCREDIT_DATA", "")) / "searchqa"
needs_data = pytest.mark.skipif(
    not (DATA / "corpus.jsonl.gz").is_file(), reason="STEPCREDIT_DATA has no searchqa/corpus.jsonl.gz"
)


def missing_lucene() -> str:
    """What lacks for Lucene; empty if nothing."""
    try:
        find_toolchain(os.environ)
    except RetrievalError as error:
        return str(error)
    return ""


needs_lucene = pytest.mark.skipif(bool(missing_lucene()), reason=missing_lucene())

FOUR = Corpus.of(
    [
        Passage("cat", "Cats", "A cat sleeps."),
        Passage("dog", "Dogs", "A dog barks at the cat."),
        Passage("fox", "Foxes", "The quick fox's den; foxes jump."),
        Passage("cow", "Cows", "Cows eat grass, grass and grass."),
    ]
)
TERMS = {
    "cat": ["cat", "cat", "sleep"],
    "dog": ["dog", "dog", "bark", "cat"],
    "fox": ["fox", "quick", "fox", "den", "fox", "jump"],
    "cow": ["cow", "cow", "eat", "grass", "grass", "grass"],
}
"""What Lucene's English analyser makes of the four, worked out by hand."""

SILENT_QUERIES = ["", " \n\t", "?!… -- ()", "the of and", "\x00\x01\x1b", "\ud800", "zzzzunknown", "_" * 10_000]
ODD_QUERIES = [
    *SILENT_QUERIES,
    "cat " * 2_500,
    " ".join(f"w{number}" for number in range(2_000)) + " cat",
    "x" * 10_000,
    "\x00cat\x07 \x1b[0m",
    "\ud800cat \udfff",
    "\ud83d\ude00 cat 😀",
    "cat's “CAT’S” ﬁ İ ΣΑΣ 東京 ١٢",
    'cat AND (dog OR "fox") title:cow~2 ^3 *',
]


def expected_scores(query_terms: list[str], k1: float = 0.9, b: float = 0.4) -> dict[str, float]:
    """Lucene's BM25 of the four passages, in float64, with exact lengths."""
    average = sum(map(len, TERMS.values())) / len(TERMS)
    scores = dict.fromkeys(TERMS, 0.0)
    for term in query_terms:
        holders = sum(term in terms for terms in TERMS.values())
        idf = math.log(1 + (len(TERMS) - holders + 0.5) / (holders + 0.5))
        for name, terms in TERMS.items():
            frequency = Counter(terms)[term]
            scores[name] += idf * frequency / (frequency + k1 * (1 - b + b * len(terms) / average))
    return {name: score for name, score in scores.items() if score}


class Listed:
    """A retriever whose hits stand in lists."""

    def __init__(self, hits: Mapping[str, list[Hit]], info: Mapping[str, str]) -> None:
        self._hits = hits
        self.info = info

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._hits.get(query, [])[:k] for query in queries]


def ids(hits: Iterable[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


def shared_questions() -> list[str]:
    with gzip.open(DATA / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["question"] for line in lines]
