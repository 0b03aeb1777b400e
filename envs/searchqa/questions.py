"""Questions: one table for all datasets."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stepcredit.envs.contract import EnvError
from stepcredit.envs.naming import unknown
from stepcredit.envs.searchqa.answers import answer_texts, number_text, plain

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
    def known(cls, name: str) -> bool:
        """Whether a source calls one of the seven so."""
        return _plain(name) in _BY_NAME

    @classmethod
    def parse(cls, name: str) -> Dataset:
        """The dataset that a source calls `name`, whatever its case, hyphens, underscores and owner on the hub.

        Raises:
            EnvError: no source calls any of the seven so.
        """
        dataset = _BY_NAME.get(_plain(name))
        if dataset is None:
            raise unknown("Search-QA dataset", name, [known for each in cls for known in (each.key, each.value)])
        return dataset


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower().strip("/").rpartition("/")[2])


_BY_NAME = {dataset.key: dataset for dataset in Dataset} | {
    "naturalquestions": Dataset.NQ,
    "nqopen": Dataset.NQ,
    "hotpot": Dataset.HOTPOTQA,
    "tqa": Dataset.TRIVIAQA,
    "trivia": Dataset.TRIVIAQA,
    "2wiki": Dataset.WIKI2,
    "2wikimqa": Dataset.WIKI2,
    "2wikimultihop": Dataset.WIKI2,
    "2wikiqa": Dataset.WIKI2,
    "wiki2": Dataset.WIKI2,
    "musiqueans": Dataset.MUSIQUE,
}

OWN_SPLITS = ("train", "dev", "test", "test_rest")
"""The datasets' own splits, as this project names them; test_rest is a pool that was cut out of a test set."""

_SPLIT_WORDS = {"train": "train training", "dev": "dev development val valid validation", "test": "test testing"}
_SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words.split()}
_PART_WORDS = {
    *("k", "v", "of", "part", "shard", "sample", "samples", "sampled", "subset", "full", "small", "first", "random"),
    *("split", "set", "seed"),
}
_VERSION_WORDS = {"ans", "distractor", "fullwiki", "open", "questions"}


def own_split(name: str) -> str | None:
    """Our name of the split that a source calls `name`, or None where that is unclear.

    Case, sizes and parts do not matter: `validation`, `val`, `dev_500` and `Dev-00000-of-00003` are dev.
    """
    lowered = name.strip().lower()
    words = re.findall("[a-z]+", lowered)
    splits = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    others = {word for word in words if word not in _SPLIT_OF} - _PART_WORDS - _VERSION_WORDS
    if len(splits) != 1 or re.search(r"[^a-z0-9\s._-]", lowered):
        return None
    if others == {"rest"} and splits == {"test"}:
        return "test_rest"
    return None if others else splits.pop()


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        id: the same on every machine.
        split: the source's own, one of OWN_SPLITS.
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
        answers: whatever `answer_texts` reads.
        split: whatever `own_split` knows.

    Raises:
        EnvError: a field is missing or of the wrong kind, dataset or split is unknown, or there is no gold answer.
    """
    identity = _text(where, "id", _number_as_text(id))
    where = f"{where} (id {identity!r})"
    golds = [answer for answer in _texts(where, "answers", answers) if answer.strip()]
    if not golds:
        raise EnvError(f"{where} has no gold answers; give it at least one or remove the question")
    return Question(
        id=identity,
        dataset=_dataset(where, _text(where, "dataset", dataset)),
        split=split_of(where, _text(where, "split", split)),
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


def split_of(where: str, name: str) -> str:
    """Our name of the split.

    Raises:
        EnvError: `own_split` does not know it.
    """
    split = own_split(name)
    if split is None:
        raise EnvError(
            f"{where} has the split {_shown(name)}, which is none of {', '.join(OWN_SPLITS)}; dev may be called "
            "validation, val or valid, and sizes and parts may follow, as in dev_500: rename it"
        )
    return split


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
    try:
        texts = answer_texts(value)
    except ValueError as error:
        raise EnvError(f"{where} has the {field} {_shown(value)}, expected a list of texts: {error}") from error
    return [_whole(where, field, each) for each in texts]


def _number_as_text(value: object) -> object:
    """Ids are numbers in some releases, and pandas turns those into floats where others are missing."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return number_text(value) if math.isfinite(value) else None


def _whole(where: str, field: str, text: str) -> str:
    if _SURROGATE.search(text):
        raise EnvError(f"{where} has the {field} {_shown(text)}, which is broken Unicode; repair the file")
    return text


def _shown(value: object) -> str:
    text = repr(value[:_SHOWN]) if isinstance(value, str) else reprlib.repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
