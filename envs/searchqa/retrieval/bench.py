"""How fast the lexical engines are on this machine, side by side, and how far they agree."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from stepcredit.envs.searchqa.corpus import Corpus, Passage, read_corpus
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError, Retriever
from stepcredit.envs.searchqa.retrieval.jvm import find_toolchain
from stepcredit.envs.searchqa.retrieval.lucene import LuceneRetriever

Result = TypeVar("Result")

_K = 3
_TIMED = 1000
_WARM = 200
_PASSAGES = 34_000
_QUESTIONS = 2000
_WORDS = 60_000


def measure() -> dict[str, float]:
    """On the questions and passages of $STEPCREDIT_DATA, else on random words of about that size.

    Returns:
        `passages` and `questions`; `bm25_build_s`; `bm25_median_ms` and `bm25_mean_ms` of one query for three passages;
        `bm25_peak_mb` of a fresh process that opens the index and asks them all. Where Lucene is installed also
        `lucene_build_s`, `lucene_mean_ms`, `ratio` of the two means, and over all questions the agreement of the top
        three: `overlap`, `same_list` and `same_first`.
    """
    corpus, questions = data()
    with TemporaryDirectory(prefix="stepcredit-bench-") as folder:
        cache = Path(folder)
        bm25, built = timed(lambda: Bm25Retriever(corpus, cache=cache))
        seconds = seconds_each(bm25, questions)
        found = {
            "passages": len(corpus),
            "questions": len(questions),
            "bm25_build_s": built,
            "bm25_median_ms": 1e3 * statistics.median(seconds),
            "bm25_mean_ms": 1e3 * statistics.mean(seconds),
            "bm25_peak_mb": _peak_mb(cache),
        }
        return found | _beside_lucene(bm25, found["bm25_mean_ms"], corpus, questions, cache)


def _beside_lucene(
    bm25: Retriever, bm25_ms: float, corpus: Corpus, questions: Sequence[str], cache: Path
) -> dict[str, float]:
    try:
        find_toolchain(os.environ)
    except RetrievalError as error:
        print(error, file=sys.stderr)
        return {}
    lucene, built = timed(lambda: LuceneRetriever(corpus, cache=cache))
    mean = 1e3 * statistics.mean(seconds_each(lucene, questions))
    pairs = list(zip(_tops(bm25, questions), _tops(lucene, questions), strict=True))
    return {
        "lucene_build_s": built,
        "lucene_mean_ms": mean,
        "ratio": mean / bm25_ms,
        "overlap": statistics.mean(_overlap(one, other) for one, other in pairs),
        "same_list": statistics.mean(one == other for one, other in pairs),
        "same_first": statistics.mean(one[:1] == other[:1] for one, other in pairs),
    }


def data() -> tuple[Corpus, list[str]]:
    """Passages and questions of $STEPCREDIT_DATA; random words where it has none."""
    folder = Path(os.environ.get("STEPCREDIT_DATA", "")) / "searchqa"
    if not (folder / "corpus.jsonl.gz").is_file():
        return _random_words()
    with gzip.open(folder / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        return read_corpus(folder / "corpus.jsonl.gz"), [json.loads(line)["question"] for line in lines]


def _random_words() -> tuple[Corpus, list[str]]:
    """Words as frequent as in text: the rank of one times its frequency is the same for all."""
    rng = random.Random(0)

    def text(words: int) -> str:
        return " ".join(f"w{int(_WORDS ** rng.random())}" for _ in range(words))

    passages = (Passage(str(number), text(3), text(80)) for number in range(_PASSAGES))
    return Corpus.of(passages), [text(10) for _ in range(_QUESTIONS)]


def seconds_each(retriever: Retriever, questions: Sequence[str]) -> list[float]:
    """Of single queries, once the engine is warm."""
    for question in questions[-_WARM:]:
        retriever.search([question], _K)
    return [timed(partial(retriever.search, [question], _K))[1] for question in questions[:_TIMED]]


def timed(job: Callable[[], Result]) -> tuple[Result, float]:
    """What the job returns, and the seconds that it takes."""
    started = time.perf_counter()
    result = job()
    return result, time.perf_counter() - started


def _tops(retriever: Retriever, questions: Sequence[str]) -> list[list[str]]:
    return [_ids(hits) for hits in retriever.search(questions, _K)]


def _ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


def _overlap(one: Sequence[str], other: Sequence[str]) -> float:
    return len({*one} & {*other}) / len(other) if other else float(not one)


def _peak_mb(cache: Path) -> float:
    command = [sys.executable, "-m", "stepcredit.envs.searchqa.retrieval.bench", str(cache)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _print_peak(cache: Path) -> None:
    corpus, questions = data()
    Bm25Retriever(corpus, cache=cache).search(questions, _K)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print the numbers; with a cache folder as argument, only this process's peak memory in it."""
    if len(sys.argv) > 1:
        _print_peak(Path(sys.argv[1]))
        return
    for name, value in measure().items():
        print(f"{name} {value:.3g}")


if __name__ == "__main__":
    main()
