"""Questions: one table for all datasets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stepcredit.envs.contract import EnvError
from stepcredit.envs.naming import unknown

_SHOWN = 60
_SURROGATE = re.compile("[\ud800-\udfff]")


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

    @property
    def key(self) -> str:
        """As files, ids and the Hugging Face hub name it."""
        return "2wikimultihopqa" if self is Dataset.WIKI2 else self.value.lower()

    @classmethod
    def parse(cls, name: str) -> Dataset:
        """The dataset that a source calls `name`, whatever its case, hyphens and underscores.

        Raises:
            EnvError: no source calls any of the seven so.
        """
        dataset = _BY_NAME.get(re.sub(r"[\s_-]", "", name.lower()))
        if dataset is None:
            raise unknown("Search-QA dataset", name, [known for each in cls for known in (each.key, each.value)])
        return dataset


_BY_NAME = {dataset.key: dataset for dataset in Dataset} | {
    "naturalquestions": Dataset.NQ,
    "nqopen": Dataset.NQ,
    "hotpot": Dataset.HOTPOTQA,
    "tqa": Dataset.TRIVIAQA,
    "trivia": Dataset.TRIVIAQA,
    "2wiki": Dataset.WIKI2,
    "2wikimqa": Dataset.WIKI2,
    "2wikimultihop": Dataset.WIKI2,
}


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


def question_of(
    where: str, *, id: object, dataset: object, split: object, question: object, answers: object, titles: object = ()
) -> Question:
    """A question out of fields that nobody has looked at yet. A blank answer counts as none.

    Args:
        where: the file and the line or row, as messages name it.
        answers: one string or several.

    Raises:
        EnvError: a field is missing or of the wrong kind, the dataset is unknown, or there is no gold answer.
    """
    identity = _text(where, "id", id)
    where = f"{where} (id {identity!r})"
    golds = [answer for answer in _texts(where, "answers", answers) if answer.strip()]
    if not golds:
        raise EnvError(f"{where} has no gold answers; give it at least one or remove the question")
    return Question(
        id=identity,
        dataset=_dataset(where, _text(where, "dataset", dataset)),
        split=_text(where, "split", split),
        question=_text(where, "question", question),
        answers=tuple(dict.fromkeys(golds)),
        supporting_titles=tuple(dict.fromkeys(_texts(where, "supporting titles", titles))),
    )


def table_of(rows: Iterable[tuple[str, Question]], source: str) -> tuple[Question, ...]:
    """The questions sorted by id.

    Args:
        rows: questions, each with where it stands.
        source: where all of them come from, as messages name it.

    Raises:
        EnvError: two questions share an id, or there is none.
    """
    table: dict[str, tuple[str, Question]] = {}
    for where, question in rows:
        if question.id in table:
            first, _ = table[question.id]
            raise EnvError(f"{where} repeats the id {question.id!r} of {first}; make the ids unique")
        table[question.id] = (where, question)
    if not table:
        raise EnvError(f"{source} holds no questions; give at least one")
    return tuple(question for _, (_, question) in sorted(table.items()))


def _dataset(where: str, name: str) -> Dataset:
    try:
        return Dataset.parse(name)
    except EnvError as error:
        raise EnvError(f"{where}: {error}") from error


def _text(where: str, field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise EnvError(f"{where} has the {field} {_shown(value)}, expected a text that is not empty")
    return _whole(where, field, value).strip()


def _texts(where: str, field: str, value: object) -> Sequence[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise EnvError(f"{where} has the {field} {_shown(value)}, expected a list of texts")
    return [_whole(where, field, each) for each in values]


def _whole(where: str, field: str, text: str) -> str:
    if _SURROGATE.search(text):
        raise EnvError(f"{where} has the {field} {_shown(text)}, which is broken Unicode; repair the file")
    return text


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
