"""Questions from files in any of the public layouts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.jsonl import jsonl_rows
from stepcredit.envs.searchqa.layouts import Naming, Row, from_flashrag, reader_of
from stepcredit.envs.searchqa.parquet import parquet_rows
from stepcredit.envs.searchqa.questions import Dataset, Question, table_of

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_CORPUS = "corpus"


def load_questions(path: Path) -> tuple[Question, ...]:
    """The questions of a file, or of all question files below a folder, sorted by id.

    Layouts, told apart by their columns, each as .jsonl, .jsonl.gz or .parquet: ours; Search-R1's, which verl and
    verl-agent share; FlashRAG's, where folder and file give dataset and split, as in nq/test.jsonl. Files of a folder
    whose name begins with `corpus` hold passages and are passed over.

    Raises:
        EnvError: a file is missing, damaged or of no known layout, a question cannot be used, or an id occurs twice.
    """
    files = _question_files(path) if path.is_dir() else [path]
    return table_of((pair for file in files for pair in _questions(file)), str(path))


def load_flashrag(path: Path, dataset: Dataset, split: str) -> tuple[Question, ...]:
    """The questions of a file in FlashRAG's layout, whatever it is called.

    Raises:
        EnvError: see `load_questions`.
    """
    naming = Naming(dataset.key, split)
    return table_of(((where, from_flashrag(where, row, naming)) for where, row in _rows(path)), str(path))


def _question_files(folder: Path) -> list[Path]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.name.endswith(SUFFIXES) and not file.name.startswith(_CORPUS) and file.is_file()
    ]
    if not files:
        raise EnvError(f"{folder} holds no questions; put them there as {', '.join(SUFFIXES)}")
    return files


def _questions(path: Path) -> Iterator[tuple[str, Question]]:
    naming = Naming(path.parent.name, path.name.split(".")[0])
    read = None
    for where, row in _rows(path):
        read = read or reader_of(where, row, naming)
        yield where, read(where, row)


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    if not path.name.endswith(SUFFIXES):
        raise EnvError(f"{path} has the suffix {path.suffix!r}; questions are {', '.join(SUFFIXES)}")
    return parquet_rows(path) if path.suffix == ".parquet" else jsonl_rows(path)
