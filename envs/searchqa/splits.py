"""Which questions the benchmark's splits hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stepcredit.envs.contract import EnvError
from stepcredit.envs.naming import unknown
from stepcredit.envs.searchqa.metrics import normalised
from stepcredit.envs.searchqa.questions import Dataset, Question

TRAIN, TRAIN_AND_REST, TEST = SPLITS = ("train", "train+test_rest", "test")
"""`train`: NQ and HotpotQA, the questions whose own split is train.

`train+test_rest`: the same and NQ's test_rest, a pool that was cut out of NQ's test set, for where no other training
questions of NQ are at hand.

`test`: of each dataset its test questions, or its dev questions where it has none of test (HotpotQA, 2Wiki and MuSiQue
publish no test answers). A dataset that is not at hand is missing; tables print the number of questions of each.
"""

_REST = "test_rest"
_NEEDED = {
    TRAIN: {(Dataset.NQ, "train"), (Dataset.HOTPOTQA, "train")},
    TRAIN_AND_REST: {(Dataset.NQ, _REST), (Dataset.HOTPOTQA, "train")},
}


def split_questions(questions: Sequence[Question], split: str) -> tuple[Question, ...]:
    """The split's questions, in the order given. No training question is asked in `test`: see `dropped_questions`.

    Raises:
        EnvError: there is no such split, or not the questions that it is made of.
    """
    pool = _pool(questions, split)
    dropped = {question.id for question in dropped_questions(questions, split)}
    return tuple(question for question in pool if question.id not in dropped)


def dropped_questions(questions: Sequence[Question], split: str) -> tuple[Question, ...]:
    """Questions that a training split leaves out, as `test` holds their id, or their text once it is normalised.

    Raises:
        EnvError: see `split_questions`.
    """
    pool = _pool(questions, split)
    if split == TEST:
        return ()
    tested = _tested(questions)
    ids, texts = {each.id for each in tested}, {normalised(each.question) for each in tested}
    return tuple(each for each in pool if each.id in ids or normalised(each.question) in texts)


def _pool(questions: Sequence[Question], split: str) -> Sequence[Question]:
    if split not in SPLITS:
        raise unknown("Search-QA split", split, SPLITS)
    if split == TEST:
        tested = _tested(questions)
        if not tested:
            raise EnvError(f"split '{TEST}' is empty; seen: {_seen(questions)}; add a dataset's dev or test set")
        return tested
    _check_complete(questions, split)
    sources = _NEEDED[TRAIN] | _NEEDED[split]
    return [question for question in questions if (question.dataset, question.split) in sources]


def _tested(questions: Sequence[Question]) -> Sequence[Question]:
    with_test = {question.dataset for question in questions if question.split == "test"}
    return [each for each in questions if each.split == ("test" if each.dataset in with_test else "dev")]


def _check_complete(questions: Sequence[Question], split: str) -> None:
    there = {(question.dataset, question.split) for question in questions}
    missing = _NEEDED[split] - there
    if missing:
        usable = [name for name, needed in _NEEDED.items() if needed <= there]
        advice = f"use split '{usable[0]}'" if usable else "add them"
        names = ", ".join(sorted(f"{dataset} {own}" for dataset, own in missing))
        raise EnvError(f"split '{split}' needs {names}, which is missing; seen: {_seen(questions)}; {advice}")


def _seen(questions: Sequence[Question]) -> str:
    counts = Counter(f"{question.dataset} {question.split}" for question in questions)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
