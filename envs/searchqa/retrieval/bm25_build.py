"""Building BM25's index in bounded memory: postings of some passages at a time, then all of them merged term by term.

The scores are those of bm25s to the bit, which would hold every token of the corpus at once. Held here is a batch of
tokens or a block of postings; beside it four bytes a passage, its length, and twelve for each term of each batch.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, repeat
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from bm25s import scoring

from stepcredit.envs.searchqa.retrieval.vocabulary import encoded, write_vocabulary

INDPTR, INDICES, DATA = (f"{name}.csc.index.npy" for name in ("indptr", "indices", "data"))

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_METHOD = "lucene"


@dataclass(frozen=True, slots=True)
class Builder:
    """How an index is built.

    Attributes:
        k1: saturation of term frequency.
        b: normalisation by length.
        tokens: of a batch, which ends with the passage that reaches them.
        postings: of a block; a term with more has a block of its own.
    """

    k1: float
    b: float
    tokens: int = 1 << 23
    postings: int = 1 << 22

    def build(self, folder: Path, texts: Iterable[Sequence[str]]) -> None:
        """Write the vocabulary, and over its terms the index: `indptr`, `indices` and `data` of a matrix in CSC.

        Meanwhile the folder also holds eight bytes a posting which are deleted in the end.

        Args:
            texts: each passage's terms; at least one passage.
        """
        with TemporaryDirectory(dir=folder) as scratch:
            lengths, segments = array("i"), []
            for number, batch in enumerate(_batches(texts, self.tokens)):
                segments.append(Segment.write(Path(scratch) / str(number), batch, len(lengths)))
                lengths += batch.lengths
            numbers = [array("i") for _ in segments]
            write_vocabulary(folder, _merged_terms(segments, numbers))
            terms = [np.frombuffer(own, np.int32) for own in numbers]
            self._write(folder, _Postings(segments, terms), np.frombuffer(lengths, np.int32))

    def _write(self, folder: Path, merged: _Postings, lengths_N: Ints) -> None:
        indptr = np.concatenate([[0], np.cumsum(merged.holders_V)])
        np.save(folder / INDPTR, indptr)
        idf_V = _idf(merged.holders_V, len(lengths_N))
        with (folder / INDICES).open("wb") as indices, (folder / DATA).open("wb") as data:
            _write_header(indices, np.dtype(np.int32), int(indptr[-1]))
            _write_header(data, np.dtype(np.float32), int(indptr[-1]))
            for terms in _blocks(indptr, self.postings):
                terms_P, passages_P, times_P = merged.block(terms)
                saturated_P = scoring._select_tfc_scorer(_METHOD)(
                    tf_array=times_P.astype(np.float32),
                    l_d=lengths_N[passages_P],
                    l_avg=lengths_N.mean(),
                    k1=self.k1,
                    b=self.b,
                )
                indices.write(passages_P.data)
                data.write((idf_V[terms_P] * saturated_P).astype(np.float32).data)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive passages as numbers.

    Attributes:
        tokens: their terms' numbers, passage after passage.
        lengths: tokens of each passage.
        vocabulary: the terms' numbers.
    """

    tokens: array[int] = field(default_factory=lambda: array("i"))
    lengths: array[int] = field(default_factory=lambda: array("i"))
    vocabulary: dict[str, int] = field(default_factory=dict)

    def add(self, terms: Sequence[str]) -> None:
        """One more passage."""
        self.tokens.extend([self.vocabulary.setdefault(term, len(self.vocabulary)) for term in terms])
        self.lengths.append(len(terms))


@dataclass(frozen=True, slots=True)
class Segment:
    """A batch's postings on disk, sorted by term, then by passage.

    Attributes:
        path: the names of its files, but for their endings.
        starts_T1: where each term's postings start, and where the last one's end.
    """

    path: Path
    starts_T1: Ints

    @classmethod
    def write(cls, path: Path, batch: Batch, first: int) -> Segment:
        """Sort and write a batch, whose first passage has that position in the corpus."""
        terms = sorted(batch.vocabulary)
        ranks = np.empty(len(terms), np.int64)
        ranks[[batch.vocabulary[term] for term in terms]] = np.arange(len(terms))
        lengths = np.frombuffer(batch.lengths, np.int32)
        pairs = ranks[np.frombuffer(batch.tokens, np.int32)] << 32
        pairs |= np.repeat(np.arange(first, first + len(lengths)), lengths)
        postings, times = np.unique(pairs, return_counts=True)
        path.with_suffix(".terms").write_bytes(b"".join(encoded(term) + b"\n" for term in terms))
        (postings & 0xFFFFFFFF).astype(np.int32).tofile(path.with_suffix(".passages"))
        times.astype(np.int32).tofile(path.with_suffix(".times"))
        return cls(path, np.searchsorted(postings, np.arange(len(terms) + 1) << 32).astype(np.int32))

    def terms(self) -> Iterator[bytes]:
        """In their order. Words hold no line breaks."""
        with self.path.with_suffix(".terms").open("rb") as lines:
            for line in lines:
                yield line[:-1]

    def postings(self, terms: slice) -> tuple[Ints, Ints]:
        """The passages of these terms' postings, and how often each holds its term."""
        start, end = int(self.starts_T1[terms.start]), int(self.starts_T1[terms.stop])
        passages, times = (
            np.fromfile(self.path.with_suffix(ending), np.int32, end - start, offset=start * 4)
            for ending in (".passages", ".times")
        )
        return passages, times


class _Postings:
    """All segments' postings, term by term.

    Args:
        numbers: for each segment its terms' numbers in the whole vocabulary.

    Attributes:
        holders_V: in how many passages each term is.
    """

    def __init__(self, segments: Sequence[Segment], numbers: Sequence[Ints]) -> None:
        self._segments, self._numbers = segments, numbers
        self.holders_V: Longs = np.zeros(max(int(own.max(initial=-1)) for own in numbers) + 1, np.int64)
        for segment, own in zip(segments, numbers, strict=True):
            self.holders_V[own] += np.diff(segment.starts_T1)

    def block(self, terms: slice) -> tuple[Ints, Ints, Ints]:
        """Term, passage and number of times of these terms' postings, sorted by term, then by passage."""
        parts = [self._part(*pair, terms) for pair in zip(self._segments, self._numbers, strict=True)]
        terms_P, passages_P, times_P = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(terms_P, kind="stable")  # segments come in the order of their passages
        return terms_P[order], passages_P[order], times_P[order]

    def _part(self, segment: Segment, numbers: Ints, terms: slice) -> tuple[Ints, Ints, Ints]:
        start, end = np.searchsorted(numbers, [terms.start, terms.stop]).tolist()
        counts = np.diff(segment.starts_T1[start : end + 1])
        return np.repeat(numbers[start:end], counts), *segment.postings(slice(start, end))


def _batches(texts: Iterable[Sequence[str]], tokens: int) -> Iterator[Batch]:
    batch = Batch()
    for terms in texts:
        batch.add(terms)
        if len(batch.tokens) >= tokens:
            yield batch
            batch = Batch()
    if batch.lengths:
        yield batch


def _merged_terms(segments: Sequence[Segment], numbers: Sequence[array[int]]) -> Iterator[bytes]:
    """Every term once, in order; `numbers` is given, for each segment, the numbers of its terms among them."""
    pairs = heapq.merge(*(zip(segment.terms(), repeat(at)) for at, segment in enumerate(segments)))
    for number, (term, holders) in enumerate(groupby(pairs, key=itemgetter(0))):
        for _, at in holders:
            numbers[at].append(number)
        yield term


def _idf(holders_V: Longs, passages: int) -> Floats:
    """Logarithms are taken one by one, as bm25s takes them: numpy's may differ in the last bit."""
    of_holders = scoring._select_idf_scorer(_METHOD)
    distinct, places_V = np.unique(holders_V, return_inverse=True)
    return np.array([of_holders(holders, N=passages) for holders in distinct.tolist()], np.float32)[places_V]


def _blocks(indptr: Longs, postings: int) -> Iterator[slice]:
    """Spans of terms that have at most so many postings together, or of one term."""
    start, terms = 0, len(indptr) - 1
    while start < terms:
        fitting = int(np.searchsorted(indptr, indptr[start] + postings, "right")) - 1
        end = max(fitting, start + 1)
        yield slice(start, end)
        start = end


def _write_header(file: BinaryIO, dtype: np.dtype[np.generic], size: int) -> None:
    """What a .npy file of a vector begins with."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, header)
