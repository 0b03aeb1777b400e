"""Indexes that somebody else built: where they lie, and what is said of one that does not fit."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

from stepcredit.envs.searchqa.corpus import Corpus
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.sources import FOLDER

_COMPARED = 16


def find(name: str, environ: Mapping[str, str]) -> Path:
    """The index of that name beside the corpus, in $STEPCREDIT_DATA/searchqa, else the one at that path.

    Raises:
        RetrievalError: there is none.
    """
    data = environ.get("STEPCREDIT_DATA")
    places = [Path(data) / FOLDER / name, Path(name)] if data else [Path(name)]
    for place in dict.fromkeys(places):
        if place.exists():
            return place
    tried = " or at ".join(str(place) for place in dict.fromkeys(places))
    raise RetrievalError(
        f"there is no index at {tried}; give the path of a Lucene folder (engine lucene) or of a FAISS file (engine"
        " dense), or leave index out to build one"
    )


def recorded(name: str, environ: Mapping[str, str]) -> str:
    """The path as specs name it: one that leads into $STEPCREDIT_DATA/searchqa by what follows there, so that the place
    of that folder stays out of them.
    """
    if not environ.get("STEPCREDIT_DATA"):
        return name
    place, folder = (Path(os.path.abspath(path)) for path in (name, Path(environ["STEPCREDIT_DATA"], FOLDER)))
    return str(place.relative_to(folder)) if folder in place.parents else name


def require_size(path: Path, held: int, corpus: Corpus) -> None:
    """Refuse an index that holds more or fewer passages than the corpus.

    Raises:
        RetrievalError: it does.
    """
    if held != len(corpus):
        raise foreign(path, f"holds {held} passages, and {called(corpus)} {len(corpus)}")


def compared(size: int) -> list[int]:
    """Places, of so many, at which index and corpus are held against each other: the same ones each time."""
    return sorted(random.Random("prebuilt index").sample(range(size), min(size, _COMPARED)))


def called(corpus: Corpus) -> str:
    """The corpus, as messages name it."""
    return corpus.source or "the corpus"


def foreign(path: Path, seen: str) -> RetrievalError:
    """What is said of an index that does not belong to the corpus."""
    return RetrievalError(f"index {path} {seen}; it was built from another corpus: choose the one that belongs to it")
