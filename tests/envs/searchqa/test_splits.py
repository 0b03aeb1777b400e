import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.loaders import load_questions
from stepcredit.envs.searchqa.metrics import normalised
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.splits import dropped_questions, split_questions

DATA = Path(os.environ.get("STEPCREDIT_DATA", "")) / "searchqa" / "questions.jsonl.gz"
needs_data = pytest.mark.skipif(
    not os.environ.get("STEPCREDIT_DATA") or not DATA.is_file(), reason="STEPCREDIT_DATA has no searchqa questions"
)


def question(dataset: Dataset, split: str, number: int = 0, text: str | None = None) -> Question:
    name = f"{dataset.key}-{split}-{number}"
    return Question(name, dataset, split, text or f"what is {name}?", ("gold",))


NQ_TRAIN = question(Dataset.NQ, "train")
NQ_REST = question(Dataset.NQ, "test_rest")
NQ_TEST = question(Dataset.NQ, "test")
NQ_DEV = question(Dataset.NQ, "dev")
HOTPOT_TRAIN = question(Dataset.HOTPOTQA, "train")
HOTPOT_DEV = question(Dataset.HOTPOTQA, "dev")
WIKI_TRAIN = question(Dataset.WIKI2, "train")
WIKI_DEV = question(Dataset.WIKI2, "dev")
EVERYTHING = (NQ_TRAIN, NQ_REST, NQ_TEST, NQ_DEV, HOTPOT_TRAIN, HOTPOT_DEV, WIKI_TRAIN, WIKI_DEV)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", {NQ_TRAIN, HOTPOT_TRAIN}),
        ("train+test_rest", {NQ_TRAIN, NQ_REST, HOTPOT_TRAIN}),
        ("test", {NQ_TEST, HOTPOT_DEV, WIKI_DEV}),
    ],
)
def test_what_a_split_holds(split: str, expected: set[Question]) -> None:
    assert set(split_questions(EVERYTHING, split)) == expected
    assert dropped_questions(EVERYTHING, split) == ()


def test_the_rest_of_the_test_set_stands_in_for_training_questions() -> None:
    assert set(split_questions((NQ_REST, HOTPOT_TRAIN), "train+test_rest")) == {NQ_REST, HOTPOT_TRAIN}


def test_a_training_question_that_is_asked_in_test_is_dropped_and_reported() -> None:
    echo = question(Dataset.NQ, "train", 1, "What is the, musique-dev-0")
    same_id = replace(NQ_TEST, split="train", question="another text")
    tested = question(Dataset.MUSIQUE, "dev", text="what is musique-dev-0?")
    questions = (*EVERYTHING, echo, same_id, tested)
    assert set(split_questions(questions, "train")) == {NQ_TRAIN, HOTPOT_TRAIN}
    assert set(dropped_questions(questions, "train")) == {echo, same_id}
    assert set(split_questions(questions, "test")) == {NQ_TEST, HOTPOT_DEV, WIKI_DEV, tested}
    assert dropped_questions(questions, "test") == ()


@pytest.mark.parametrize(
    ("questions", "split", "complaint"),
    [
        (EVERYTHING, "trian", "unknown Search-QA split 'trian'; did you mean 'train'?"),
        ((NQ_REST, HOTPOT_TRAIN), "train", "needs NQ train, which is missing; .*; use split 'train\\+test_rest'"),
        ((NQ_TRAIN, HOTPOT_TRAIN), "train+test_rest", "needs NQ test_rest, which is missing; .*; use split 'train'"),
        ((NQ_TRAIN, HOTPOT_DEV), "train", "needs HotpotQA train, which is missing; .*; add them"),
        ((), "train", "needs HotpotQA train, NQ train, which is missing; seen: none; add them"),
        ((NQ_TRAIN, NQ_REST), "test", "'test' is empty; seen: 1 NQ test_rest, 1 NQ train; add"),
    ],
)
def test_a_split_without_its_questions_is_refused(questions: tuple[Question, ...], split: str, complaint: str) -> None:
    for ask in (split_questions, dropped_questions):
        with pytest.raises(EnvError, match=complaint):
            ask(questions, split)


@pytest.fixture(scope="module")
def real() -> tuple[Question, ...]:
    return load_questions(DATA)


@needs_data
def test_the_shared_questions_have_the_sizes_of_their_sources(real: tuple[Question, ...]) -> None:
    assert Counter(each.dataset.value for each in split_questions(real, "test")) == {
        "NQ": 1000,
        "HotpotQA": 493,
        "TriviaQA": 1000,
        "PopQA": 1000,
        "2Wiki": 164,
        "MuSiQue": 200,
        "Bamboogle": 125,
    }
    pool = split_questions(real, "train+test_rest")
    assert Counter((each.dataset.value, each.split) for each in pool) == {
        ("NQ", "test_rest"): 1655,
        ("HotpotQA", "train"): 100,
    }
    assert len(real) == 6337


@needs_data
def test_no_shared_question_is_in_training_and_in_test(real: tuple[Question, ...]) -> None:
    """The split `train` is tested too, with the pool for NQ relabelled as its training set."""
    relabelled = tuple(replace(each, split="train") if each.split == "test_rest" else each for each in real)
    tested = split_questions(real, "test")
    ids, texts = {each.id for each in tested}, {normalised(each.question) for each in tested}
    for pool in (split_questions(real, "train+test_rest"), split_questions(relabelled, "train")):
        assert pool
        assert not ids & {each.id for each in pool}
        assert not texts & {normalised(each.question) for each in pool}


@needs_data
def test_an_overlap_that_is_planted_in_the_shared_questions_is_removed(real: tuple[Question, ...]) -> None:
    victim = split_questions(real, "test")[0]
    planted = replace(victim, id="planted", dataset=Dataset.NQ, split="test_rest", question=f"The {victim.question}!")
    assert planted not in split_questions((*real, planted), "train+test_rest")
    assert dropped_questions((*real, planted), "train+test_rest") == (planted,)


@needs_data
def test_without_training_questions_of_nq_the_pool_is_named(real: tuple[Question, ...]) -> None:
    with pytest.raises(EnvError, match="use split 'train\\+test_rest'"):
        split_questions(real, "train")
