"""Questions from files in any of the public layouts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from stepcredit.envs.contract import EnvError
from stepcredit.envs.notice import say_once
from stepcredit.envs.searchqa.jsonl import Row, json_rows, jsonl_rows
from stepcredit.envs.searchqa.layouts import ColumnsError, NamelessError, from_flashrag, reader_of
from stepcredit.envs.searchqa.parquet import parquet_rows
from stepcredit.envs.searchqa.placing import Naming, names_a_split, naming_of, require_all_shards
from stepcredit.envs.searchqa.questions import Dataset, Question, table_of

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_PASSAGES = re.compile("corpus|.*[-_]corpus$|wiki[-_]?18")
_NAMED = 5

Placed = tuple[str, Question]


def load_questions(path: Path) -> tuple[Question, ...]:
    """The questions of a file, or of all question files below a folder, sorted by id.

    Layouts, told apart by their columns, each as JSON lines, JSON (both plain or gzipped) or parquet: ours;
    Search-R1's, which verl, verl-agent and SkyRL share; FlashRAG's, where folder and file give dataset and split, as
    in nq/test.jsonl. In a folder, files of passages (corpus..., wiki-18...) and hidden ones are passed over; files of
    other datasets and of other kinds are left alone, and named once on standard error.

    Raises:
        EnvError: a file is missing, damaged, or one of ours or of the seven datasets that is of no known layout; a
            question cannot be used, or an id occurs twice.
    """
    if not path.is_dir():
        return table_of(_questions(path, naming_of(path, path.parent)), str(path))
    files, hidden = _question_files(path)
    require_all_shards(files)
    reading = _Folder(path)
    questions = [pair for file in files for pair in reading.questions(file)]
    if not questions:
        raise EnvError(_nothing_in(path, reading.left))
    left = [*hidden, *reading.left]
    if left:
        say_once(f"{_listed(left, path)} in {path} left alone: no questions of the seven Search-QA datasets")
    return table_of(questions, str(path))


def load_flashrag(path: Path, dataset: Dataset, split: str) -> tuple[Question, ...]:
    """The questions of a file in FlashRAG's layout, whatever it is called.

    Raises:
        EnvError: see `load_questions`.
    """
    naming = Naming(dataset.key, split)
    return table_of(((where, from_flashrag(where, row, naming)) for where, row in _rows(path)), str(path))


class _Folder:
    """The files of one folder as they are read, and those that are another's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.left: dict[Path, str] = {}

    def questions(self, file: Path) -> Iterable[Placed]:
        """The file's questions; none where it is left alone.

        Raises:
            EnvError: the file is by its name or place one of ours, and cannot be used.
        """
        naming = naming_of(file, self._folder)
        try:
            pairs = _questions(file, naming)
            first = next(pairs, None)
        except NamelessError as error:
            self.left[file] = str(error)
            return ()
        except ColumnsError as error:
            if naming.known and names_a_split(naming):
                raise
            self.left[file] = str(error)
            return ()
        except EnvError as error:
            if naming.known or file.parent == self._folder:
                raise
            self.left[file] = str(error)
            return ()
        if first is None:
            raise EnvError(f"{file} holds no questions; remove it, or copy it again")
        return itertools.chain([first], pairs)


def _question_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that may hold questions, and hidden ones that look as if, each sorted."""
    found, hidden = [], []
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if not _name(file).endswith(SUFFIXES) or not file.is_file():
            continue
        if any(part.startswith(".") for part in parts):
            hidden.append(file)
        elif not any(_PASSAGES.match(part.lower()) for part in parts):
            found.append(file)
    return found, hidden


def _nothing_in(folder: Path, left: dict[Path, str]) -> str:
    wanted = f"{folder} holds no questions; put them there as {', '.join(SUFFIXES)}"
    return f"{wanted} ({next(iter(left.values()))})" if left else wanted


def _listed(files: list[Path], folder: Path) -> str:
    names = [str(file.relative_to(folder)) for file in files]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _questions(path: Path, naming: Naming) -> Iterator[Placed]:
    read = None
    for where, row in _rows(path):
        read = read or reader_of(where, row, naming)
        yield where, read(where, row)


def _name(path: Path) -> str:
    return path.name.lower()


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    name = _name(path)
    if not name.endswith(SUFFIXES):
        raise EnvError(f"{path} has the suffix {path.suffix!r}; questions are {', '.join(SUFFIXES)}")
    if name.endswith(".parquet"):
        return parquet_rows(path)
    return json_rows(path) if name.endswith((".json", ".json.gz")) else jsonl_rows(path)
