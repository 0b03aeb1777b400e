"""`stepcredit shard-index`: what it cuts answers as the whole does, over real HTTP, and bad input is one sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from stepcredit.envs.searchqa.corpus import Corpus, Passage, read_corpus
from stepcredit.envs.searchqa.retrieval.client import HttpRetriever
from stepcredit.envs.searchqa.retrieval.contract import Retriever
from stepcredit.envs.searchqa.retrieval.dense import SentenceEncoder
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever
from stepcredit.envs.searchqa.retrieval.server import create_app
from stepcredit.envs.searchqa.retrieval.sharded import Shard, ShardedRetriever
from stepcredit.harness.cli.app import run
from tests.envs.searchqa.faiss_files import faiss, write_index
from tests.envs.searchqa.serving import serving
from tests.envs.searchqa.tiny_encoder import WORDS, write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

ODD = [Passage("half", "Half \ud800", 'a "pair"\nof two lines'), Passage("東京", "", "\x00"), Passage("7", "T", "")]


def write_corpus(path: Path, passages: Sequence[Passage]) -> Path:
    path.write_text("".join(json.dumps(asdict(passage)) + "\n" for passage in passages))
    return path


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 4), np.float32)


@pytest.fixture
def index(tmp_path: Path, vectors: np.ndarray) -> Path:
    return write_index(tmp_path / "whole.index", vectors)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "whole.jsonl", [*ODD, *(Passage(f"p{number}", "", "oak") for number in range(4))])


def shard(index: Path, corpus: Path, parts: int, out: Path) -> int:
    return run(["shard-index", str(index), "--corpus", str(corpus), "--parts", str(parts), "--out", str(out)])


def words(number: int) -> str:
    return " ".join(random.Random(number).sample(WORDS, 8))


@contextmanager
def served(encoder: Path, index: Path, corpus: Path) -> Iterator[str]:
    spec = RetrieverSpec(engine="dense", encoder=str(encoder), index=str(index))
    with serving(create_app(open_retriever(spec, read_corpus(corpus)))) as url:
        yield url


@contextmanager
def served_together(encoder: Path, parts: Sequence[Path]) -> Iterator[str]:
    with ExitStack() as stack:
        urls = [stack.enter_context(served(encoder, part / "flat.index", part / "corpus.jsonl")) for part in parts]
        front = ShardedRetriever([Shard(url, HttpRetriever(url, retries=0)) for url in urls])
        yield stack.enter_context(serving(create_app(front)))


def answers(retriever: Retriever, k: int) -> list[object]:
    """Of batches small and large, which FAISS searches for in different ways."""
    queries = [words(-number) for number in range(1, 30)]
    return [retriever.search(batch, k) for batch in (queries[:1], queries[:3], queries)]


def test_servers_of_the_parts_answer_as_one_of_the_whole(tmp_path: Path) -> None:
    """To the last bit, and in the same order where passages in several parts are equal."""
    encoder = write_encoder(tmp_path / "encoder")
    passages = [Passage(f"p{number}", "", words(number % 700)) for number in range(2_500)]
    distinct = SentenceEncoder.load(str(encoder)).encode_passages(passages[:700])
    index = write_index(tmp_path / "whole.index", distinct[np.arange(2_500) % 700])
    corpus = write_corpus(tmp_path / "whole.jsonl", passages)
    assert shard(index, corpus, 2, tmp_path / "parts") == 0
    parts = [tmp_path / "parts" / f"part-{number}-of-2" for number in (1, 2)]
    with served(encoder, index, corpus) as one, served_together(encoder, parts) as front:
        for k in (1, 3, 50):
            assert answers(HttpRetriever(front), k) == answers(HttpRetriever(one), k)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_what_faiss_writes_and_make_up_the_whole(
    index: Path, corpus: Path, vectors: np.ndarray, tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shard(index, corpus, count, tmp_path / "parts") == 0
    said = capsys.readouterr().out.splitlines()
    passages: list[Passage] = []
    start = 0
    for number in range(1, count + 1):
        folder = tmp_path / "parts" / f"part-{number}-of-{count}"
        part = read_corpus(folder / "corpus.jsonl").passages
        expected = write_index(tmp_path / "expected.index", vectors[start : start + len(part)])
        assert (folder / "flat.index").read_bytes() == expected.read_bytes()
        assert said[number - 1] == f"{folder}: passages {start + 1} to {start + len(part)}"
        passages += part
        start += len(part)
    assert Corpus.of(passages) == read_corpus(corpus)


def test_what_was_cut_before_is_kept_and_what_is_damaged_or_missing_is_written_again(
    index: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parts"
    assert shard(index, corpus, 3, out) == 0
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("part-*/*")}
    (out / "part-1-of-3" / "flat.index").write_bytes(b"")
    (out / "part-2-of-3").rename(out / ".part-2-of-3.1-1.building")
    capsys.readouterr()
    assert shard(index, corpus, 3, out) == 0
    damage, first, second = capsys.readouterr().err.splitlines()
    assert damage.endswith("part-1-of-3 is damaged (flat.index is not as it was written); writing it again")
    assert first == f"stepcredit: writing {out / 'part-1-of-3'}: 0.0 of 0.0 GB"
    assert second == f"stepcredit: writing {out / 'part-2-of-3'}: 0.0 of 0.0 GB"
    assert {path: path.read_bytes() for path in files} == {path: content for path, (content, _) in files.items()}
    kept = [path for path in files if path.parent.name == "part-3-of-3"]
    assert [path.stat().st_mtime_ns for path in kept] == [files[path][1] for path in kept]
    assert [path.name for path in out.iterdir() if "building" in path.name] == []


def refused(capsys: pytest.CaptureFixture[str], index: Path, corpus: Path, parts: int, out: Path) -> str:
    before = sorted(out.rglob("*"))
    assert shard(index, corpus, parts, out) == 2
    said, complaint = capsys.readouterr()
    assert (said, complaint.count("\n"), sorted(out.rglob("*"))) == ("", 1, before)
    return complaint


@pytest.mark.parametrize("parts", [-1, 0, 8])
def test_a_number_of_parts_that_cannot_be_is_refused(
    index: Path, corpus: Path, tmp_path: Path, parts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint = refused(capsys, index, corpus, parts, tmp_path / "parts")
    assert f"whole.index holds 7 vectors and cannot be cut into {parts} parts; choose 1 to 7" in complaint


def prose(path: Path, vectors: np.ndarray) -> None:
    path.write_text("passages, one a line")


def truncated(path: Path, vectors: np.ndarray) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def missing(path: Path, vectors: np.ndarray) -> None:
    path.unlink()


def with_lists(path: Path, vectors: np.ndarray) -> None:
    write_index(path, vectors, "IVF1,Flat")


def by_distance(path: Path, vectors: np.ndarray) -> None:
    write_index(path, vectors, metric=faiss.METRIC_L2)


def of_fewer(path: Path, vectors: np.ndarray) -> None:
    write_index(path, vectors[:6])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (prose, "is no FAISS index (it begins with b'pa')"),
        (truncated, "is truncated or damaged"),
        (missing, "there is no index at"),
        (with_lists, "is not flat (FAISS calls it IndexIVFFlat), and parts of it would not answer as the whole"),
        (by_distance, "does not rank by inner product"),
        (of_fewer, "holds 6 passages, and"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    index: Path,
    corpus: Path,
    vectors: np.ndarray,
    tmp_path: Path,
    spoil: Callable[[Path, np.ndarray], None],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(index, vectors)
    assert complaint in refused(capsys, index, corpus, 2, tmp_path / "parts")


def test_a_folder_that_holds_something_else_is_left_alone(
    index: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parts"
    (out / "part-1-of-2").mkdir(parents=True)
    assert "part-1-of-2 is there, and was not cut from this" in refused(capsys, index, corpus, 2, out)
    assert "parts holds something else (part-1-of-2)" in refused(capsys, index, corpus, 3, out)
    assert "cannot be used for parts (Not a directory)" in refused(capsys, index, corpus, 2, index)
    assert shard(index, corpus, 2, tmp_path / "others") == 0
    capsys.readouterr()
    other = write_corpus(tmp_path / "other.jsonl", read_corpus(corpus).passages[::-1])
    assert "and was not cut from this index and corpus" in refused(capsys, index, other, 2, tmp_path / "others")
