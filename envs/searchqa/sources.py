"""Where questions and passages come from: the generated world, or a folder of the real datasets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

from stepcredit.envs.contract import EnvError
from stepcredit.envs.naming import unknown
from stepcredit.envs.searchqa.corpus import Corpus, read_corpus
from stepcredit.envs.searchqa.loaders import load_questions
from stepcredit.envs.searchqa.questions import Question
from stepcredit.envs.searchqa.splits import SPLITS, split_questions
from stepcredit.envs.searchqa.synthetic import synthetic_corpus, synthetic_questions
from stepcredit.envs.searchqa.synthetic.world import VERSION

SUITES = ("synthetic", "real")
FOLDER = "searchqa"


class QuestionSource(Protocol):
    """The questions and the passages of one suite."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, whether or not there is data for them."""
        ...

    def questions(self, split: str) -> tuple[Question, ...]:
        """Every question of the split.

        Raises:
            EnvError: the split's data is missing or damaged.
        """
        ...

    def corpus(self) -> Corpus:
        """The passages.

        Raises:
            EnvError: they are missing or damaged.
        """
        ...

    def provenance(self) -> Mapping[str, str]:
        """What identifies the questions."""
        ...


def open_source(suite: str, environ: Mapping[str, str]) -> QuestionSource:
    """The suite's questions and passages.

    Raises:
        EnvError: there is no such suite, or no place to read the real datasets from.
    """
    if suite == "synthetic":
        return SyntheticSource()
    if suite != "real":
        raise unknown("searchqa suite", suite, SUITES)
    if not environ.get("STEPCREDIT_DATA"):
        raise EnvError(
            "suite 'real' needs the datasets: set STEPCREDIT_DATA to a folder with searchqa/questions.jsonl.gz and "
            "searchqa/corpus.jsonl.gz, or choose --suite synthetic"
        )
    return FolderSource(Path(environ["STEPCREDIT_DATA"]) / FOLDER)


class SyntheticSource:
    """The generated world."""

    splits = ("train", "test")

    def questions(self, split: str) -> tuple[Question, ...]:
        return tuple(question for question in synthetic_questions() if question.split == split)

    def corpus(self) -> Corpus:
        return synthetic_corpus()

    def provenance(self) -> Mapping[str, str]:
        return {"generator": VERSION}


class FolderSource:
    """A folder with question files in any layout that `load_questions` knows, and a corpus."""

    splits = SPLITS

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def questions(self, split: str) -> tuple[Question, ...]:
        return split_questions(self._table, split)

    def corpus(self) -> Corpus:
        found = [path for name in ("corpus.jsonl.gz", "corpus.jsonl") if (path := self._folder / name).is_file()]
        if not found:
            raise EnvError(f"{self._folder} holds no corpus.jsonl or corpus.jsonl.gz; put the passages there")
        return read_corpus(found[0])

    def provenance(self) -> Mapping[str, str]:
        digest = hashlib.sha256()
        for asked in self._table:
            row = (asked.id, asked.split, asked.question, asked.answers, asked.supporting_titles)
            digest.update(json.dumps(row, ensure_ascii=False).encode())
        return {"questions": str(len(self._table)), "questions_sha256": digest.hexdigest()}

    @cached_property
    def _table(self) -> tuple[Question, ...]:
        return load_questions(self._folder)
