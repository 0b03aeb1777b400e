"""Dense retrieval with a tiny BERT of random weights, written to a folder as from_pretrained wants it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel, PreTrainedTokenizerFast

from stepcredit.envs.searchqa.corpus import Passage
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.dense import (
    DenseRetriever,
    EncoderSettings,
    InvertedLists,
    Pooling,
    SentenceEncoder,
)
from tests.envs.searchqa.engines import ids
from tests.envs.searchqa.tiny_encoder import CORPUS, WORDS, write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = EncoderSettings(query_prefix="", passage_prefix="")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceEncoder:
    return SentenceEncoder.load(str(folder), PLAIN)


@pytest.fixture(scope="module")
def flat(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> DenseRetriever:
    return DenseRetriever(CORPUS, encoder, cache=tmp_path_factory.mktemp("cache"))


def words_of(passage: Passage) -> str:
    return f"{passage.title} {passage.text}"


def test_a_passages_own_words_find_it(flat: DenseRetriever) -> None:
    for passage, hits in zip(CORPUS.passages, flat.search(list(map(words_of, CORPUS.passages)), 3), strict=True):
        assert words_of(hits[0].passage) == words_of(passage)
        assert hits[0].score == pytest.approx(1.0, abs=1e-5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_scores_are_inner_products_of_what_the_model_says(folder: Path, flat: DenseRetriever) -> None:
    """Mean pooling worked out anew, one text at a time, without padding."""
    tokenizer, model = PreTrainedTokenizerFast.from_pretrained(folder), BertModel.from_pretrained(folder).eval()

    def vector(text: str) -> np.ndarray:
        with torch.inference_mode():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        return mean / np.linalg.norm(mean)

    query = "a hawk in the rain"
    expected = sorted((float(vector(query) @ vector(words_of(it))) for it in CORPUS.passages), reverse=True)
    assert [hit.score for hit in flat.search([query], 90)[0]] == pytest.approx(expected, abs=1e-5)


def test_batching_does_not_matter(encoder: SentenceEncoder) -> None:
    texts = [" ".join(WORDS[: 1 + number % 20]) for number in range(130)]
    whole = encoder.encode_queries(texts)
    single = np.concatenate([encoder.encode_queries([text]) for text in texts])
    np.testing.assert_allclose(whole, single, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_the_same_again_is_the_same_bits(flat: DenseRetriever) -> None:
    queries = ["oak and elm", "tern", "gale over the quay"]
    assert flat.search(queries, 5) == flat.search(queries, 5)


def test_prefixes_go_before_queries_and_passages(folder: Path, encoder: SentenceEncoder) -> None:
    prefixed = SentenceEncoder.load(str(folder))
    passage = CORPUS[3]
    np.testing.assert_allclose(prefixed.encode_queries(["oak"]), encoder.encode_queries(["query: oak"]), atol=1e-6)
    by_hand = encoder.encode_queries([f"passage: {words_of(passage)}"])
    np.testing.assert_allclose(prefixed.encode_passages([passage]), by_hand, atol=1e-6)


def test_cls_pooling_takes_the_first_token(folder: Path) -> None:
    encoder = SentenceEncoder.load(str(folder), EncoderSettings(Pooling.CLS, "", ""))
    tokenizer, model = PreTrainedTokenizerFast.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        first = model(**tokenizer("oak", return_tensors="pt")).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(encoder.encode_queries(["oak"])[0], first / np.linalg.norm(first), atol=1e-5)


def test_texts_are_cut_at_the_limit(folder: Path) -> None:
    encoder = SentenceEncoder.load(str(folder), EncoderSettings(max_tokens=8))
    long, longer = encoder.encode_queries(["oak " * 20, "oak " * 10_000])
    np.testing.assert_allclose(long, longer, atol=1e-6)


def test_looking_into_all_lists_equals_exact_search(
    flat: DenseRetriever, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    queries = [" ".join(WORDS[number : number + 3]) for number in range(18)]
    lists = DenseRetriever(CORPUS, encoder, InvertedLists(nlist=6, nprobe=6), tmp_path)
    for exact, found in zip(flat.search(queries, 5), lists.search(queries, 5), strict=True):
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in exact], abs=1e-6)


def test_a_query_gets_fewer_hits_where_its_lists_hold_no_more(encoder: SentenceEncoder, tmp_path: Path) -> None:
    retriever = DenseRetriever(CORPUS, encoder, InvertedLists(nlist=30, nprobe=1), tmp_path)
    counts = [len(few) for few in retriever.search(WORDS, 90)]
    # A single list may well be empty: which lists fill up depends on the machine's arithmetic.
    assert all(count < 90 for count in counts)
    assert any(counts)


def test_odd_queries(flat: DenseRetriever) -> None:
    hits = flat.search(["", " \n", "\ud800 oak \x00", "x" * 10_000, "東京"], 2)
    assert [len(found) for found in hits] == [0, 0, 2, 2, 2]
    assert flat.search([], 2) == flat.search([""], 2)[1:] == []


def test_no_more_hits_than_passages(flat: DenseRetriever) -> None:
    assert len(set(ids(flat.search(["oak"], 100)[0]))) == 90


def test_vectors_and_lists_are_made_once(folder: Path, tmp_path: Path) -> None:
    def open_both(nprobe: int) -> DenseRetriever:
        return DenseRetriever(CORPUS, SentenceEncoder.load(str(folder)), InvertedLists(4, nprobe), tmp_path)

    first = open_both(1)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if not path.name.startswith(".")}
    assert {path.suffix for path in stamps} >= {".npy", ".faiss"}
    assert open_both(1).search(["oak"], 3) == first.search(["oak"], 3)
    open_both(4)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_info_tells_encoders_and_indexes_apart(folder: Path, tmp_path: Path) -> None:
    encoder = SentenceEncoder.load(str(folder))
    exact = DenseRetriever(CORPUS, encoder, cache=tmp_path).info
    lists = DenseRetriever(CORPUS, encoder, InvertedLists(4, 2), tmp_path).info
    cls = DenseRetriever(CORPUS, SentenceEncoder.load(str(folder), EncoderSettings(Pooling.CLS)), cache=tmp_path).info
    assert (exact["engine"], exact["index"], exact["corpus_sha256"]) == ("dense", "flat", CORPUS.sha256)
    assert (lists["index"], lists["nlist"], lists["nprobe"]) == ("ivf", "4", "2")
    assert exact["encoder"] == cls["encoder"]
    assert len({str(info) for info in (exact, lists, cls)}) == 3
    torch.manual_seed(1)
    model = BertModel.from_pretrained(folder)
    torch.nn.init.normal_(model.embeddings.word_embeddings.weight)
    other = SentenceEncoder(model, PreTrainedTokenizerFast.from_pretrained(folder))
    assert other.identity["encoder"] != exact["encoder"]


def test_more_lists_than_passages_are_refused(encoder: SentenceEncoder, tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="an index of 91 lists needs as many passages, not 90; lower nlist"):
        DenseRetriever(CORPUS, encoder, InvertedLists(91, 1), tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=rf"^sentence encoder '{tmp_path}' cannot be loaded \([^\n]*$"):
        SentenceEncoder.load(str(tmp_path))


def test_the_module_comes_without_torch() -> None:
    code = (
        "import sys, stepcredit.envs.searchqa.retrieval.opening; "
        "print({'torch', 'transformers', 'faiss'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
