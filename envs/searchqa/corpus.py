"""Corpora: passages in a fixed order, identified by a hash of what they say."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, overload

from stepcredit.envs.contract import EnvError
from stepcredit.envs.places import cache_root
from stepcredit.envs.searchqa.cache_folder import CacheFolder, Manifest, read_manifest
from stepcredit.envs.searchqa.jsonl import Row, jsonl_rows, unreadable
from stepcredit.envs.searchqa.records import CONTENT, Records, canonical, write_records

_LAYOUT = 1


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
        passages: in memory, or read from the cache one by one, as they are asked for.
        sha256: over ids, titles and texts in order, so the same however the passages are stored.
        find: the position of the passage of that id.
        source: where they came from, as messages name it; None for passages that are nowhere on disk.
    """

    passages: Sequence[Passage] = field(repr=False, compare=False)
    sha256: str
    find: Callable[[str], int | None] = field(repr=False, compare=False)
    source: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, passages: Iterable[Passage], source: str | None = None) -> Corpus:
        """A corpus of passages that are at hand, kept in memory.

        Raises:
            EnvError: two passages share an id, or there is none.
        """
        kept = tuple(passages)
        positions: dict[str, int] = {}
        digest = hashlib.sha256()
        for position, passage in enumerate(kept):
            first = positions.setdefault(passage.id, position)
            if first != position:
                raise _repeated(source, passage.id, f"passage {first + 1}", f"passage {position + 1}")
            digest.update(canonical(_record(passage)))
        if not kept:
            raise _empty(source)
        return cls(kept, digest.hexdigest(), positions.get, source)

    def __len__(self) -> int:
        return len(self.passages)

    def __getitem__(self, position: int) -> Passage:
        return self.passages[position]

    def by_id(self, passage_id: str) -> Passage:
        """The passage of that id.

        Raises:
            EnvError: there is none.
        """
        position = self.find(passage_id)
        if position is None:
            raise EnvError(f"{_name(self.source)} has no passage {passage_id!r} (sha256 {self.sha256[:12]}…)")
        return self.passages[position]


class _StoredPassages(Sequence[Passage]):
    """Passages in the cache's files."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, at: int) -> Passage: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, at: int | slice) -> Passage | tuple[Passage, ...]:
        if isinstance(at, slice):
            return tuple(self[position] for position in range(*at.indices(len(self))))
        return Passage(*self._records[at])


def read_corpus(path: Path, cache: Path | None = None) -> Corpus:
    """The passages of a .jsonl or .jsonl.gz file.

    A line is {"id", "title", "text"}, or {"id", "contents"} with contents as `contents` writes them. The file is read
    once and kept in the cache; it is read again, and that is said, when its size or its time of modification changed.

    Args:
        cache: where corpora are kept; None takes `cache_root`.

    Raises:
        EnvError: the file is missing, truncated, empty or not of that kind, an id occurs twice, or the cache cannot be
            written.
    """
    root = cache_root(os.environ) if cache is None else cache
    facts = _facts(path)
    name = f"corpus-{hashlib.sha256(os.fsencode(facts['path'])).hexdigest()[:16]}"
    folder = CacheFolder(root / name, "corpus", facts, partial(_misfit, facts), "reading it again")
    try:
        folder.open(partial(_store, path))
        manifest, records = read_manifest(folder.path), Records(folder.path)
    except OSError as error:
        raise EnvError(
            f"the cache {root} cannot be written ({error.strerror or error}); set STEPCREDIT_CACHE to a folder that can"
        ) from error
    if manifest is None:
        raise EnvError(f"the cache {folder.path} went away while {path} was opened; try again")
    return Corpus(_StoredPassages(records), manifest["files"][CONTENT]["sha256"], records.find, str(path))


def _facts(path: Path) -> dict[str, Any]:
    """What tells whether the cache holds what is in the file.

    Raises:
        EnvError: there is no such file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    place = str(path.resolve())
    return {"layout": _LAYOUT, "path": place, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _misfit(facts: Manifest, manifest: Manifest) -> str | None:
    if facts.items() <= manifest.items():
        return None
    if manifest.get("layout") != facts["layout"]:
        return f"{facts['path']} was kept in another layout"
    return f"{facts['path']} changed after it was read into the cache"


def _store(path: Path, folder: Path) -> None:
    """Write the file's passages into the folder. Of several faults the one that comes first in the file is told."""
    rows = (_record(_passage(row, where)) for where, row in jsonl_rows(path))
    try:
        write_records(folder, rows)
    except EnvError:
        _require_distinct(Records(folder), path)
        raise
    records = Records(folder)
    if not len(records):
        raise _empty(str(path))
    _require_distinct(records, path)


def _require_distinct(records: Records, path: Path) -> None:
    repeated = records.first_repeated()
    if repeated is not None:
        first, second = (_place(path, position) for position in repeated)
        raise _repeated(str(path), records[repeated[0]][0], first, second)


def _place(path: Path, position: int) -> str:
    """Where the passage stands in the file; blank lines count as lines."""
    where, _ = next(islice(jsonl_rows(path), position, None))
    return where.removeprefix(f"{path} ")


def contents(passage: Passage) -> str:
    """Title and text as one string, in the layout of Search-R1's wiki-18; what the lexical engines index."""
    return f'"{passage.title}"\n{passage.text}'


def title_and_text(whole: str) -> tuple[str, str]:
    """The parts of a string that `contents` wrote; other writers leave the quotes out, or end lines with CR LF."""
    title, _, text = whole.partition("\n")
    title = title.removesuffix("\r")
    quoted = len(title) > 1 and title.startswith('"') and title.endswith('"')
    return title[1:-1] if quoted else title, text


def _repeated(source: str | None, passage_id: str, first: str, second: str) -> EnvError:
    return EnvError(f"{_name(source)} has the id {passage_id!r} at {first} and at {second}; make its ids unique")


def _empty(source: str | None) -> EnvError:
    return EnvError(f"{_name(source)} holds no passages; a corpus needs at least one")


def _name(source: str | None) -> str:
    return "the corpus" if source is None else source


def _record(passage: Passage) -> tuple[str, str, str]:
    return passage.id, passage.title, passage.text


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
