"""Lucene indexes as Pyserini writes them: taken as they are, and refused where they do not belong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Corpus, Passage, contents
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.jvm import find_toolchain
from stepcredit.envs.searchqa.retrieval.lucene import LuceneRetriever
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever
from tests.envs.searchqa.engines import FOUR, ODD_QUERIES, expected_scores, ids, needs_lucene

pytestmark = needs_lucene

INDEXER = "io.anserini.index.IndexCollection"
STORED = {"raw": ["-storeRaw"], "contents": ["-storeContents"], "nothing": []}


def write(folder: Path, passages: Iterable[Passage], *options: str) -> Path:
    """An index of the passages, by the command that Search-R1's and Pyserini's documents give."""
    collection = folder.with_name(f"{folder.name}-collection")
    collection.mkdir()
    rows = ({"id": passage.id, "contents": contents(passage)} for passage in passages)
    (collection / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator", "-threads", "1"]
    places = ["-input", str(collection), "-index", str(folder)]
    command = find_toolchain(os.environ).command(INDEXER, *arguments, *places, *options)
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By what is stored; the documents come in another order than the corpus's."""
    root = tmp_path_factory.mktemp("indexes")
    return {name: write(root / name, FOUR.passages[::-1], *options) for name, options in STORED.items()}


@pytest.fixture
def index(indexes: dict[str, Path], tmp_path: Path) -> Path:
    """One that may be spoilt."""
    return shutil.copytree(indexes["raw"], tmp_path / "bm25")


def taken(path: Path, corpus: Corpus = FOUR) -> LuceneRetriever:
    return LuceneRetriever(corpus, cache=path.parent, index=path)


@pytest.mark.parametrize("stored", STORED)
def test_it_answers_as_our_own_index(indexes: dict[str, Path], tmp_path: Path, stored: str) -> None:
    ours, theirs = LuceneRetriever(FOUR, cache=tmp_path), taken(indexes[stored])
    for own, found in zip(ours.search(ODD_QUERIES, 4), theirs.search(ODD_QUERIES, 4), strict=True):
        assert sorted(own, key=str) == sorted(found, key=str)
    scores = {hit.passage.id: hit.score for hit in theirs.search(["cat"], 4)[0]}
    assert scores == pytest.approx(expected_scores(["cat"]), abs=1e-4)


def test_settings_of_bm25_still_count(indexes: dict[str, Path]) -> None:
    tuned = LuceneRetriever(FOUR, 1.2, 0.75, indexes["raw"].parent, index=indexes["raw"])
    scores = {hit.passage.id: hit.score for hit in tuned.search(["grass cat"], 4)[0]}
    assert scores == pytest.approx(expected_scores(["grass", "cat"], 1.2, 0.75), abs=1e-4)


def test_info_has_the_content_and_not_the_place(index: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(index, tmp_path / "elsewhere")
    (moved / "README.md").write_text("downloaded")
    (moved / "write.lock").unlink()
    here, there = taken(index).info, taken(moved).info
    assert here == there
    assert {"engine": "lucene", "k1": "0.9", "corpus_sha256": FOUR.sha256}.items() <= here.items()
    assert len(here["index_sha256"]) == 64
    assert str(tmp_path) not in str(here)


def test_other_contents_are_another_index(indexes: dict[str, Path]) -> None:
    assert len({taken(path).info["index_sha256"] for path in indexes.values()}) == 3


def changed(text: str) -> Corpus:
    return Corpus.of([*FOUR.passages[:3], Passage("cow", "Cows", text)])


def renamed() -> Corpus:
    return Corpus.of([*FOUR.passages[:3], Passage("ox", "Cows", FOUR[3].text)])


@pytest.mark.parametrize("stored", ["raw", "contents"])
def test_other_contents_are_refused(indexes: dict[str, Path], stored: str) -> None:
    with pytest.raises(RetrievalError, match="has other contents for passage 'cow' than the corpus; it was built from"):
        taken(indexes[stored], changed("Cows eat clover."))


def test_what_is_not_stored_cannot_be_compared(indexes: dict[str, Path]) -> None:
    assert taken(indexes["nothing"], changed("Cows eat clover.")).search(["grass"], 1)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(
    ("corpus", "complaint"),
    [
        (Corpus.of(FOUR.passages[:3]), "holds 4 passages, and the corpus 3; it was built from another corpus"),
        (renamed(), "holds a passage 'cow', which the corpus does not; it was built from another corpus"),
    ],
)
def test_another_corpus_is_refused(indexes: dict[str, Path], stored: str, corpus: Corpus, complaint: str) -> None:
    with pytest.raises(RetrievalError, match=complaint):
        taken(indexes[stored], corpus)


def test_ids_that_the_first_look_missed_end_the_search(tmp_path: Path) -> None:
    """Sixteen are looked at; a search meets the others."""
    passages = [Passage(str(number), f"Number {number}", "one of many") for number in range(400)]
    path = write(tmp_path / "many", passages)
    others = [Passage(f"x{it.id}", it.title, it.text) if int(it.id) % 100 == 7 else it for it in passages]
    with pytest.raises(RetrievalError, match=r"holds a passage '\d*07', which the corpus does not"):
        taken(path, Corpus.of(others)).search(["number 107", "number 207"], 3)


def cut(ending: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (file,) = path.glob(f"*{ending}")
        file.write_bytes(file.read_bytes()[:-1])

    return spoil


def without_documents(path: Path) -> None:
    (path / "_0.fdt").unlink()


def without_segments(path: Path) -> None:
    (path / "segments_1").unlink()


def a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"IxFI")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (cut("segments_1"), "bm25 cannot be read: Lucene's CorruptIndexException says"),
        (cut(".fdt"), "bm25 cannot be read: Lucene's CorruptIndexException says"),
        (cut(".doc"), "bm25 cannot be read: Lucene's CorruptIndexException says"),
        (cut(".dvd"), "bm25 cannot be read: Lucene's CorruptIndexException says"),
        (without_documents, "bm25 cannot be read: Lucene's"),
        (without_segments, r"bm25 is no Lucene index \(it has no file segments_N\)"),
        (a_file, "bm25 is a file, and Lucene's are folders .*engine dense"),
    ],
)
def test_what_is_no_whole_index_is_refused(index: Path, spoil: Callable[[Path], None], complaint: str) -> None:
    spoil(index)
    with pytest.raises(EnvError, match=f"^[^\n]*{complaint}[^\n]*$"):
        taken(index)


def test_a_spec_leads_to_the_folder(indexes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path))
    spec = RetrieverSpec.parse({"engine": "lucene", "index": str(indexes["raw"]), "b": 0.75})
    opened = open_retriever(spec, FOUR)
    assert (opened.info["b"], opened.info["index_sha256"]) == ("0.75", taken(indexes["raw"]).info["index_sha256"])
    assert ids(opened.search(["grass"], 1)[0]) == ["cow"]
