"""Lists of gold answers in every way that they are written, and the law that a gold answer given back counts."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.answers import answer_texts
from stepcredit.envs.searchqa.env import Rules, SearchQaEnv
from stepcredit.envs.searchqa.literals import read_literal
from stepcredit.envs.searchqa.loaders import load_questions
from stepcredit.envs.searchqa.metrics import contains_gold, exact_match, normalised, token_f1
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.retrieval.contract import Hit


class Empty:
    """A retriever that finds nothing."""

    info: Mapping[str, str] = {"engine": "empty", "corpus_sha256": "0"}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [[] for _ in queries]


SAFE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
LISTS = st.lists(SAFE, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('["baker", "pastry cook"]', ["baker", "pastry cook"]),
        ("['baker', 'pastry cook']", ["baker", "pastry cook"]),
        ("['baker' 'pastry cook']", ["baker", "pastry cook"]),
        ("['baker'\n 'pastry cook']", ["baker", "pastry cook"]),
        ("array(['baker', 'pastry cook'], dtype=object)", ["baker", "pastry cook"]),
        ("[np.str_('baker'), np.str_('cook')]", ["baker", "cook"]),
        ("""["O'Neil", 'the "King"']""", ["O'Neil", 'the "King"']),
        ("('baker', 'cook')", ["baker", "cook"]),
        ('{"target": ["baker"]}', ["baker"]),
        ("  [ 'baker' ]  ", ["baker"]),
        (["['a', 'b']", "c"], ["a", "b", "c"]),
        (np.array(["baker", "cook"], dtype=object), ["baker", "cook"]),
        ({"target": np.array(["baker"], dtype=object)}, ["baker"]),
        ([1969, 2.0, 2.5], ["1969", "2", "2.5"]),
        ("baker", ["baker"]),
        ("[sic] erat", ["[sic] erat"]),
        ("(What's the Story) Morning Glory?", ["(What's the Story) Morning Glory?"]),
        ("[REC]", ["[REC]"]),
        (["[REC]", "(500) Days of Summer"], ["[REC]", "(500) Days of Summer"]),
    ],
)
def test_answers_in_whatever_they_are_written(written: object, expected: list[str]) -> None:
    assert answer_texts(written) == expected


@pytest.mark.parametrize(
    "written",
    ["['baker', 'cook'", '["baker" "cook', "['a' ... 'z']", "['a'b]", "array(['a'", True, None, {"a": 1}, [None]],
)
def test_what_is_cut_off_or_no_list_of_texts_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        answer_texts(written)


@given(LISTS)
def test_lists_written_by_json_and_python_are_read_back(texts: list[str]) -> None:
    for written in (json.dumps(texts), json.dumps(texts, ensure_ascii=False), repr(texts)):
        assert read_literal(written) == texts


@given(LISTS)
def test_lists_written_by_numpy_are_read_back(texts: list[str]) -> None:
    with np.printoptions(threshold=10_000, linewidth=10_000):
        for written in (str(np.array(texts, dtype=object)), repr(np.array(texts, dtype=object))):
            assert read_literal(written) == texts


@given(st.text(max_size=60))
def test_no_text_is_evaluated_or_fails_in_another_way(text: str) -> None:
    try:
        found = answer_texts(text)
    except ValueError:
        return
    assert all(isinstance(each, str) for each in found)


def test_nothing_is_evaluated() -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_literal("[__import__('os').getcwd()]")


def test_a_list_that_cannot_be_read_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "popqa" / "test.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"id": "1", "question": "who?", "golden_answers": "['baker', 'past"}) + "\n")
    with pytest.raises(
        EnvError, match=r"test.jsonl line 1 \(id 'popqa-test-1'\) has the answers .*list written as text"
    ):
        load_questions(path)


def outcome(gold: str, *others: str) -> dict[str, Any]:
    env = SearchQaEnv(Question("q", Dataset.NQ, "test", "?", (*others, gold)), Empty(), Rules())
    env.reset()
    env.step(f"<answer>{gold}</answer>")
    return dict(env.metrics)


@pytest.mark.parametrize(
    "gold", ["hy\u00adphen", "\u0645\u06cc\u200c\u0631\u0648\u0645", "caf\u200be", "\u202aLodi\u202c"]
)
def test_invisible_characters_count_alike_on_both_sides(gold: str) -> None:
    assert outcome(gold)["exact_match"] == outcome(gold)["f1"] == 1.0


@given(SAFE.filter(lambda text: text.strip()), SAFE)
def test_a_gold_answer_given_back_counts(gold: str, other: str) -> None:
    found = outcome(gold, other)
    assert found["answered"] == found["exact_match"] == found["f1"] == 1.0
    assert exact_match(gold, [other, gold])


def test_every_gold_answer_of_the_real_datasets_counts_everywhere() -> None:
    data = os.environ.get("STEPCREDIT_DATA")
    if not data:
        pytest.skip("STEPCREDIT_DATA names no folder with the real datasets")
    golds = 0
    for question in load_questions(Path(data) / "searchqa"):
        for gold in question.answers:
            golds += 1
            assert outcome(gold, *question.answers)["exact_match"] == 1.0, (question.id, gold)
            assert exact_match(gold, question.answers)
            assert token_f1(gold, question.answers) == 1.0
            assert contains_gold(f"It was {gold} then.", [gold]) == bool(normalised(gold))
    assert golds > 6000
