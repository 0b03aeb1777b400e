"""FAISS files that somebody else built: taken as they are, mapped, and refused where they do not belong."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Corpus, Passage, contents
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.dense import DenseRetriever, EncoderSettings, SentenceEncoder
from stepcredit.envs.searchqa.retrieval.faiss_file import FaissFile
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever
from tests.envs.searchqa.faiss_files import faiss, write_index
from tests.envs.searchqa.tiny_encoder import CORPUS, WORDS, write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = EncoderSettings(query_prefix="", passage_prefix="")
QUERIES = [" ".join(WORDS[number : number + 3]) for number in range(18)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceEncoder:
    return SentenceEncoder.load(str(folder), PLAIN)


@pytest.fixture(scope="module")
def vectors(encoder: SentenceEncoder) -> np.ndarray:
    return encoder.encode_passages(CORPUS.passages)


@pytest.fixture(scope="module")
def built(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> DenseRetriever:
    """Exact search as we build it ourselves."""
    return DenseRetriever(CORPUS, encoder, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def flat(vectors: np.ndarray, tmp_path: Path) -> Path:
    return write_index(tmp_path / "e5_Flat.index", vectors)


def taken(path: Path, encoder: SentenceEncoder, corpus: Corpus = CORPUS, nprobe: int | None = None) -> DenseRetriever:
    file = FaissFile(path) if nprobe is None else FaissFile(path, nprobe)
    return DenseRetriever(corpus, encoder, file, path.parent)


def test_a_flat_file_answers_as_our_own_index(flat: Path, encoder: SentenceEncoder, built: DenseRetriever) -> None:
    assert taken(flat, encoder).search(QUERIES, 5) == built.search(QUERIES, 5)


@pytest.mark.parametrize(("kind", "nprobe"), [("IVF6,Flat", 6), ("HNSW32", None)])
def test_approximate_files_find_it_too(
    vectors: np.ndarray, tmp_path: Path, encoder: SentenceEncoder, built: DenseRetriever, kind: str, nprobe: int | None
) -> None:
    retriever = taken(write_index(tmp_path / "some.index", vectors, kind), encoder, nprobe=nprobe)
    for found, exact in zip(retriever.search(QUERIES, 1), built.search(QUERIES, 1), strict=True):
        assert found[0].score == pytest.approx(exact[0].score, abs=1e-5)


def test_search_r1s_vectors_are_of_quoted_titles_in_half_precision(encoder: SentenceEncoder, tmp_path: Path) -> None:
    quoted = encoder.encode_queries([contents(passage) for passage in CORPUS.passages])
    halved = quoted.astype(np.float16).astype(np.float32)
    assert taken(write_index(tmp_path / "some.index", halved), encoder).search(["oak"], 3)


def test_info_has_the_content_and_not_the_place(flat: Path, encoder: SentenceEncoder, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "same.index"
    moved.parent.mkdir()
    moved.write_bytes(flat.read_bytes())
    here, there = taken(flat, encoder).info, taken(moved, encoder).info
    assert here == there
    assert (here["index"], here["index_sha256"]) == ("prebuilt", hashlib.sha256(flat.read_bytes()).hexdigest())
    assert here["corpus_sha256"] == CORPUS.sha256
    assert str(tmp_path) not in str(here)


def test_info_of_lists_says_how_many_are_looked_into(
    vectors: np.ndarray, tmp_path: Path, encoder: SentenceEncoder
) -> None:
    path = write_index(tmp_path / "ivf.index", vectors, "IVF6,Flat")
    assert (taken(path, encoder).info["nprobe"], taken(path, encoder, nprobe=2).info["nprobe"]) == ("16", "2")


def private_bytes() -> int:
    """Memory that is backed by no file."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped")
@pytest.mark.parametrize("kind", ["Flat", "IVF2,Flat"])
def test_the_file_is_mapped_and_not_read(tmp_path: Path, kind: str) -> None:
    wide = SentenceEncoder.load(str(write_encoder(tmp_path / "wide", 256)), PLAIN)
    copies = 1_200  # what else a busy process allocates meanwhile is small beside it
    path = write_index(tmp_path / "some.index", np.repeat(wide.encode_passages(CORPUS.passages), copies, axis=0), kind)
    corpus = Corpus.of(
        Passage(f"{passage.id}-{copy}", passage.title, passage.text)
        for passage in CORPUS.passages
        for copy in range(copies)
    )
    small = write_index(tmp_path / "small.index", wide.encode_passages(CORPUS.passages), kind)
    assert taken(small, wide).search(["oak"], 1)[0]  # what the first index of a process allocates is there now
    before, size = private_bytes(), path.stat().st_size
    retriever = taken(path, wide, corpus)
    assert retriever.search(["oak"], 1)[0]
    assert size > 110_000_000
    assert private_bytes() - before < size / 3
    assert str(path) in Path("/proc/self/maps").read_text()


def foreign_corpus() -> Corpus:
    return Corpus.of([*CORPUS.passages[1:], CORPUS.passages[0]])


@pytest.mark.parametrize(
    ("corpus", "complaint"),
    [
        (Corpus.of(CORPUS.passages[:89]), "holds 90 passages, and the corpus 89; it was built from another corpus"),
        (foreign_corpus(), r"has another vector for passage 'p\d+' of the corpus than the encoder \(.* apart"),
    ],
)
def test_another_corpus_is_refused(flat: Path, encoder: SentenceEncoder, corpus: Corpus, complaint: str) -> None:
    with pytest.raises(RetrievalError, match=complaint):
        taken(flat, encoder, corpus)


def test_another_prefix_is_refused(flat: Path, folder: Path) -> None:
    with pytest.raises(RetrievalError, match=r"choose the corpus, encoder, pooling, passage_prefix and"):
        taken(flat, SentenceEncoder.load(str(folder)))


def test_another_encoders_dimensions_are_refused(flat: Path, tmp_path: Path) -> None:
    wider = SentenceEncoder.load(str(write_encoder(tmp_path / "wide", 64)), PLAIN)
    with pytest.raises(RetrievalError, match="vectors of 32 dimensions, and the encoder's have 64; choose the encoder"):
        taken(flat, wider)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def prose(path: Path) -> None:
    path.write_text("passages, one a line")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_placeholder(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 61\n")


@pytest.mark.parametrize("kind", ["Flat", "IVF6,Flat"])
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (truncated, r"some.index is truncated or damaged \(FAISS: "),
        (empty, r"some.index is truncated or damaged \(FAISS: "),
        (prose, r"some.index is no FAISS index \(it begins with b'pa'\)"),
        (a_folder, "is a folder, and FAISS's are files; choose engine lucene"),
        (a_placeholder, "placeholder that Git LFS has not filled"),
        (Path.unlink, "some.index cannot be read"),
    ],
)
def test_what_is_no_whole_file_is_refused(
    vectors: np.ndarray,
    encoder: SentenceEncoder,
    tmp_path: Path,
    kind: str,
    spoil: Callable[[Path], None],
    complaint: str,
) -> None:
    path = write_index(tmp_path / "some.index", vectors, kind)
    spoil(path)
    with pytest.raises(EnvError, match=f"^[^\n]*{complaint}[^\n]*$"):
        taken(path, encoder)


def of_another_corpus(path: Path) -> None:
    write_index(path, np.eye(32, dtype=np.float32))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (truncated, "some.index is truncated or damaged"),
        (prose, "some.index is no FAISS index"),
        (of_another_corpus, "some.index holds 32 passages, and the corpus 90; it was built from another corpus"),
    ],
)
def test_what_no_encoder_could_mend_is_said_before_one_is_looked_for(
    vectors: np.ndarray, tmp_path: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    path = write_index(tmp_path / "some.index", vectors)
    spec = RetrieverSpec(engine="dense", index=str(path), encoder=str(tmp_path / "no-encoder"))
    with pytest.raises(RetrievalError, match=r"^sentence encoder .*no-encoder' cannot be loaded"):
        open_retriever(spec, CORPUS)
    spoil(path)
    with pytest.raises(RetrievalError, match=f"^[^\n]*{complaint}[^\n]*$"):
        open_retriever(spec, CORPUS)


def test_a_file_that_ranks_otherwise_is_refused(vectors: np.ndarray, encoder: SentenceEncoder, tmp_path: Path) -> None:
    path = write_index(tmp_path / "some.index", vectors, metric=faiss.METRIC_L2)
    with pytest.raises(RetrievalError, match="does not rank by inner product"):
        taken(path, encoder)


def test_a_file_without_vectors_to_look_at_is_refused(
    vectors: np.ndarray, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    index = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, np.arange(len(vectors)))
    faiss.write_index(index, str(tmp_path / "some.index"))
    with pytest.raises(RetrievalError, match="does not give its vectors back"):
        taken(tmp_path / "some.index", encoder)


def test_nprobe_needs_lists(flat: Path, encoder: SentenceEncoder) -> None:
    with pytest.raises(RetrievalError, match="no inverted lists, so nprobe has no effect"):
        taken(flat, encoder, nprobe=3)


def test_a_missing_faiss_is_named(flat: Path, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_faiss(name: str, *details: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *details)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(RetrievalError, match="needs FAISS; install it with `pip install faiss-cpu`"):
        taken(flat, encoder)


def test_an_old_faiss_that_would_read_it_all_is_refused(
    flat: Path, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(faiss, "IO_FLAG_MMAP_IFC")
    with pytest.raises(RetrievalError, match="would read the whole index into memory; update it"):
        taken(flat, encoder)


def test_a_spec_leads_to_the_file_beside_the_corpus(
    flat: Path, folder: Path, tmp_path: Path, built: DenseRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path))
    monkeypatch.setenv("STEPCREDIT_DATA", str(tmp_path))
    beside = tmp_path / "searchqa"
    beside.mkdir()
    flat.rename(beside / flat.name)
    settings = {"engine": "dense", "encoder": str(folder), "query_prefix": "", "passage_prefix": ""}
    named = RetrieverSpec.parse({**settings, "index": "e5_Flat.index"})
    assert named.model_dump()["index"] == "e5_Flat.index"
    assert open_retriever(named, CORPUS).search(QUERIES, 3) == built.search(QUERIES, 3)
