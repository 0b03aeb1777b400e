"""The tasks of an examination as data, which lm-eval reads from JSON lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stepcredit.envs.searchqa.questions import Dataset, Question


class Suite(StrEnum):
    """What kind of tasks there are; a suite says how its documents are asked and scored."""

    CLOSED_BOOK = "closed-book"
    REGRESSION = "regression"
    TEXT = "regression-text"


@dataclass(frozen=True, slots=True)
class Task:
    """Documents of one kind.

    Attributes:
        suite: how they are asked.
        subset: which of the suite's tasks it is, such as a dataset's name.
        documents: one per example, each with a unique `id`.
    """

    suite: Suite
    subset: str
    documents: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """Its name in lm-eval."""
        return f"{self.suite}-{self.subset}"

    @property
    def json_lines(self) -> bytes:
        """One document a line."""
        return "".join(json.dumps(document, sort_keys=True) + "\n" for document in self.documents).encode()


def closed_book(questions: Iterable[Question]) -> list[Task]:
    """One task a dataset: its questions without any passage, in the order of their ids."""
    ordered = sorted(questions, key=lambda question: question.id)
    by_dataset = {dataset: [question for question in ordered if question.dataset is dataset] for dataset in Dataset}
    return [
        Task(Suite.CLOSED_BOOK, dataset.value, tuple(_document(question) for question in found))
        for dataset, found in by_dataset.items()
        if found
    ]


def sha256_of(tasks: Sequence[Task]) -> str:
    """Identity of the tasks: names and documents, in order."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(f"{task.name}\n".encode())
        digest.update(task.json_lines)
    return digest.hexdigest()


def _document(question: Question) -> dict[str, Any]:
    prompt = f"Question: {question.question}\nAnswer:"
    return {"id": question.id, "prompt": prompt, "answers": list(question.answers)}
