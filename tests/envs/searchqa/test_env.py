"""Episodes of a question: what is answered, what counts, what a copy keeps apart."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Passage
from stepcredit.envs.searchqa.env import Rules, SearchQaEnv, query_of
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.text import INVALID

QUESTION = Question("q/1", Dataset.NQ, "test", "who wrote The Silver Bell", ("Ada Fox", "A. Fox"), ("The Silver Bell",))
PASSAGES = (Passage("p1", "The Silver Bell", "The Silver Bell is a novel by Ada Fox."), Passage("p2", "Bells", "Ring."))


class Shelf:
    """Finds the passages whose words the query shares; remembers what it was asked."""

    info: Mapping[str, str] = {"engine": "shelf", "corpus_sha256": "0"}

    def __init__(self) -> None:
        self.asked: list[str] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.asked += queries
        return [[Hit(p, 1.0) for p in PASSAGES if set(query.split()) & set(p.text.split())][:k] for query in queries]


class Gone(Shelf):
    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        raise RetrievalError("the retriever is gone")


def begun(rules: Rules | None = None, shelf: Shelf | None = None) -> SearchQaEnv:
    env = SearchQaEnv(QUESTION, shelf or Shelf(), rules or Rules())
    assert env.reset().text == "Question: who wrote The Silver Bell"
    return env


def test_a_search_is_answered_with_passages_in_the_public_format() -> None:
    env = begun()
    result = env.step("<search> Silver Bell novel </search>")
    assert result.observation.text == (
        "\n\n<information>Doc 1(Title: The Silver Bell) The Silver Bell is a novel by Ada Fox.\n</information>\n\n"
    )
    assert result.observation.text.endswith(result.observation.closing)
    assert (result.done, result.valid, result.success) == (False, True, False)
    assert env.metrics["title_found"] == env.metrics["gold_found"] == env.metrics["searches"] == 1.0


def test_an_answer_ends_the_episode_with_its_exact_match() -> None:
    right, wrong = begun(), begun()
    result = right.step("<answer>the ada fox.</answer>")
    assert (result.done, result.success, result.reward) == (True, True, 1.0)
    result = wrong.step("<answer>Ada</answer>")
    assert (result.done, result.success, result.reward) == (True, False, 0.0)
    assert wrong.metrics["f1"] == pytest.approx(2 / 3)
    with pytest.raises(EnvError, match="outside of an episode"):
        wrong.step("<answer>Ada Fox</answer>")


@pytest.mark.parametrize(
    "action", ["", "Ada Fox", "<search></search>", "<answer> \t </answer>", "<think>x</think>", "<search>x</answer>"]
)
def test_anything_else_is_invalid_and_costs_a_turn(action: str) -> None:
    env = begun(Rules(searches=1))
    result = env.step(action)
    assert (result.valid, result.done, result.observation.text) == (False, False, INVALID)
    assert env.step("").done
    assert env.metrics["invalid_turns"] == 2.0


def test_the_last_turn_is_for_the_answer_alone() -> None:
    shelf = Shelf()
    env = begun(Rules(searches=2), shelf)
    assert not env.step("<search>novel</search>").done
    assert not env.step("<search>Ring.</search>").done
    twin = env.clone()
    last = env.step("<search>Ada</search>")
    assert (last.done, last.valid, last.success) == (True, False, False)
    assert shelf.asked == ["novel", "Ring."]
    assert twin.step("<answer>Ada Fox</answer>").success


def test_a_copy_goes_its_own_way() -> None:
    env = begun()
    twin = env.clone()
    assert twin.state_key == env.state_key
    env.step("<search>novel</search>")
    assert twin.metrics["searches"] == 0.0
    assert twin.state_key != env.state_key
    assert twin.step("<answer>Ada Fox</answer>").done
    assert not env.step("<search>novel</search>").done


def test_the_format_reward_needs_an_answer_and_no_invalid_turn() -> None:
    rules = Rules(format_reward=0.2)
    assert begun(rules).step("<answer>Bo</answer>").reward == 0.2
    assert begun(rules).step("<answer>Ada Fox</answer>").reward == 1.2
    env = begun(rules)
    env.step("nonsense")
    assert env.step("<answer>Ada Fox</answer>").reward == 1.0


def test_a_dead_retriever_is_no_outcome_of_the_episode() -> None:
    with pytest.raises(RetrievalError, match="gone"):
        begun(shelf=Gone()).step("<search>novel</search>")


@given(st.text())
def test_whatever_a_model_writes_is_answered(text: str) -> None:
    broken = text.encode("utf-8", "replace").decode("utf-8", "replace")
    shelf = Shelf()
    env = begun(shelf=shelf)
    assert not env.step(f"<search>{broken}</search>").done
    assert all(query.isprintable() and query == query.strip() for query in shelf.asked)
    assert query_of(f"<search>{broken}</search>") == (shelf.asked[0] if shelf.asked else None)
    env.step(f"<answer>{broken}</answer>")


def test_a_query_of_ten_thousand_characters_is_a_query() -> None:
    shelf = Shelf()
    env = begun(shelf=shelf)
    assert env.step(f"<search>{'novel ' * 1666}book</search>").valid
    assert len(shelf.asked[0]) == 10_000
    assert not env.step(f"<search>{'novel ' * 1666}books</search>").valid
    assert len(shelf.asked) == 1
