"""Real lm-eval on the shipped policy."""

import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from stepcredit.envs import load_benchmark
from stepcredit.envs.searchqa.metrics import exact_match, token_f1
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.harness.capability.lm import Answer, examine
from stepcredit.harness.capability.regression import CHOICES, ITEMS, regression
from stepcredit.harness.capability.runs import capability_of_run
from stepcredit.harness.capability.tasks import Suite, Task, closed_book, sha256_of
from stepcredit.harness.determinism import switch_on
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy, load_policy, weights_sha256
from stepcredit.harness.record.cell import Cell
from tests.harness.cells import run_here, small_spec
from tests.harness.support import sharpen

QUESTIONS = tuple(
    Question(f"{dataset}/{number}", dataset, "test", f"Who built house {number} in {dataset}?", ("Ann Lee", "Lee"))
    for dataset in (Dataset.POPQA, Dataset.NQ)
    for number in range(3)
)
QUIET = {"report": lambda task, done, total: None}


def load() -> Policy:
    switch_on(1, "cpu")
    return load_policy("tiny", load_benchmark("alfworld", "mini"))


def asked(policy: Policy, tasks: Sequence[Task], folder: Path) -> list[Answer]:
    return examine(policy.model, policy.tokenizer, tasks, folder, **QUIET)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load()


@pytest.fixture(scope="module")
def answers(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    return asked(policy, [*closed_book(QUESTIONS), *regression(0)], tmp_path_factory.mktemp("tasks"))


def test_every_example_is_answered_once(answers: list[Answer]):
    tasks = [*closed_book(QUESTIONS), *regression(0)]
    metrics = {Suite.CLOSED_BOOK: ["exact_match", "f1"], Suite.REGRESSION: ["acc"], Suite.TEXT: ["bits_per_byte"]}
    expected = [
        (task.suite, task.subset, document["id"], metric)
        for task in tasks
        for document in task.documents
        for metric in metrics[task.suite]
    ]
    assert [(a.suite, a.subset, a.example_id, a.metric) for a in answers] == expected


def test_closed_book_scores_are_the_rewards_own_metrics(answers: list[Answer]):
    golds = {question.id: question.answers for question in QUESTIONS}
    scored = [a for a in answers if a.suite == Suite.CLOSED_BOOK]
    assert all("\n" not in a.response for a in scored)
    for answer in scored:
        metric = exact_match if answer.metric == "exact_match" else token_f1
        assert answer.value == float(metric(answer.response, golds[answer.example_id]))


def test_an_answer_that_the_policy_gives_counts_as_right(policy: Policy, answers: list[Answer], tmp_path: Path):
    said = {a.example_id: a.response for a in answers if a.suite == Suite.CLOSED_BOOK}
    told = [Question(q.id, q.dataset, q.split, q.question, ("x", f"The {said[q.id].upper()}!")) for q in QUESTIONS]
    again = asked(policy, closed_book(told), tmp_path)
    assert [a.value for a in again] == [1.0] * (2 * len(QUESTIONS))


def test_likelihoods_are_the_models_own(policy: Policy, answers: list[Answer]):
    """Accuracy and bits per byte from plain forward passes, prompt and choice tokenized one by one."""

    def likelihood(prompt: str, text: str) -> float:
        first = policy.tokenizer.encode(prompt) if prompt else [policy.tokenizer.pad_token_id]
        ids = torch.tensor([[*first, *policy.tokenizer.encode(text)]])
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        return float(logits.gather(1, ids[0, 1:, None])[len(first) - 1 :].sum())

    found = {a.example_id: a for a in answers}
    for task in regression(0):
        for document in task.documents[:5]:
            answer = found[document["id"]]
            if task.suite is Suite.TEXT:
                bits = -likelihood("", document["text"]) / np.log(2) / len(document["text"])
                assert answer.value == pytest.approx(bits, rel=1e-4)
            else:
                scores = [likelihood(document["prompt"], f" {choice}") for choice in document["choices"]]
                best = int(np.argmax(scores))
                assert (answer.response, answer.value) == (document["choices"][best], best == document["answer"])


def test_the_same_weights_answer_the_same_and_others_do_not(policy: Policy, answers: list[Answer], tmp_path: Path):
    tasks = [*closed_book(QUESTIONS), *regression(0)[-2:]]
    other = load()
    sharpen(other.model, 1)
    assert asked(policy, tasks, tmp_path) == [a for a in answers if a.subset in {task.subset for task in tasks}]
    changed = asked(other, tasks, tmp_path)
    for suite in Suite:
        told, before = [[a for a in of if a.suite == suite] for of in (changed, answers)]
        assert [(a.response, a.value) for a in told] != [(a.response, a.value) for a in before]


def test_model_and_global_generators_are_left_as_they_were(tmp_path: Path):
    own = load()
    own.model.train()
    before = weights_sha256(own.model), own.model.generation_config.to_dict(), own.tokenizer.eos_token
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    asked(own, closed_book(QUESTIONS), tmp_path)
    assert own.model.training
    assert (weights_sha256(own.model), own.model.generation_config.to_dict(), own.tokenizer.eos_token) == before
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == states


def test_nothing_goes_to_the_network_or_the_screen(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    calls: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **named: calls.append(arguments) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: calls.append(address))
    asked(policy, [*closed_book(QUESTIONS), *regression(0)[-1:]], tmp_path)
    assert calls == []
    assert capfd.readouterr() == ("", "")


def test_a_question_too_long_for_the_model_is_refused(policy: Policy, tmp_path: Path):
    long = Question("NQ/long", Dataset.NQ, "test", "§" * 10_000, ("x",))
    with pytest.raises(UserError, match=r"'NQ/long' of closed-book-NQ needs \d+ tokens, but the model has 4096"):
        asked(policy, closed_book([long]), tmp_path)


def test_tasks_do_not_depend_on_the_order_of_questions():
    assert closed_book(QUESTIONS) == closed_book(QUESTIONS[::-1])
    assert [task.name for task in closed_book(QUESTIONS)] == ["closed-book-NQ", "closed-book-PopQA"]


def test_tasks_have_an_identity():
    tasks = regression(0)
    assert sha256_of(tasks) == sha256_of(regression(0))
    assert len({sha256_of(tasks), sha256_of(regression(1)), sha256_of(tasks[1:]), sha256_of(tasks[::-1])}) == 4


@pytest.mark.parametrize("task", regression(0)[:-1], ids=lambda task: task.subset)
def test_regression_items_have_one_right_choice_and_none_is_shorter(task: Task):
    assert len({document["prompt"] for document in task.documents}) == ITEMS
    for document in task.documents:
        choices = document["choices"]
        assert (len(set(choices)), len({len(choice) for choice in choices})) == (CHOICES, 1)
        assert choices[document["answer"]] == solve(task.subset, document["prompt"])


def solve(kind: str, prompt: str) -> str:
    """An answer worked out from the prompt alone."""
    first = prompt.splitlines()[0].removeprefix("Words: ")
    match kind:
        case "copying":
            return first
        case "sorting":
            return " ".join(sorted(first.split()))
        case "counting":
            return str(len(first.split()))
        case "arithmetic":
            left, right = prompt.removesuffix(" =").split(" + ")
            return str(int(left) + int(right))
        case _:
            name = prompt.split("does ")[1].split(" live")[0]
            return prompt.split(f"{name} lives in ")[1].split(".")[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One update, large enough to be heard."""
    study = tmp_path_factory.mktemp("study")
    spec = small_spec("updates=1", "evaluation.size=1", "optim.lr=0.05", method="grpo")
    run_here(study, spec.model_dump(mode="json"), None)
    return Cell(study, spec).folder


def test_a_run_is_examined_before_and_after(run: Path):
    steps: list[tuple[str, int, int]] = []
    found = capability_of_run(run, questions=QUESTIONS, report=lambda *step: steps.append(step))
    before, after = found["before"], found["after"]
    assert before["examination"] == after["examination"]
    assert (before["phase"], before["update"], after["phase"], after["update"]) == ("before", 0, "after", 1)
    assert before["tasks"]["closed-book-NQ"]["n"] == 3
    assert before["tasks"]["regression-copying"]["n"] == ITEMS
    assert before["tasks"]["regression-text-english"] != after["tasks"]["regression-text-english"]
    assert steps[-1] == ("", 8, 8)

    rows = pq.read_table(run / "capability" / after["file"]).to_pylist()
    own = [row["value"] for row in rows if (row["subset"], row["metric"]) == ("copying", "acc")]
    assert after["tasks"]["regression-copying"]["acc"] == sum(own) / len(own)
    assert {(row["phase"], row["update"]) for row in rows} == {("after", 1)}


def test_an_examination_that_is_there_is_read(run: Path):
    first = capability_of_run(run, questions=QUESTIONS)
    steps: list[str] = []
    assert capability_of_run(run, questions=QUESTIONS, report=lambda *step: steps.append(step[0])) == first
    assert steps == []
    (run / "capability" / first["after"]["file"]).write_bytes(b"cut short")
    assert capability_of_run(run, questions=QUESTIONS, report=lambda *step: steps.append(step[0])) == first
    assert len(steps) == 9


def test_a_run_without_questions_gets_the_regression_suite_alone(run: Path):
    with_questions, without = capability_of_run(run, questions=QUESTIONS), capability_of_run(run)
    assert list(without["after"]["tasks"]) == [task.name for task in regression(0)]
    assert without["before"]["examination"] != with_questions["before"]["examination"]
    assert len(list((run.parent / "capability").glob("before-*.json"))) == 2


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds no run"):
        capability_of_run(tmp_path)


def test_a_missing_checkpoint_is_refused(run: Path):
    with pytest.raises(UserError, match=r"keeps the checkpoints of updates \[1\], not 7"):
        capability_of_run(run, update=7)
