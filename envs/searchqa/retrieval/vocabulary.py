"""Sorted terms in two mapped files: a term's number is its place."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stepcredit.envs.searchqa.records import mapped

_TEXT, _ENDS = "vocabulary.npy", "vocabulary.ends.npy"


class Vocabulary:
    """What `write_vocabulary` wrote."""

    def __init__(self, folder: Path) -> None:
        self._text = mapped(folder / _TEXT).data
        self._ends = mapped(folder / _ENDS).data
        self._size = len(self._ends) - 1

    def __len__(self) -> int:
        return self._size

    def find(self, term: str) -> int | None:
        """The term's number; None where it is none of these."""
        wanted = encoded(term)
        number = bisect_left(range(self._size), wanted, key=self._term)
        return number if number < self._size and self._term(number) == wanted else None

    def _term(self, number: int) -> bytes:
        return bytes(self._text[self._ends[number] : self._ends[number + 1]])


def encoded(term: str) -> bytes:
    """The term as it is stored; sorts as the term does."""
    return term.encode("utf-8", "surrogatepass")


def write_vocabulary(folder: Path, terms: Iterable[bytes]) -> None:
    """Write terms that come in their order, each once."""
    ends = array("q", [0])
    text = bytearray()
    for term in terms:
        text += term
        ends.append(len(text))
    np.save(folder / _TEXT, np.frombuffer(text, np.uint8))
    np.save(folder / _ENDS, np.frombuffer(ends, np.int64))
