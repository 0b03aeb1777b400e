"""Dense retrieval: a sentence encoder of transformers, and FAISS over the passages' vectors.

torch, transformers and FAISS are imported on use, so that nobody else needs them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stepcredit.envs.proxies import HUB_FAULTS
from stepcredit.envs.searchqa.corpus import Corpus, Passage
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.retrieval.faiss_file import FaissFile, faiss_version, load_faiss, open_file
from stepcredit.envs.searchqa.retrieval.index_cache import Recipe, open_index
from stepcredit.envs.searchqa.retrieval.limits import hits_wanted
from stepcredit.envs.searchqa.retrieval.nearest import nearest
from stepcredit.envs.searchqa.retrieval.wire import encodable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENGINE = "dense"

Vectors = npt.NDArray[np.float32]

_BATCH = 64
_VECTORS, _INDEX = "vectors.npy", "index.faiss"


class Pooling(StrEnum):
    """How the vectors of a text's tokens become one."""

    MEAN = "mean"
    CLS = "cls"


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How texts are handed to an encoder; the defaults are those of E5's model card."""

    pooling: Pooling = Pooling.MEAN
    query_prefix: str = "query: "
    passage_prefix: str = "passage: "
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class InvertedLists:
    """An approximate index.

    Attributes:
        nlist: lists that the passages are shared out to.
        nprobe: lists that a query looks into.
    """

    nlist: int
    nprobe: int


def title_before_text(passage: Passage) -> str:
    """How passages are written for the encoder."""
    return f"{passage.title} {passage.text}" if passage.title else passage.text


class SentenceEncoder:
    """Turns texts into vectors of length 1."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings | None = None
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._settings = settings or EncoderSettings()
        # Tokenizers keep padding and truncation as state; two threads must not set it at once.
        self._lock = threading.Lock()
        self.dimensions = int(model.config.hidden_size)
        self.identity: Mapping[str, str] = self._identity()

    @classmethod
    def load(cls, name: str, settings: EncoderSettings | None = None) -> SentenceEncoder:
        """The model of the Hugging Face hub called `name`, or the one in that folder; on a GPU where there is one.

        Raises:
            RetrievalError: there is none, or its libraries are missing.
        """
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise RetrievalError(f"dense retrieval needs {error.name}; install torch and transformers") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModel.from_pretrained(name, dtype=torch.float32)
        except HUB_FAULTS as error:
            if "connect" in str(error) or "offline" in str(error):
                raise RetrievalError(
                    f"sentence encoder {name!r} is not in the cache, and the Hugging Face hub cannot be reached from"
                    " here; download it where it can be, or set the retriever's encoder to a folder that holds it"
                ) from error
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise RetrievalError(
                f"sentence encoder {name!r} cannot be loaded ({reason}); give the name of a model that can be"
                " downloaded, or its folder"
            ) from error
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, settings)

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """One vector a query. Equal to about 1e-6 in any batch."""
        return self._encode([f"{self._settings.query_prefix}{query}" for query in queries])

    def encode_passages(
        self, passages: Sequence[Passage], written: Callable[[Passage], str] = title_before_text
    ) -> Vectors:
        """One vector a passage, written in this way."""
        return self._encode([f"{self._settings.passage_prefix}{written(passage)}" for passage in passages])

    def _encode(self, texts: Sequence[str]) -> Vectors:
        import torch

        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for span in _spans(len(texts)):
            with torch.inference_mode():
                vectors[span] = self._pooled([encodable(text) for text in texts[span]]).cpu().numpy()
        return vectors

    def _pooled(self, texts: list[str]) -> Tensor:
        from torch.nn.functional import normalize

        with self._lock:
            inputs = self._tokenizer(
                texts, padding=True, truncation=True, max_length=self._settings.max_tokens, return_tensors="pt"
            )
        inputs = inputs.to(self._model.device)
        states: Tensor = self._model(**inputs).last_hidden_state
        if self._settings.pooling is Pooling.CLS:
            return normalize(states[:, 0])
        shown = inputs["attention_mask"].unsqueeze(-1)
        return normalize((states * shown).sum(1) / shown.sum(1))

    def _identity(self) -> dict[str, str]:
        settings = self._settings
        return {
            "encoder": _sha256(self._model, self._tokenizer),
            "pooling": settings.pooling.value,
            "query_prefix": settings.query_prefix,
            "passage_prefix": settings.passage_prefix,
            "max_tokens": str(settings.max_tokens),
            "device": self._model.device.type,
        }


class DenseRetriever:
    """Passages by the inner product of their vectors with the query's.

    Args:
        index: an approximate index, or a file that holds one; None searches exactly.
        cache: where vectors and indexes live; None takes the user's cache directory.

    Raises:
        RetrievalError: FAISS is missing, the index cannot be written, there are fewer passages than lists, or the file
            does not fit.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: SentenceEncoder,
        index: InvertedLists | FaissFile | None = None,
        cache: Path | None = None,
    ) -> None:
        self._corpus = corpus
        self._encoder = encoder
        if isinstance(index, FaissFile):
            self._index, described = open_file(index, corpus, encoder, cache)
        else:
            self._index, described = _built(index, corpus, encoder, cache)
        self._info = {
            "engine": ENGINE,
            **encoder.identity,
            **described,
            **faiss_version(),
            "corpus_sha256": corpus.sha256,
        }

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`. Of equal scores the earlier passage's comes first; those that are equal but for rounding may
        change places between batches.
        """
        wanted = hits_wanted(k, len(self._corpus))
        hits: list[list[Hit]] = [[] for _ in queries]
        asked = [position for position, query in enumerate(queries) if query.strip()]
        if not asked:
            return hits
        vectors = self._encoder.encode_queries([queries[position] for position in asked])
        scores, found = nearest(self._index, vectors, wanted)
        for position, row_scores, row_found in zip(asked, scores.tolist(), found.tolist(), strict=True):
            pairs = zip(row_found, row_scores, strict=True)
            hits[position] = [Hit(self._corpus[at], score) for at, score in pairs if at >= 0]
        return hits

    @property
    def info(self) -> Mapping[str, str]:
        """See `Retriever`."""
        return self._info


def _built(
    lists: InvertedLists | None, corpus: Corpus, encoder: SentenceEncoder, cache: Path | None
) -> tuple[Any, dict[str, str]]:
    """The index of our own making, and what identifies it."""
    load_faiss()  # before an hour of encoding
    if lists is None:
        return _exact(_open_vectors(corpus, encoder, cache)), {"index": "flat"}
    if lists.nlist > len(corpus):
        raise RetrievalError(f"an index of {lists.nlist} lists needs as many passages, not {len(corpus)}; lower nlist")
    vectors = _open_vectors(corpus, encoder, cache)
    shape = {"index": "ivf", "nlist": str(lists.nlist), "nprobe": str(lists.nprobe)}
    return _open_lists(corpus, encoder, vectors, lists, cache), shape


def _open_vectors(corpus: Corpus, encoder: SentenceEncoder, cache: Path | None) -> Vectors:
    """The passages' vectors, mapped from the cache."""

    def build(folder: Path) -> None:
        shape = (len(corpus), encoder.dimensions)
        vectors = np.lib.format.open_memmap(folder / _VECTORS, "w+", np.dtype(np.float32), shape)
        for span in _spans(len(corpus)):
            vectors[span] = encoder.encode_passages(corpus.passages[span])
        vectors.flush()

    folder = open_index(Recipe.of(f"{ENGINE}-vectors", encoder.identity, corpus), build, cache)
    mapped: Vectors = np.load(folder / _VECTORS, mmap_mode="r")
    return mapped


def _exact(vectors: Vectors) -> Any:
    faiss = load_faiss()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _open_lists(
    corpus: Corpus, encoder: SentenceEncoder, vectors: Vectors, lists: InvertedLists, cache: Path | None
) -> Any:
    faiss = load_faiss()

    def build(folder: Path) -> None:
        index = faiss.index_factory(vectors.shape[1], f"IVF{lists.nlist},Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        faiss.write_index(index, str(folder / _INDEX))

    parameters = {**encoder.identity, "nlist": str(lists.nlist), "faiss": faiss.__version__}
    folder = open_index(Recipe.of(f"{ENGINE}-lists", parameters, corpus), build, cache)
    index = faiss.read_index(str(folder / _INDEX))
    index.nprobe = lists.nprobe
    return index


def _sha256(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Over configuration, weights and vocabulary: the same wherever the model was loaded from."""
    import torch

    digest = hashlib.sha256(model.config.model_type.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    return digest.hexdigest()


def _spans(size: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, size, _BATCH))
