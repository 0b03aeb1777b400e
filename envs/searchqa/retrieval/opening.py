"""Retrievers by name, as a run's spec and the command line choose them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from stepcredit.envs.naming import unknown
from stepcredit.envs.searchqa.corpus import Corpus
from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError, Retriever
from stepcredit.envs.searchqa.retrieval.dense import (
    DenseRetriever,
    EncoderSettings,
    InvertedLists,
    Pooling,
    SentenceEncoder,
)
from stepcredit.envs.searchqa.retrieval.faiss_file import NPROBE, FaissFile, require_fit
from stepcredit.envs.searchqa.retrieval.prebuilt import find, recorded

Engine = Literal["bm25", "lucene", "dense", "http"]

FLAT, IVF = "flat", "ivf"

URL_VARIABLE = "STEPCREDIT_RETRIEVER"

_LEXICAL = ("k1", "b")
_FIELDS: Mapping[Engine, tuple[str, ...]] = {
    "bm25": _LEXICAL,
    "lucene": (*_LEXICAL, "index"),
    "dense": ("encoder", "pooling", "query_prefix", "passage_prefix", "max_tokens", "index", "nlist", "nprobe"),
    "http": ("url", "timeout_s", "retries"),
}


class RetrieverSpec(BaseModel):
    """Which retriever, and its parameters; those of another engine must be left alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    engine: Engine = "bm25"
    """bm25 (embedded), lucene (through Anserini), dense (sentence vectors), or http: a server that has one of these."""
    k1: float = Field(0.9, ge=0.0, allow_inf_nan=False)
    """BM25's saturation of term frequency."""
    b: float = Field(0.4, ge=0.0, le=1.0)
    """BM25's normalisation by length."""
    encoder: str = "intfloat/e5-base-v2"
    """Sentence encoder: a model of the Hugging Face hub, or its folder."""
    pooling: Pooling = Pooling.MEAN
    """How token vectors become one: their mean, or the first token's."""
    query_prefix: str = "query: "
    """Put before each query; E5 needs it."""
    passage_prefix: str = "passage: "
    """Put before each passage; E5 needs it."""
    max_tokens: int = Field(256, ge=8)
    """Tokens of a query or a passage that the encoder reads."""
    index: str = Field(FLAT, min_length=1)
    """Of engine dense: flat searches exactly, ivf in inverted lists. Of lucene and dense: an index that is built
    already, a Lucene folder or a FAISS file; one in $STEPCREDIT_DATA/searchqa keeps its place out of specs."""
    nlist: int = Field(1024, ge=1)
    """Inverted lists of an ivf index."""
    nprobe: int = Field(NPROBE, ge=1)
    """Inverted lists that a query looks into."""
    url: str | None = None
    """The server; None takes $STEPCREDIT_RETRIEVER, else this machine's port 8000, and keeps the place out of specs."""
    timeout_s: float = Field(30.0, gt=0.0, allow_inf_nan=False)
    """Seconds without a sign of life before a try counts as failed."""
    retries: int = Field(5, ge=0)
    """Further tries, each after twice the pause of the one before; half a second at first."""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> RetrieverSpec:
        """The spec, with defaults for whatever is left open.

        Raises:
            RetrievalError: unknown field, a value out of range, or a parameter of another engine.
        """
        for name in values:
            if name not in cls.model_fields:
                raise RetrievalError(str(unknown("setting of a retriever", name, cls.model_fields)))
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            seen = f", but the value is {first['input']!r}" if place else ""
            message = first["msg"].removeprefix("Value error, ")
            raise RetrievalError(f"retriever{'.' if place else ''}{place}: {message.lower()}{seen}") from error

    @field_validator("index")
    @classmethod
    def _without_place(cls, index: str) -> str:
        name = recorded(index, os.environ)
        return index if name in (FLAT, IVF) else name

    @property
    def prebuilt(self) -> str | None:
        """The index that is taken as it is; None where one is built."""
        return None if self.index in (FLAT, IVF) else self.index

    @model_serializer(mode="wrap")
    def _own_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings of other engines stay out of a run's spec."""
        used = self._used()
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name in used}

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        used = self._used()
        for name, field in type(self).model_fields.items():
            if name not in used and getattr(self, name) != field.default:
                raise ValueError(self._fault(name))
        return self

    def _used(self) -> set[str]:
        """The settings that mean something here: an index that is there has its lists, and Lucene builds one kind."""
        without = "nlist" if self.prebuilt else "index" if self.engine == "lucene" else None
        return {"engine", *_FIELDS[self.engine]} - {without}

    def _fault(self, name: str) -> str:
        if name not in _FIELDS[self.engine]:
            return f"engine {self.engine} has no setting {name}; leave it out, or choose another engine"
        if name == "nlist":
            return "nlist has no effect on an index that is built already; leave it out"
        return f"engine {self.engine} has no {self.index} index; leave index out, or give a Lucene folder's path"


def open_retriever(spec: RetrieverSpec, corpus: Corpus | None) -> Retriever:
    """The retriever that the spec describes. The lexical engines and the client are imported on use.

    Args:
        corpus: what a local engine searches; a server has its own.

    Raises:
        RetrievalError: the engine's library, index or server cannot be used, or there is no corpus for it.
    """
    if spec.engine == "http":
        from stepcredit.envs.searchqa.retrieval.client import HttpRetriever

        url = spec.url or os.environ.get(URL_VARIABLE) or f"http://{wire.HOST}:{wire.PORT}"
        return HttpRetriever(url, spec.timeout_s, spec.retries)
    if corpus is None:
        raise RetrievalError(f"retriever {spec.engine} has nothing to search; give it a corpus, or choose engine http")
    if spec.engine == "bm25":
        from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever

        return Bm25Retriever(corpus, spec.k1, spec.b)
    if spec.engine == "lucene":
        from stepcredit.envs.searchqa.retrieval.lucene import LuceneRetriever

        return LuceneRetriever(corpus, spec.k1, spec.b, index=_found(spec))
    return _open_dense(spec, corpus)


def _open_dense(spec: RetrieverSpec, corpus: Corpus) -> Retriever:
    settings = EncoderSettings(spec.pooling, spec.query_prefix, spec.passage_prefix, spec.max_tokens)
    index = _dense_index(spec, corpus)  # an encoder may take minutes to come
    return DenseRetriever(corpus, SentenceEncoder.load(spec.encoder, settings), index)


def _dense_index(spec: RetrieverSpec, corpus: Corpus) -> InvertedLists | FaissFile | None:
    there = _found(spec)
    if there is not None:
        file = FaissFile(there, spec.nprobe)
        require_fit(file, corpus)
        return file
    return InvertedLists(spec.nlist, spec.nprobe) if spec.index == IVF else None


def _found(spec: RetrieverSpec) -> Path | None:
    return None if spec.prebuilt is None else find(spec.prebuilt, os.environ)
