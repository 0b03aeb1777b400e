"""What methods are given beyond the rollouts: references that succeed, nothing unasked for, the same on resuming."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark
from stepcredit.envs.contract import EnvError, EnvFailure
from stepcredit.harness import determinism
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files
from stepcredit.harness.record.cell import UPDATES, Cell
from stepcredit.harness.record.rows import UpdateRow, read_rows
from stepcredit.harness.run.given import complete, golden_turns
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.run.train import train
from stepcredit.harness.seeds import Draws
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Group, Needs
from tests.harness.cells import run_here, small_spec

ALFWORLD = load_benchmark("alfworld", "mini")
TASKS = ALFWORLD.panel("train").tasks[::700][:2]
SHORT = ("updates=2", "rollout.tasks=1", "rollout.group=4", "rollout.max_turns=9", "evaluation.size=1")
GOLDEN = small_spec(*SHORT, "method_options.hindsight=golden_rollout", "optim.lr=0.01")
VINE = small_spec(
    *SHORT,
    "rollout.tasks=2",
    "rollout.group=2",
    "method_options.continuations=1",
    "optim.lr=0.01",
    method="vineppo",
)


@pytest.mark.parametrize(("name", "suite", "split"), [("alfworld", "mini", "train"), ("searchqa", "synthetic", "test")])
def test_reference_trajectories_show_what_the_environment_answers(name: str, suite: str, split: str) -> None:
    benchmark = load_benchmark(name, suite)
    for task in benchmark.panel(split).tasks[::100]:
        turns = golden_turns(benchmark, task.id)
        env = benchmark.make(task.id)
        env.reset()
        results = [env.step(turn.action_text) for turn in turns]
        assert [turn.observation for turn in turns] == [result.observation.text for result in results]
        assert [result.success for result in results] == [False] * (len(turns) - 1) + [True]


def test_a_reference_that_does_not_succeed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ALFWORLD, "solution", lambda task_id: ("look", "inventory"))
    with pytest.raises(UserError, match=r"the reference trajectory of 'mini/.* does not succeed: look; inventory"):
        golden_turns(ALFWORLD, TASKS[0].id)


def test_an_environment_that_breaks_in_a_reference_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(env: object, action: str) -> None:
        raise EnvFailure("the server is gone")

    monkeypatch.setattr("stepcredit.envs.alfworld.env.AlfworldEnv.step", broken)
    with pytest.raises(UserError, match=r"broke in step 0 of the reference trajectory of .*: the server is gone"):
        golden_turns(ALFWORLD, TASKS[0].id)


def test_groups_are_given_what_is_needed_and_nothing_else() -> None:
    parts = assemble(VINE, "cpu")
    learner = Learner.of(VINE, parts)
    groups = rollout(learner.player, TASKS, VINE.rollout, Draws(0, update=0))
    for golden in (False, True):
        for number in (0, 1):
            needs = Needs(golden=golden, continuations=number)
            for group in complete(groups, TASKS, needs, learner.player, VINE, 0, {}):
                assert group.golden == (golden_turns(ALFWORLD, group.task_id) if golden else None)
                for trajectory in group.trajectories:
                    lengths = None if trajectory.continuations is None else [len(x) for x in trajectory.continuations]
                    assert lengths == ([number] * len(trajectory.steps) if number else None)


def test_successes_of_other_tasks_are_foreign() -> None:
    tasks = ALFWORLD.panel("train").tasks[::500]
    parts = assemble(VINE, "cpu")
    player = Learner.of(VINE, parts).player
    groups = rollout(player, tasks, VINE.rollout, Draws(0, update=0))
    won = {t.task_id for group in groups for t in group.trajectories if t.success}
    assert len(won) > 1
    for group in complete(groups, tasks, Needs(foreign=True), player, VINE, 0, {}):
        assert {trajectory.task_id for trajectory in group.foreign} == won - {group.task_id}
        assert all(trajectory.success for trajectory in group.foreign)


@pytest.mark.parametrize(("name", "suite", "split"), [("alfworld", "mini", "train"), ("searchqa", "synthetic", "test")])
def test_prompts_without_the_task_lack_its_words_alone(name: str, suite: str, split: str) -> None:
    spec = build_spec(model="tiny", benchmark=name, suite=suite, method="grpo", seed=0, overrides=("rollout.group=2",))
    parts = assemble(spec, "cpu")
    player, tasks = Learner.of(spec, parts).player, load_benchmark(name, suite).panel(split).tasks[:2]
    groups = rollout(player, tasks, spec.rollout, Draws(0, update=0))
    spell = parts.policy.transcript.token_bytes
    for group in complete(groups, tasks, Needs(untold=True), player, spec, 0, {}):
        words = load_benchmark(name, suite).make(group.task_id).reset().task.encode()
        for step in (step for trajectory in group.trajectories for step in trajectory.steps):
            assert step.untold_ids is not None
            told, untold = (b"".join(spell(int(token)) for token in ids) for ids in (step.prompt_ids, step.untold_ids))
            assert told.replace(words, b"", 1) == untold


@pytest.mark.parametrize("subset", ALFWORLD.subsets)
def test_a_benchmark_without_references_of_a_kind_is_refused_before_the_run(
    subset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = {task.id for task in ALFWORLD.panel("train").tasks if task.subset == subset}
    known = AlfworldBenchmark.solution

    def solution(benchmark: AlfworldBenchmark, task_id: str) -> tuple[str, ...]:
        if task_id in lacking:
            raise EnvError(f"{task_id}: searchqa-real has no reference trajectories")
        return known(benchmark, task_id)

    monkeypatch.setattr(AlfworldBenchmark, "solution", solution)
    with pytest.raises(EnvError, match=r"'stepopsd' .*'golden_rollout'.* needs .*searchqa-real has no reference"):
        assemble(GOLDEN, "cpu")
    assemble(small_spec(), "cpu")


def bits(study: Path, spec: RunSpec) -> tuple[object, ...]:
    folder = Cell(study, spec).folder
    manifest = files.read_json(folder / "manifest.json")
    assert manifest["final_weights_sha256"] != manifest["policy"]["weights_sha256"], "nothing was learned: a weak test"
    return files.sha256_of(folder / UPDATES), manifest["final_weights_sha256"]


@pytest.mark.parametrize("spec", [GOLDEN, VINE], ids=["golden", "continuations"])
def test_an_interrupted_run_is_given_the_same_again(
    tmp_path: Path, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = spec.model_dump(mode="json")
    run_here(tmp_path / "alone", content)
    with monkeypatch.context() as patch:
        patch.setattr("stepcredit.harness.run.train.complete", interrupted_in(2))
        with pytest.raises(KeyboardInterrupt):
            run_here(tmp_path / "interrupted", content)
    run_here(tmp_path / "interrupted", content)
    assert bits(tmp_path / "interrupted", spec) == bits(tmp_path / "alone", spec)


def interrupted_in(update: int) -> Callable[..., list[Group]]:
    """`complete`, until its call of that number, counted from 1."""
    calls = count(1)

    def called(*arguments: Any) -> list[Group]:
        if next(calls) == update:
            raise KeyboardInterrupt
        return complete(*arguments)

    return called


@pytest.mark.parametrize("positions", [4096, 100])
def test_hindsight_that_was_cut_is_counted_where_there_is_any(tmp_path: Path, positions: int) -> None:
    cell = Cell(tmp_path, GOLDEN)
    parts = assemble(cell.spec, "cpu")
    parts.policy.model.config.max_position_embeddings = positions
    train(cell, parts, determinism.switch_on(1, "cpu"), lambda report: None)
    rows = [json.loads(row.diagnostics) for row in read_rows(cell.folder / UPDATES, UpdateRow)]
    assert any(row["taught_share"] > 0 for row in rows)
    assert any("hindsight_cut_tokens" in row for row in rows) == (positions == 100)
    assert all(row.get("hindsight_cut_tokens", 1) > 0 for row in rows)


def test_trajectories_that_an_arm_cannot_serve_are_counted(tmp_path: Path) -> None:
    """One task an update: nobody else can be foreign to it."""
    few = ("updates=2", "rollout.tasks=1", "rollout.group=8", "rollout.max_turns=12", "evaluation.size=1")
    cell = Cell(tmp_path, small_spec(*few, "method_options.hindsight=foreign"))
    train(cell, assemble(cell.spec, "cpu"), determinism.switch_on(1, "cpu"), lambda report: None)
    rows = [json.loads(row.diagnostics) for row in read_rows(cell.folder / UPDATES, UpdateRow)]
    assert any(row.get("hindsight_unserved") == 1.0 for row in rows)
