"""What a corpus's index needs of memory, disk and time, told from the size of the corpus before anything is built."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from stepcredit.envs.proxies import HUB_FAULTS
from stepcredit.envs.searchqa.jsonl import jsonl_rows, unreadable
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec

_SAMPLE = 5000
_BYTES_OF_A_PASSAGE = 590


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """How large a corpus is.

    Attributes:
        content: bytes of its file, uncompressed.
        exact: nothing of it is estimated.
    """

    passages: int
    content: int
    exact: bool

    @classmethod
    def of_passages(cls, passages: int) -> CorpusSize:
        """So many passages of a hundred words, as in wiki-18."""
        return cls(passages, passages * _BYTES_OF_A_PASSAGE, exact=False)

    @classmethod
    def of_file(cls, path: Path) -> CorpusSize:
        """From a .jsonl or .jsonl.gz file's size and its first passages.

        Raises:
            EnvError: it cannot be read, or holds none.
        """
        lines = [json.dumps(row, ensure_ascii=False) for _, row in islice(jsonl_rows(path), _SAMPLE)]
        if not lines:
            raise RetrievalError(f"{path} holds no passages; a corpus needs at least one")
        sample = "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")
        if len(lines) < _SAMPLE:
            return cls(len(lines), len(sample), exact=True)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise unreadable(path, error) from error
        stored = gzip.compress(sample) if path.suffix.lower() == ".gz" else sample
        larger = size / len(stored)
        return cls(round(len(lines) * larger), round(len(sample) * larger), exact=False)


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes, but for the time.

    Attributes:
        build_memory: at its peak.
        build_disk: of the cache while the index is built.
        serve_memory: of a process that has answered a thousand queries.
        disk: of the cache afterwards.
        hours: of one core; None where it depends on another machine, a GPU.
    """

    build_memory: int
    build_disk: int
    serve_memory: int
    disk: int
    hours: float | None

    @classmethod
    def of(cls, size: CorpusSize, spec: RetrieverSpec) -> Needs:
        """What the engine needs for a corpus of that size.

        Raises:
            RetrievalError: the engine has no index here, or its encoder is unknown.
        """
        if spec.engine == "http":
            raise RetrievalError("engine http has its index where its server is; ask there, with the server's engine")
        return _dense(size, spec) if spec.engine == "dense" else _MEASURED[spec.engine].needs(size)


@dataclass(frozen=True, slots=True)
class _Line:
    """Bytes or hours: those of a small corpus, and those that each byte of content adds."""

    start: float
    growth: float

    def at(self, size: CorpusSize) -> float:
        return self.start + self.growth * size.content


@dataclass(frozen=True, slots=True)
class _Lines:
    build_memory: _Line
    build_disk: _Line
    serve_memory: _Line
    disk: _Line
    hours: _Line

    def needs(self, size: CorpusSize) -> Needs:
        build_memory, build_disk, serve_memory, disk = (
            round(line.at(size)) for line in (self.build_memory, self.build_disk, self.serve_memory, self.disk)
        )
        return Needs(build_memory, build_disk, serve_memory, disk, self.hours.at(size))


_MEASURED = {
    "bm25": _Lines(
        build_memory=_Line(0.602e9, 0.251),
        build_disk=_Line(0.0, 2.57),
        serve_memory=_Line(0.187e9, 0.819),
        disk=_Line(0.0, 1.80),
        hours=_Line(0.0024, 0.0509e-9),
    ),
    "lucene": _Lines(
        build_memory=_Line(0.513e9, 0.011),
        build_disk=_Line(0.0, 2.18),
        serve_memory=_Line(0.466e9, 0.161),
        disk=_Line(0.0, 1.18),
        hours=_Line(0.0017, 0.0357e-9),
    ),
}
"""By `python -m stepcredit.envs.searchqa.retrieval.scale ENGINE`, over `file_gb`: bm25 from 250,000 to a million
passages, lucene from 100,000 to 400,000. Disk is in proportion."""


def _dense(size: CorpusSize, spec: RetrieverSpec) -> Needs:
    """A vector of float32 a passage: in the cache, in FAISS's memory, and with inverted lists in a file of FAISS's too.

    The encoder's own memory is not counted.
    """
    vectors = 4 * _dimensions(spec.encoder) * size.passages
    lists = vectors + 8 * size.passages if spec.index == "ivf" else 0
    memory, disk = max(vectors, lists), vectors + lists + size.content
    return Needs(memory, disk, memory, disk, None)


def _dimensions(encoder: str) -> int:
    from transformers import AutoConfig

    try:
        return int(AutoConfig.from_pretrained(encoder).hidden_size)
    except HUB_FAULTS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RetrievalError(
            f"the configuration of sentence encoder {encoder!r} cannot be read ({reason}); set the retriever's encoder"
            " to a folder that holds it"
        ) from error
