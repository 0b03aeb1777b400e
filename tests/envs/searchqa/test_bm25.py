"""BM25 of our own: scores worked out by hand, the laws of a retriever, and its index on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.places import cache_root
from stepcredit.envs.searchqa.cache_folder import MANIFEST
from stepcredit.envs.searchqa.corpus import Corpus, Passage, read_corpus
from stepcredit.envs.searchqa.retrieval.analysis import analyzer
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.ranking import rank, rank_with_numpy
from tests.envs.searchqa.engines import FOUR, ODD_QUERIES, SILENT_QUERIES, TERMS, expected_scores, ids

WORDS = ["cat", "cats", "dog", "fox", "grass", "the", "unknown", "jumping", "?"]
queries = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text(max_size=12)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Bm25Retriever:
    return Bm25Retriever(FOUR, cache=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("cat", ["cat"]),
        ("Cats and DOGS?", ["cat", "dog"]),
        ("grass grass", ["grass", "grass"]),
        ("the fox's jump, sleeping cows", ["fox", "jump", "sleep", "cow"]),
    ],
)
def test_scores_are_lucenes_formula(retriever: Bm25Retriever, query: str, terms: list[str]) -> None:
    found = {hit.passage.id: hit.score for hit in retriever.search([query], 4)[0]}
    assert found == pytest.approx(expected_scores(terms), rel=1e-6)
    assert list(found) == sorted(found, key=found.__getitem__, reverse=True)


def test_one_score_worked_out_on_paper(retriever: Bm25Retriever) -> None:
    """idf ln(1 + 3.5 / 1.5), frequency 3 in six terms of 4.75 on average: 3 / (3 + 0.9 * (0.6 + 0.4 * 6 / 4.75))."""
    (hit,) = retriever.search(["grass"], 3)[0]
    assert hit.score == pytest.approx(1.2039728043 * 3 / 3.9947368421, rel=1e-6)


def test_k1_and_b_count(tmp_path: Path) -> None:
    other = Bm25Retriever(FOUR, k1=1.5, b=0.75, cache=tmp_path)
    found = {hit.passage.id: hit.score for hit in other.search(["cat fox"], 4)[0]}
    assert found == pytest.approx(expected_scores(["cat", "fox"], 1.5, 0.75), rel=1e-6)


def test_text_becomes_lucenes_terms() -> None:
    analyze = analyzer()
    assert {passage.id: analyze(f"{passage.title} {passage.text}") for passage in FOUR.passages} == TERMS
    assert analyze("The U.S. can't pay 1,000.50 for AC/DC's foo_bar, O’Neil’s mother-in-law") == (
        ["u.", "can't", "pai", "1,000.50", "ac", "dc", "foo_bar", "o’neil", "mother", "law"]
    )
    assert analyze("us İstanbul ΣΑΣ 東京タワー e\u0301tude") == [
        "us",
        "istanbul",
        "σασ",
        "東",
        "京",
        "タワー",
        "e\u0301tud",
    ]
    assert [len(term) for term in analyze("y" * 300)] == [255, 45]


def test_ties_come_in_the_corpus_order(tmp_path: Path) -> None:
    same = Corpus.of(Passage(str(9 - number), "same", "words here") for number in range(9))
    found = Bm25Retriever(same, cache=tmp_path).search(["same words"], 5)[0]
    assert ids(found) == ["9", "8", "7", "6", "5"]


@pytest.mark.parametrize("query", SILENT_QUERIES)
def test_a_query_without_known_words_finds_nothing(retriever: Bm25Retriever, query: str) -> None:
    assert retriever.search([query], 3) == [[]]


@pytest.mark.parametrize("query", ODD_QUERIES, ids=ascii)
def test_odd_queries_are_answered(retriever: Bm25Retriever, query: str) -> None:
    assert ("cat" in ids(retriever.search([query], 3)[0])) == (query not in SILENT_QUERIES and "cat" in query)


def test_more_hits_than_passages_may_be_asked_for(retriever: Bm25Retriever) -> None:
    assert ids(retriever.search(["cat dog fox cow"], 10**9)[0]) != []
    assert len(retriever.search(["cat dog fox cow"], 10**9)[0]) == 4
    assert retriever.search([], 3) == []


@pytest.mark.parametrize("k", [0, -1])
def test_no_hits_cannot_be_asked_for(retriever: Bm25Retriever, k: int) -> None:
    with pytest.raises(RetrievalError, match=f"asked for {k} passages"):
        retriever.search(["cat"], k)


@settings(max_examples=50, deadline=None)
@given(st.lists(queries, max_size=5), st.integers(1, 6))
def test_a_batch_is_its_queries_one_by_one(retriever: Bm25Retriever, batch: list[str], k: int) -> None:
    together = retriever.search(batch, k)
    assert together == [retriever.search([query], k)[0] for query in batch]
    assert together == [hits[:k] for hits in retriever.search(batch, 6)]


def test_threads_get_the_same_answers(retriever: Bm25Retriever) -> None:
    batch = [f"{one} {other} {one}{number}" for number in range(20) for one in WORDS for other in WORDS]
    alone = retriever.search(batch, 3)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: retriever.search(batch, 3), range(16))) == [alone] * 16


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_both_loops_rank_alike(data: st.DataObject) -> None:
    """The compiled one, where numba is there, and the one that stands in for it."""
    passages, terms = data.draw(st.integers(1, 12)), 5
    holders = [sorted(data.draw(st.sets(st.integers(0, passages - 1)))) for _ in range(terms)]
    indptr = np.cumsum([0, *map(len, holders)])
    indices = np.array([at for term in holders for at in term], np.int32)
    weights = data.draw(st.lists(st.sampled_from([0.1, 0.5, 1.0, 1.7]), min_size=len(indices), max_size=len(indices)))
    query = np.array(data.draw(st.lists(st.integers(0, terms - 1), max_size=6)), np.int64)
    arguments = (query, indptr, indices, np.array(weights, np.float32), passages, data.draw(st.integers(1, passages)))
    positions, scores = rank(*arguments)
    plain_positions, plain_scores = rank_with_numpy(*arguments)
    assert (positions.tolist(), scores.tolist()) == (plain_positions.tolist(), plain_scores.tolist())


def test_a_corpus_of_stop_words_is_searched_in_vain(tmp_path: Path) -> None:
    assert Bm25Retriever(Corpus.of([Passage("1", "The", "of")]), cache=tmp_path).search(["the cat"], 1) == [[]]


def test_info_names_what_determines_the_answers(retriever: Bm25Retriever) -> None:
    expected = {"engine": "bm25s", "method": "lucene", "k1": "0.9", "b": "0.4", "corpus_sha256": FOUR.sha256}
    assert expected.items() <= retriever.info.items()


def _index(cache: Path) -> Path:
    (folder,) = cache.glob("bm25s-*")
    return folder


def test_the_index_is_built_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Bm25Retriever(FOUR, cache=tmp_path)
    before = (_index(tmp_path) / MANIFEST).stat().st_mtime_ns
    Bm25Retriever(FOUR, cache=tmp_path)
    assert (_index(tmp_path) / MANIFEST).stat().st_mtime_ns == before
    assert capsys.readouterr() == ("", "")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _claim(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: _flip(folder / "data.csc.index.npy"), "is damaged (data.csc.index.npy is not as"),
        (lambda folder: (folder / "data.csc.index.npy").write_bytes(b""), "is damaged (data.csc.index.npy is not as"),
        (lambda folder: (folder / "vocabulary.npy").unlink(), "is damaged (its files are not those"),
        (lambda folder: (folder / "more").write_text(""), "is damaged (its files are not those"),
        (lambda folder: (folder / MANIFEST).unlink(), "is damaged (no readable manifest.json)"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is damaged (no readable manifest.json)"),
        (lambda folder: _claim(folder, corpus_sha256="0" * 64), "was built from another corpus"),
        (lambda folder: _claim(folder, parameters={"k1": "2"}), "was built with other parameters"),
    ],
)
def test_an_index_that_does_not_fit_is_built_again_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], object], said: str
) -> None:
    first = Bm25Retriever(FOUR, cache=tmp_path).search(["cat"], 3)
    harm(_index(tmp_path))
    assert Bm25Retriever(FOUR, cache=tmp_path).search(["cat"], 3) == first
    message = capsys.readouterr().err
    assert said in message
    assert message.endswith("; building it again\n")
    assert message.count("\n") == 1
    Bm25Retriever(FOUR, cache=tmp_path)
    assert capsys.readouterr().err == ""


def test_a_corpus_that_changed_is_indexed_again_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, cache = tmp_path / "corpus.jsonl", tmp_path / "cache"
    path.write_text('{"id": "1", "title": "Oslo", "text": "a city"}\n')
    Bm25Retriever(read_corpus(path), cache=cache)
    assert capsys.readouterr().err == ""
    path.write_text('{"id": "1", "title": "Oslo", "text": "a town"}\n')
    changed = Bm25Retriever(read_corpus(path), cache=cache)
    assert f"{path} changed after its bm25s index was built (sha256 " in capsys.readouterr().err
    assert changed.search(["city"], 1) == [[]]
    assert ids(changed.search(["town"], 1)[0]) == ["1"]


def test_what_a_killed_build_left_is_no_hindrance(tmp_path: Path) -> None:
    Bm25Retriever(FOUR, cache=tmp_path)
    folder = _index(tmp_path)
    folder.rename(folder.with_name(f".{folder.name}.building"))
    assert ids(Bm25Retriever(FOUR, cache=tmp_path).search(["grass"], 1)[0]) == ["cow"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".building")] == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RetrievalError, match=r"index cache .*file cannot be written .*set STEPCREDIT_CACHE"):
        Bm25Retriever(FOUR, cache=tmp_path / "file")


def test_the_cache_is_where_the_user_says(tmp_path: Path) -> None:
    assert cache_root({"STEPCREDIT_CACHE": "/one", "XDG_CACHE_HOME": "/two"}) == Path("/one")
    assert cache_root({"XDG_CACHE_HOME": "/two"}) == Path("/two/stepcredit")
    assert cache_root({}) == Path.home() / ".cache/stepcredit"


_OPEN = """
from tests.envs.searchqa.engines import FOUR
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
print([hit.score for hit in Bm25Retriever(FOUR).search(["cat dog"], 3)[0]])
"""


def test_processes_that_build_at_the_same_time_agree(tmp_path: Path, retriever: Bm25Retriever) -> None:
    environ = os.environ | {"STEPCREDIT_CACHE": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", _OPEN], env=environ, text=True, stdout=-1, stderr=-1) for _ in range(2)
    ]
    said = [process.communicate() for process in started]
    scores = [hit.score for hit in retriever.search(["cat dog"], 3)[0]]
    assert said == [(f"{scores}\n", "")] * 2
    assert len(list(tmp_path.glob("bm25s-*"))) == 1
