"""Lucene itself, through Anserini, in this process's Java virtual machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepcredit.envs.searchqa.corpus import Corpus, Passage, contents
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.retrieval.fingerprints import fingerprint
from stepcredit.envs.searchqa.retrieval.index_cache import Recipe, open_index
from stepcredit.envs.searchqa.retrieval.jvm import Toolchain, find_toolchain, machine
from stepcredit.envs.searchqa.retrieval.limits import hits_wanted
from stepcredit.envs.searchqa.retrieval.lucene_folder import explained, lucene_files, passage_of, require_fit

ENGINE = "lucene"

_INDEXER = "io.anserini.index.IndexCollection"
_SEARCHER = "io.anserini.search.SimpleSearcher"


class LuceneRetriever:
    """Lucene's BM25 over titles and texts as Pyserini runs it; of two equal scores the earlier passage comes first.

    Not usable in a child that was forked after it was made.

    Args:
        cache: where indexes live; None takes the user's cache directory.
        index: a folder that Pyserini or Anserini wrote, of documents with the passages' ids; None builds one. Of two
            equal scores its smaller id comes first, as text.

    Raises:
        RetrievalError: Java or Anserini is missing, the index cannot be written, or the given one does not fit.
    """

    def __init__(
        self,
        corpus: Corpus,
        k1: float = 0.9,
        b: float = 0.4,
        cache: Path | None = None,
        *,
        index: Path | None = None,
    ) -> None:
        self._corpus = corpus
        self._given = index is not None
        tools = find_toolchain(os.environ)
        recipe = Recipe.of(ENGINE, {"anserini": tools.jar.stem.split("-")[1]}, corpus)
        files = [] if index is None else lucene_files(index)
        self._folder = index or open_index(recipe, lambda empty: _build(empty, corpus, tools), cache)
        self._machine = machine()
        self._list = self._machine.java_class("java.util.ArrayList")
        with explained(self._machine, self._folder):
            self._searcher = self._machine.java_class(_SEARCHER)(str(self._folder))
            self._searcher.set_bm25(k1, b)
            self._require_fit()
        content = {"index_sha256": fingerprint(files, cache)} if files else {}
        self._info = {
            "engine": ENGINE,
            "k1": str(k1),
            "b": str(b),
            **recipe.parameters,
            **content,
            "corpus_sha256": corpus.sha256,
        }

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`."""
        self._machine.check()
        wanted = hits_wanted(k, len(self._corpus))
        texts = [_encodable(query) for query in queries]
        names = [str(number) for number in range(len(texts))]
        with explained(self._machine, self._folder):
            if len(texts) == 1:
                return [self._hits(self._searcher.search(texts[0], wanted))]
            found = self._searcher.batch_search(self._java(texts), self._java(names), wanted, os.cpu_count() or 1)
            return [self._hits(found.get(name)) for name in names]

    @property
    def info(self) -> Mapping[str, str]:
        """See `Retriever`."""
        return self._info

    def _hits(self, documents: Iterable[Any]) -> list[Hit]:
        return [Hit(self._passage(document.docid), document.score) for document in documents]

    def _passage(self, docid: str) -> Passage:
        return passage_of(self._folder, self._corpus, docid) if self._given else self._corpus[int(docid)]

    def _require_fit(self) -> None:
        if self._given:
            require_fit(self._folder, self._searcher, self._corpus)
        elif (indexed := self._searcher.get_total_num_docs()) != len(self._corpus):
            raise RetrievalError(
                f"Lucene indexed {indexed} of {len(self._corpus)} passages; remove {self._folder} and try again"
            )

    def _java(self, texts: Iterable[str]) -> Any:
        converted = self._list()
        for text in texts:
            converted.add(text)
        return converted


def _encodable(query: str) -> str:
    """The query with half surrogate pairs, which no Java string can be made from, replaced."""
    return query.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _build(folder: Path, corpus: Corpus, tools: Toolchain) -> None:
    collection = folder / "collection"
    collection.mkdir()
    width = len(str(len(corpus)))
    with (collection / "passages.jsonl").open("w", encoding="utf-8") as file:
        for position, passage in enumerate(corpus.passages):
            # Anserini breaks ties by id, so padded positions break them by the corpus's order.
            row = {"id": f"{position:0{width}d}", "contents": _encodable(contents(passage))}
            file.write(json.dumps(row) + "\n")
    arguments = ["-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator", "-optimize"]
    places = ["-input", str(collection), "-index", str(folder), "-threads", str(os.cpu_count() or 1)]
    done = subprocess.run(tools.command(_INDEXER, *arguments, *places), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise RetrievalError(f"Lucene's indexer ended with status {done.returncode} and said: {said}")
    shutil.rmtree(collection)
