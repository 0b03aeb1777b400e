"""A flat FAISS index and its corpus, cut into parts whose servers answer together as one server of the whole."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stepcredit.envs.searchqa.cache_folder import CacheFolder, Manifest, read_manifest
from stepcredit.envs.searchqa.corpus import Corpus, Passage
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.faiss_file import load_faiss, map_index, require_inner_product
from stepcredit.envs.searchqa.retrieval.prebuilt import require_size
from stepcredit.envs.searchqa.retrieval.progress import Progress

INDEX, CORPUS = "flat.index", "corpus.jsonl"

_BLOCK = 1024
"""Vectors that FAISS multiplies with a batch of queries at a time (its `distance_compute_blas_database_bs`).

A part that starts where a block of the whole starts has the same products, to the last bit.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A folder with the index and the corpus of some passages, and their places in the whole, counted from 0."""

    folder: Path
    places: range


@dataclass(frozen=True, slots=True)
class FlatFile:
    """A FAISS file that holds vectors for exact search by inner product, mapped and not read."""

    path: Path
    index: Any

    @classmethod
    def open(cls, path: Path) -> FlatFile:
        """The index in the file.

        Raises:
            RetrievalError: FAISS is missing, or the file cannot be read, is no FAISS index, truncated or of another
                kind.
        """
        faiss, index = load_faiss(), map_index(path)
        if not isinstance(index, faiss.IndexFlat):
            raise RetrievalError(
                f"index {path} is not flat (FAISS calls it {type(index).__name__}), and parts of it would not answer as"
                " the whole; choose a flat one"
            )
        require_inner_product(path, index)
        return cls(path, index)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """A row each; to be used while the index is at hand."""
        size, dimensions = len(self), self.index.d
        rows: npt.NDArray[np.float32] = load_faiss().rev_swig_ptr(self.index.get_xb(), size * dimensions)
        return rows.reshape(size, dimensions)


def split(whole: FlatFile, corpus: Corpus, parts: list[Part]) -> Iterator[Part]:
    """Write each part that is not there, whole or not at all, and give it as soon as it is.

    Those that are there are read and, where they are damaged, written again, which is said.

    Args:
        parts: as `planned` makes them.

    Raises:
        RetrievalError: the corpus has more or fewer passages than the index, a folder is there and was cut from
            something else, or one cannot be written.
    """
    require_size(whole.path, len(whole), corpus)
    folders = [_folder(whole, corpus, part) for part in parts]
    for folder in folders:
        _require_ours(folder)
    for part, folder in zip(parts, folders, strict=True):
        try:
            folder.open(partial(_write, whole, corpus, part))
        except OSError as error:
            raise RetrievalError(
                f"{part.folder} cannot be written ({error.strerror or error}); make room there or choose another"
                " folder, and run the same command again"
            ) from error
        yield part


def planned(whole: FlatFile, count: int, out: Path) -> list[Part]:
    """So many parts of about one size, in the corpus's order, and where they will lie.

    Raises:
        RetrievalError: there are fewer vectors than parts, no parts are wanted, or something else is in the folder.
    """
    size = len(whole)
    if not 1 <= count <= size:
        raise RetrievalError(
            f"index {whole.path} holds {size} vectors and cannot be cut into {count} parts; choose 1 to {size}"
        )
    step = _BLOCK if count * _BLOCK <= size else 1
    starts = [size // step * number // count * step for number in range(count)]
    spans = map(range, starts, [*starts[1:], size])
    parts = [Part(out / f"part-{number}-of-{count}", places) for number, places in enumerate(spans, 1)]
    _require_nothing_else(out, parts)
    return parts


def _require_nothing_else(out: Path, parts: list[Part]) -> None:
    """Locks and what an interrupted writing left have the parts' names after a dot."""
    names = tuple(part.folder.name for part in parts)
    try:
        there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    except OSError as error:
        raise RetrievalError(f"{out} cannot be used for parts ({error.strerror}); choose another folder") from error
    others = [name for name in there if name not in names and not name.startswith(tuple(f".{it}." for it in names))]
    if others:
        raise RetrievalError(f"{out} holds something else ({others[0]}); choose a folder that is new or empty")


def _folder(whole: FlatFile, corpus: Corpus, part: Part) -> CacheFolder:
    status = whole.path.stat()
    facts = {
        "index_size": status.st_size,
        "index_mtime_ns": status.st_mtime_ns,
        "whole_corpus_sha256": corpus.sha256,
        "first": part.places.start,
        "passages": len(part.places),
    }
    return CacheFolder(part.folder, "part", facts, partial(_misfit, part.folder, facts), "writing it again")


def _misfit(folder: Path, facts: Manifest, manifest: Manifest) -> str | None:
    if facts.items() <= manifest.items():
        return None
    return f"{folder} is there, and was not cut from this index and corpus as they are now"


def _require_ours(folder: CacheFolder) -> None:
    fault = folder.misfit(read_manifest(folder.path) or {}) if folder.path.exists() else None
    if fault is not None:
        raise RetrievalError(f"{fault}; remove it or choose another folder")


def _write(whole: FlatFile, corpus: Corpus, part: Part, folder: Path) -> None:
    vectors = whole.vectors
    progress = Progress(len(part.places) * vectors[0].nbytes)
    with (folder / INDEX).open("wb") as index, (folder / CORPUS).open("w", encoding="ascii") as passages:
        index.write(_header(len(part.places), whole.index.d))
        for start in part.places[::_BLOCK]:
            block = slice(start, min(start + _BLOCK, part.places.stop))
            progress.add(f"writing {part.folder}", vectors[block].nbytes)
            index.write(vectors[block].tobytes())
            passages.writelines(_line(passage) for passage in corpus.passages[block])


def _header(size: int, dimensions: int) -> bytes:
    """What FAISS writes before so many vectors: what it writes of an empty index, but for the two numbers in it."""
    faiss = load_faiss()
    empty: bytes = faiss.serialize_index(faiss.IndexFlatIP(dimensions)).tobytes()
    kind, rest = empty[:8], empty[16:-8]
    return kind + struct.pack("=q", size) + rest + struct.pack("=Q", size * dimensions)


def _line(passage: Passage) -> str:
    """In ASCII, which keeps half surrogate pairs."""
    return json.dumps({"id": passage.id, "title": passage.title, "text": passage.text}) + "\n"
