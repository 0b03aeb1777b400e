"""The benchmarks' reference trajectories: every one succeeds, and only with its last action."""

import gzip
import json
from pathlib import Path

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark
from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.benchmark import SearchQaBenchmark


@pytest.mark.parametrize(
    ("name", "suite", "split", "every"),
    [
        ("alfworld", "mini", "valid_unseen", 1),
        ("alfworld", "full", "valid_seen", 3),
        ("alfworld", "mini", "train", 30),
        ("searchqa", "synthetic", "train", 40),
        ("searchqa", "synthetic", "test", 4),
    ],
)
def test_references_succeed_with_their_last_action(name: str, suite: str, split: str, every: int) -> None:
    benchmark = load_benchmark(name, suite)
    tasks = benchmark.panel(split).tasks[::every]
    assert {task.subset for task in tasks} == set(
        benchmark.trained_subsets if split == "train" else benchmark.subsets
    ), "the tasks leave out a subset"
    for task in tasks:
        env = benchmark.make(task.id)
        env.reset()
        actions = benchmark.solution(task.id)
        results = [env.step(action) for action in actions]
        assert all(result.valid for result in results), (task.id, actions)
        assert [result.success for result in results] == [False] * (len(actions) - 1) + [True], (task.id, actions)
        assert actions == benchmark.solution(task.id)


def test_references_are_written_as_agents_write_their_actions() -> None:
    """Without white space around an action or, where tags name its kind, inside them."""
    search = load_benchmark("searchqa", "synthetic")
    for task in search.panel("test").tasks[::7]:
        *queries, answer = search.solution(task.id)
        for kind, action in [*(("search", query) for query in queries), ("answer", answer)]:
            content = action.removeprefix(f"<{kind}>").removesuffix(f"</{kind}>")
            assert action == f"<{kind}>{content.strip()}</{kind}>"
    rooms = load_benchmark("alfworld", "mini")
    for task in rooms.panel("valid_seen").tasks[::40]:
        assert all(action == action.strip() for action in rooms.solution(task.id))


def test_real_questions_have_no_references(tmp_path: Path) -> None:
    row = {"id": "nq-test-1", "dataset": "nq", "split": "test", "question": "who?", "answers": ["A"]}
    (tmp_path / "searchqa").mkdir()
    (tmp_path / "searchqa" / "questions.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    benchmark = SearchQaBenchmark("real", environ={"STEPCREDIT_DATA": str(tmp_path)})
    with pytest.raises(EnvError, match=r"nq-test-1: searchqa-real has no reference trajectories, only .*-synthetic"):
        benchmark.solution("nq-test-1")


def test_an_unknown_task_has_no_reference() -> None:
    with pytest.raises(EnvError, match="synthetic/test/NQ/9999"):
        load_benchmark("searchqa", "synthetic").solution("synthetic/test/NQ/9999")
    with pytest.raises(EnvError, match="Pick/9999"):
        load_benchmark("alfworld", "mini").solution("mini/train/Pick/9999")


def test_a_game_that_the_oracle_cannot_win_has_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = AlfworldBenchmark("mini")
    monkeypatch.setattr("stepcredit.envs.alfworld.benchmark.solve", lambda world: None)
    task = benchmark.panel("valid_seen").tasks[0].id
    with pytest.raises(EnvError, match=f"{task}: the oracle finds no way to the goal"):
        benchmark.solution(task)
