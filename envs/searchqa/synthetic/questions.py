"""The generated questions: fixed training and evaluation sets, and an endless stream for the warm start."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.synthetic.expert import solution
from stepcredit.envs.searchqa.synthetic.shapes import Draft, Subjects, draft_of
from stepcredit.envs.searchqa.synthetic.world import VERSION, make_world

TEST_SIZE = 60
"""Evaluation questions per dataset."""

TRAIN_SIZE = 800
"""Training questions of each dataset that is trained on."""


def synthetic_questions() -> tuple[Question, ...]:
    """Splits `train` (NQ and HotpotQA) and `test` (all seven); each text once, no entity asked about in both."""
    return tuple(asked for asked, _ in _all_drawn())


@cache
def drafts() -> Mapping[str, Draft]:
    """Question id -> how it is answered."""
    return {asked.id: draft for asked, draft in _all_drawn()}


@cache
def solutions() -> Mapping[str, Sequence[str]]:
    """Question id -> the actions of a flawless episode."""
    return {question: solution(draft) for question, draft in drafts().items()}


def _all_drawn() -> Iterator[tuple[Question, Draft]]:
    for dataset in Dataset:
        if dataset.trained:
            yield from _drawn(dataset, "train", TRAIN_SIZE)
    for dataset in Dataset:
        yield from _drawn(dataset, "test", TEST_SIZE)


def endless_drafts(number: int, rng: random.Random) -> Iterator[Draft]:
    """Questions of all seven shapes about a world."""
    subjects = Subjects(make_world(number), "train")
    while True:
        for dataset in Dataset:
            yield draft_of(dataset, subjects, rng)


@cache
def _drawn(dataset: Dataset, split: str, size: int) -> tuple[tuple[Question, Draft], ...]:
    rng, subjects = random.Random(f"searchqa questions {VERSION} {split} {dataset}"), Subjects(make_world(), split)
    drafts: dict[str, Draft] = {}
    while len(drafts) < size:
        draft = draft_of(dataset, subjects, rng)
        drafts.setdefault(draft.text, draft)
    return tuple((_question(dataset, split, number, draft), draft) for number, draft in enumerate(drafts.values()))


def _question(dataset: Dataset, split: str, number: int, draft: Draft) -> Question:
    return Question(
        id=f"synthetic/{split}/{dataset}/{number:04d}",
        dataset=dataset,
        split=split,
        question=draft.text,
        answers=draft.answers,
        supporting_titles=tuple(hop.title for hop in draft.hops),
    )
