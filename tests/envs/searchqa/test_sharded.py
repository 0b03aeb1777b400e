"""Several servers behind one address, over real HTTP: what they answer together, and what is said when one is down."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.searchqa.corpus import Corpus, Passage
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.client import HttpRetriever
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.retrieval.dense import DenseRetriever, InvertedLists, SentenceEncoder
from stepcredit.envs.searchqa.retrieval.server import create_app
from stepcredit.envs.searchqa.retrieval.sharded import Shard, ShardedRetriever
from tests.envs.searchqa.engines import FOUR, Listed, ids
from tests.envs.searchqa.serving import free_port, serving
from tests.envs.searchqa.tiny_encoder import WORDS, write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")


def distinct(number: int) -> Passage:
    return Passage(f"p{number}", WORDS[number % 20].title(), " ".join(random.Random(number).sample(WORDS, 8)))


WHOLE = Corpus.of(map(distinct, range(60)))
PARTS = [Corpus.of(WHOLE.passages[span]) for span in (slice(0, 25), slice(25, 27), slice(27, 60))]
QUERIES = ["", *(" ".join(WORDS[number : number + 3]) for number in range(18))]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return SentenceEncoder.load(str(write_encoder(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def parts(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> list[DenseRetriever]:
    cache = tmp_path_factory.mktemp("cache")
    return [DenseRetriever(part, encoder, cache=cache) for part in PARTS]


@pytest.fixture(scope="module")
def urls(parts: list[DenseRetriever]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(create_app(part))) for part in parts]


def over(urls: Sequence[str]) -> ShardedRetriever:
    return ShardedRetriever([Shard(url, HttpRetriever(url, retries=0)) for url in urls])


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_together_they_answer_as_one_index(urls: list[str], encoder: SentenceEncoder, tmp_path: Path, k: int) -> None:
    whole = DenseRetriever(WHOLE, encoder, cache=tmp_path)
    with serving(create_app(over(urls))) as front:
        answers = HttpRetriever(front).search(QUERIES, k)
    for found, expected in zip(answers, whole.search(QUERIES, k), strict=True):
        assert ids(found) == ids(expected)
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)


def test_info_names_all_parts_in_their_order_and_no_place(urls: list[str], parts: list[DenseRetriever]) -> None:
    info = over(urls).info
    assert info == over(urls).info
    assert not any(url in str(info) for url in urls)
    assert info["shards"] == "3"
    assert {name: info[name] for name in ("engine", "encoder", "index", "faiss")}.items() <= parts[0].info.items()
    assert info["corpus_sha256"] != over(urls[::-1]).info["corpus_sha256"]
    assert info["corpus_sha256"] != over(urls[:2]).info["corpus_sha256"]


def test_a_shard_that_is_down_is_named_and_missed_until_it_is_back(
    urls: list[str], parts: list[DenseRetriever]
) -> None:
    port = free_port()
    with serving(create_app(parts[1]), port) as mortal:
        sharded = over([urls[0], mortal, urls[2]])
        with serving(create_app(sharded)) as front:
            before = HttpRetriever(front).search(QUERIES, 5)
    with serving(create_app(sharded)) as front:
        with pytest.raises(RetrievalError) as caught:
            HttpRetriever(front, retries=0).search(QUERIES, 5)
        message = str(caught.value)
        assert "\n" not in message
        assert f"503: retrieval server {mortal} gave no answer in 1 try" in message
        with serving(create_app(parts[1]), port):
            assert HttpRetriever(front).search(QUERIES, 5) == before


def refused(*shards: tuple[str, object]) -> str:
    with pytest.raises(RetrievalError) as caught:
        ShardedRetriever([Shard(name, retriever) for name, retriever in shards])  # type: ignore[arg-type]
    return str(caught.value)


def test_shards_that_cannot_be_merged_are_refused(
    parts: list[DenseRetriever], encoder: SentenceEncoder, tmp_path: Path
) -> None:
    first, second = parts[:2]
    lists = DenseRetriever(PARTS[2], encoder, InvertedLists(2, 1), tmp_path)
    lexical = Bm25Retriever(FOUR, cache=tmp_path)
    assert "there are no shards to ask" in refused()
    assert "shard b has engine bm25s, and only scores of engine dense" in refused(("a", first), ("b", lexical))
    assert "shard b has index 'ivf', and a 'flat'" in refused(("a", first), ("b", lists))
    assert "shards a and c have the same passages" in refused(("a", first), ("b", second), ("c", first))
    prebuilt = Listed({}, {**second.info, "index_sha256": "some"})
    assert "shard b has index_sha256 'some', and a None" in refused(("a", first), ("b", prebuilt))


@given(
    scores=st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=4),
    k=st.integers(1, 12),
)
def test_merging_is_one_stable_sort(scores: list[list[int]], k: int) -> None:
    """Of equal scores the earlier shard's comes first, and each shard's own order stands."""
    hits = [
        [Hit(Passage(f"{number}-{place}", "", ""), float(score)) for place, score in enumerate(sorted(row)[::-1])]
        for number, row in enumerate(scores)
    ]
    shards = [
        Shard(str(number), Listed({"cat": row}, {"engine": "dense", "corpus_sha256": str(number)}))
        for number, row in enumerate(hits)
    ]
    everything = [hit for row in hits for hit in row]
    expected = sorted(everything, key=lambda hit: -hit.score)[:k]
    assert ShardedRetriever(shards).search(["cat"], k) == [expected]
