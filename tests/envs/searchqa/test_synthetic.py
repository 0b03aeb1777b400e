"""The generated world: the same everywhere, its questions answerable, no question in two splits."""

import hashlib
import json
import random
from collections import Counter
from itertools import islice

from stepcredit.envs.searchqa.benchmark import SearchQaBenchmark
from stepcredit.envs.searchqa.env import Rules, SearchQaEnv
from stepcredit.envs.searchqa.metrics import normalised
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.synthetic import synthetic_corpus, synthetic_questions
from stepcredit.envs.searchqa.synthetic.expert import Habits, Solver
from stepcredit.envs.searchqa.synthetic.questions import endless_drafts, solutions
from stepcredit.envs.searchqa.synthetic.shapes import Draft

BENCHMARK = SearchQaBenchmark("synthetic")
RETRIEVER = Bm25Retriever(synthetic_corpus())


def test_corpus_and_questions_are_the_same_on_every_machine() -> None:
    assert synthetic_corpus().sha256.startswith("e0d9af05bf70")
    content = json.dumps([[q.id, q.question, q.answers] for q in synthetic_questions()], ensure_ascii=False)
    assert hashlib.sha256(content.encode()).hexdigest().startswith("2b126d921c61")
    assert 3000 < len(synthetic_corpus().passages) < 5000


def test_splits_and_datasets_are_those_of_the_field() -> None:
    train, test = BENCHMARK.panel("train"), BENCHMARK.panel("test")
    assert {task.subset for task in train.tasks} == {"NQ", "HotpotQA"} == set(BENCHMARK.trained_subsets)
    assert Counter(task.subset for task in test.tasks) == dict.fromkeys(Dataset, 60)


def test_no_question_is_in_two_splits() -> None:
    by_split = {
        split: {normalised(q.question) for q in synthetic_questions() if q.split == split}
        for split in ("train", "test")
    }
    assert not by_split["train"] & by_split["test"]


def test_the_warm_start_reads_of_other_worlds() -> None:
    known = {passage.text for passage in synthetic_corpus().passages}
    for number in (1, 2):
        other = [passage.text for passage in synthetic_corpus(number).passages]
        told = [text for text in other if text in known and not text.startswith(("Cities", "People"))]
        assert len(told) < len(other) / 100


def test_every_question_is_answered_by_its_searches() -> None:
    for task_id, actions in solutions().items():
        env = BENCHMARK.make(task_id)
        env.reset()
        results = [env.step(action) for action in actions]
        assert results[-1].success, (task_id, actions)
        assert env.metrics["title_found"] == 1.0


def test_an_answer_needs_a_search() -> None:
    """No question holds its answer, but for comparisons and for painters who happen to be painters by occupation."""
    for question in synthetic_questions():
        if " or " not in question.question and "occupation" not in question.question:
            words = normalised(question.question)
            assert not any(normalised(answer) in words for answer in question.answers), question


def test_a_careful_solver_always_answers_and_a_guessing_one_does_not() -> None:
    drafts = list(islice(endless_drafts(0, random.Random(1)), 210))
    guesses = {hop.slot: [hop.value] for draft in drafts for hop in draft.hops}
    rates = {}
    for share in (0.0, 1.0):
        rng = random.Random(2)
        rates[share] = sum(_played(draft, Habits(guess=share, careless=share), guesses, rng) for draft in drafts)
    assert rates[0.0] == len(drafts)
    assert rates[1.0] < len(drafts) / 4


def _played(draft: Draft, habits: Habits, guesses: dict[str, list[str]], rng: random.Random) -> bool:
    question = Question("x", Dataset.NQ, "x", draft.text, draft.answers)
    env, solver = SearchQaEnv(question, RETRIEVER, Rules()), Solver(draft, habits, guesses, rng)
    env.reset()
    for _ in range(Rules().searches + 1):
        result = env.step(solver.decide().action)
        if result.done:
            return result.success
        solver.read(result.observation.text)
    return False
