"""Questions: one table for all datasets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Dataset(StrEnum):
    """The seven datasets in the order in which tables list them; the first two are trained on."""

    NQ = "NQ"
    HOTPOTQA = "HotpotQA"
    TRIVIAQA = "TriviaQA"
    POPQA = "PopQA"
    WIKI2 = "2Wiki"
    MUSIQUE = "MuSiQue"
    BAMBOOGLE = "Bamboogle"

    @property
    def trained(self) -> bool:
        """Whether training questions come from it; the others are out of distribution."""
        return self in (Dataset.NQ, Dataset.HOTPOTQA)


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        id: the same on every machine.
        split: as its source names it: train, dev, test, or test_rest for a pool that was cut out of a test set.
        answers: gold answers, at least one; any of them counts.
        supporting_titles: titles of the passages that hold the answer, empty where unknown.
    """

    id: str
    dataset: Dataset
    split: str
    question: str
    answers: tuple[str, ...]
    supporting_titles: tuple[str, ...] = ()
