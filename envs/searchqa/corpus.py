"""Corpora: passages in a fixed order, identified by a hash of what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.jsonl import Row, jsonl_rows


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Passages in their order.

    Attributes:
        sha256: over ids, titles and texts in order, so the same however the passages are stored.
        source: where they came from, as messages name it; None for passages that are nowhere on disk.
    """

    passages: tuple[Passage, ...] = field(repr=False)
    sha256: str
    source: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, passages: Iterable[Passage], source: str | None = None) -> Corpus:
        """A corpus of passages that are at hand.

        Raises:
            EnvError: two passages share an id, or there is none.
        """
        return _collect(((f"passage {number}", passage) for number, passage in enumerate(passages, 1)), source)

    def __len__(self) -> int:
        return len(self.passages)

    def __getitem__(self, position: int) -> Passage:
        return self.passages[position]

    def by_id(self, passage_id: str) -> Passage:
        """The passage of that id.

        Raises:
            EnvError: there is none.
        """
        position = self._positions.get(passage_id)
        if position is None:
            raise EnvError(f"{_name(self.source)} has no passage {passage_id!r} (sha256 {self.sha256[:12]}…)")
        return self.passages[position]

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {passage.id: position for position, passage in enumerate(self.passages)}


def read_corpus(path: Path) -> Corpus:
    """The passages of a .jsonl or .jsonl.gz file.

    A line is {"id", "title", "text"}, or {"id", "contents"} with contents as `contents` writes them.

    Raises:
        EnvError: the file is missing, truncated, empty or not of that kind, or an id occurs twice.
    """
    placed = ((where, _passage(row, where)) for where, row in jsonl_rows(path))
    return _collect(((where.removeprefix(f"{path} "), passage) for where, passage in placed), str(path))


def contents(passage: Passage) -> str:
    """Title and text as one string, in the layout of Search-R1's wiki-18; what the lexical engines index."""
    return f'"{passage.title}"\n{passage.text}'


def title_and_text(whole: str) -> tuple[str, str]:
    """The parts of a string that `contents` wrote; other writers leave the quotes out, or end lines with CR LF."""
    title, _, text = whole.partition("\n")
    title = title.removesuffix("\r")
    quoted = len(title) > 1 and title.startswith('"') and title.endswith('"')
    return title[1:-1] if quoted else title, text


def _collect(rows: Iterable[tuple[str, Passage]], source: str | None) -> Corpus:
    """The corpus of (where it stands, passage) pairs."""
    passages: list[Passage] = []
    seen: dict[str, str] = {}
    digest = hashlib.sha256()
    for where, passage in rows:
        first = seen.setdefault(passage.id, where)
        if first is not where:
            raise EnvError(f"{_name(source)} has the id {passage.id!r} at {first} and at {where}; make its ids unique")
        passages.append(passage)
        digest.update(_canonical(passage))
    if not passages:
        raise EnvError(f"{_name(source)} holds no passages; a corpus needs at least one")
    return Corpus(tuple(passages), digest.hexdigest(), source)


def _name(source: str | None) -> str:
    return "the corpus" if source is None else source


def _canonical(passage: Passage) -> bytes:
    fields = [part.encode("utf-8", "surrogatepass") for part in (passage.id, passage.title, passage.text)]
    return b"%d %d %d\n" % tuple(map(len, fields)) + b"".join(fields)


def _passage(row: Row, where: str) -> Passage:
    if "contents" in row and "text" not in row:
        return Passage(_id(row, where), *title_and_text(_text(row, "contents", where)))
    return Passage(_id(row, where), _text(row, "title", where), _text(row, "text", where))


def _id(row: Row, where: str) -> str:
    """FlashRAG's ids are numbers in some releases."""
    number = row.get("id")
    return str(number) if type(number) is int else _text(row, "id", where)


def _text(row: Row, name: str, where: str) -> str:
    if name not in row:
        seen = ", ".join(row) or "none"
        raise EnvError(f"{where} has no field {name!r} (its fields: {seen}); expected id, title, text or id, contents")
    value = row[name]
    if not isinstance(value, str):
        raise EnvError(f"{where} has {name} {str(value)[:40]!r}, expected a string")
    return value
