import random
import re
import string
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.metrics import contains_gold, exact_match, final_answer, mean_exact, normalised, token_f1

WORDS = st.lists(
    st.sampled_from(["a", "an", "the", "obama", "barack", "u.s.", "1,000", "new-york", "–", "“the“", "anthem"]),
    max_size=6,
)
TEXTS = st.one_of(WORDS.map(" ".join), st.text(max_size=40))


def squad_normalise(text: str) -> str:
    """SQuAD 1.1's evaluation script, after its description: lower case, punctuation, articles, white space."""
    without_punctuation = "".join(c for c in text.lower() if c not in set(string.punctuation))
    without_articles = re.sub(r"\b(a|an|the)\b", lambda _: " ", without_punctuation)
    return " ".join(without_articles.split())


def squad_f1(prediction: str, gold: str) -> Fraction:
    """Harmonic mean of precision and recall, in exact arithmetic; of answers that share nothing it is 0."""
    left, right = squad_normalise(prediction).split(), squad_normalise(gold).split()
    shared = sum((Counter(left) & Counter(right)).values())
    if not shared:
        return Fraction(0)
    precision, recall = Fraction(shared, len(left)), Fraction(shared, len(right))
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beatles", "beatles"),
        ("a  an the", ""),
        ("U.S.", "us"),
        ("U. S.", "u s"),
        ("Theatre of another anthem", "theatre of another anthem"),
        ("1,000", "1000"),
        ("rock-and-roll", "rockandroll"),
        ("1914–1918", "1914–1918"),
        ("“The” end", "“ ” end"),
        ("O'Neill's\tan\nApple", "oneills apple"),
        ("ÉCOLE", "école"),
        ("vitamin A", "vitamin"),
        ("", ""),
    ],
)
def test_the_normaliser_is_squads(text: str, expected: str) -> None:
    assert normalised(text) == expected
    assert squad_normalise(text) == expected


@given(TEXTS)
def test_the_normaliser_agrees_with_another_implementation(text: str) -> None:
    assert normalised(text) == squad_normalise(text)


@given(TEXTS)
def test_normalising_leaves_no_article_and_no_punctuation_at_word_ends(text: str) -> None:
    assert not {"a", "an", "the"} & set(normalised(text).split())
    assert not set(string.punctuation) & set(normalised(text))


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("The Beatles", ["beatles"], True),
        ("beatles", ["Rolling Stones", "Beatles!"], True),
        ("the beatles band", ["beatles"], False),
        ("", ["beatles"], False),
        ("beatles", [], False),
        ("1914-1918", ["1914–1918"], False),
    ],
)
def test_an_exact_match_is_with_any_gold_answer(prediction: str, golds: list[str], expected: bool) -> None:
    assert exact_match(prediction, golds) is expected


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("barack obama senior", ["Barack Obama"], 0.8),
        ("obama", ["Barack Obama"], 2 / 3),
        ("obama obama", ["Barack Obama"], 0.5),
        ("Barack Obama", ["the Barack, Obama"], 1.0),
        ("angela merkel", ["Barack Obama"], 0.0),
        ("barack obama senior", ["Obama", "Barack Obama"], 0.8),
        ("", ["Obama"], 0.0),
        ("the", ["A"], 1.0),
        ("obama", [], 0.0),
    ],
)
def test_f1_is_that_of_the_best_gold_answer(prediction: str, golds: list[str], expected: float) -> None:
    assert token_f1(prediction, golds) == expected


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_f1_is_squads_and_one_for_an_exact_match(prediction: str, golds: list[str]) -> None:
    score = token_f1(prediction, golds)
    if exact_match(prediction, golds):
        assert score == 1.0
    else:
        assert score == float(max(squad_f1(prediction, gold) for gold in golds))


@pytest.mark.parametrize(
    ("text", "golds", "expected"),
    [
        ("Barack Hussein Obama was born in Honolulu.", ["honolulu"], True),
        ("He was born in the U.S. in 1961.", ["Born in US"], True),
        ("Nothing here, Honolulu's", ["honolulu"], False),
        ("new jersey, york", ["New York"], False),
        ("He is 19610 years old", ["1961"], False),
        ("the end", ["The"], False),
        ("a b c", ["x y", "B c"], True),
        ("", ["x"], False),
    ],
)
def test_a_gold_answer_is_found_as_whole_words_in_a_row(text: str, golds: list[str], expected: bool) -> None:
    assert contains_gold(text, golds) is expected


@given(TEXTS, TEXTS, TEXTS)
def test_a_gold_answer_is_found_wherever_it_stands(before: str, gold: str, after: str) -> None:
    assert contains_gold(f"{before} {gold} {after}", [gold]) is bool(normalised(gold))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>x</think><answer> Paris </answer>", "Paris"),
        ("<answer>Rome</answer> no, <answer>Paris\nFrance</answer>", "Paris\nFrance"),
        ("<answer></answer>", ""),
        ("<answer>Paris", None),
        ("Paris", None),
    ],
)
def test_the_last_answer_of_a_response_counts(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


def test_the_prompts_example_is_no_answer() -> None:
    example = "For example, <answer> Beijing </answer>. Question: who?\n"
    assert final_answer(example, examples_in_prompt=1) is None
    assert final_answer(f"{example}<answer>Li Bai</answer>", examples_in_prompt=1) == "Li Bai"
    assert final_answer(f"{example}<answer>Rome</answer><answer>Li Bai</answer>", examples_in_prompt=1) == "Li Bai"


def test_a_response_alone_is_scored_without_examples() -> None:
    """Two tags asked of a response alone, as Search-R1's scorer does, would make every answer wrong."""
    response = "<think>x</think><answer>Li Bai</answer>"
    assert final_answer(response) == "Li Bai"
    assert final_answer(response, examples_in_prompt=1) is None


SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(SCORES, st.integers(0, 2**32), st.integers(1, 60))
def test_batches_and_order_do_not_touch_the_mean(scores: list[float], seed: int, batch: int) -> None:
    shuffled = random.Random(seed).sample(scores, len(scores))
    batches = [shuffled[start : start + batch] for start in range(0, len(shuffled), batch)]
    assert mean_exact(score for part in batches for score in part).hex() == mean_exact(scores).hex()


@given(SCORES)
def test_the_mean_is_the_rational_one_but_for_rounding(scores: list[float]) -> None:
    exact = sum(map(Fraction, scores)) / len(scores)
    assert mean_exact(scores) == float(sum(map(Fraction, scores))) / len(scores)
    assert mean_exact(scores) == pytest.approx(float(exact), rel=1e-15)


def test_the_published_mistake_is_not_made() -> None:
    """Bamboogle's 125 questions in batches of 124 and 1: the mean of batch means is 64.1 where 28.8 are right."""
    scores = [1.0] * 35 + [0.0] * 89 + [1.0]
    assert mean_exact(scores) == 36 / 125 == 0.288
    assert (mean_exact(scores[:124]) + mean_exact(scores[124:])) / 2 == pytest.approx(0.641, abs=5e-4)


def test_a_mean_over_nothing_is_refused() -> None:
    with pytest.raises(EnvError, match="over no examples"):
        mean_exact([])
