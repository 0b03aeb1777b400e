"""Environments without `clone`: copies take the same actions again, and are refused where that leads elsewhere."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from stepcredit.envs.contract import Benchmark, EnvFailure, Observation, StepResult
from stepcredit.envs.diagnostic import benchmark as diagnostic
from stepcredit.envs.family import Copies
from stepcredit.envs.hallway import Hallway, HallwayEnv
from stepcredit.envs.laws import benchmark_tests
from stepcredit.envs.replayed import Replaying
from stepcredit.harness.cli.app import run


class Uncloned:
    """A walk that cannot be copied."""

    def __init__(self, number: int, forgetful: list[int] | None = None) -> None:
        self._env, self._forgetful = HallwayEnv(number), forgetful

    def reset(self) -> Observation:
        return self._env.reset()

    def step(self, action: str) -> StepResult:
        result = self._env.step(action)
        if self._forgetful is None:
            return result
        self._forgetful.append(1)
        said = replace(result.observation, text=f"{result.observation.text} Step {len(self._forgetful)}.")
        return replace(result, observation=said)

    @property
    def state_key(self) -> str:
        return self._env.state_key

    @property
    def metrics(self) -> Mapping[str, float]:
        return self._env.metrics


class UnclonedHallway(Hallway):
    forgetful: list[int] | None = None

    def make(self, task_id: str) -> Any:
        return Uncloned(int(task_id.removeprefix("walk-")), self.forgetful)


REPLAYING = cast(Benchmark, Replaying(cast(Benchmark, UnclonedHallway())))

test_promises = benchmark_tests(lambda: REPLAYING, "train", "test")


def test_copies_cost_what_they_take_again() -> None:
    benchmark = Replaying(cast(Benchmark, UnclonedHallway()))
    env = benchmark.make(benchmark.panel("train").tasks[3].id)
    env.reset()
    for action in ("right", "right", "left"):
        env.step(action)
    twin = env.clone()
    assert (twin.state_key, benchmark.retaken) == (env.state_key, 3)
    twin.step("right")
    assert twin.state_key != env.state_key


def test_what_is_not_deterministic_is_refused_in_a_sentence() -> None:
    hallway = UnclonedHallway()
    hallway.forgetful = []
    env = Replaying(cast(Benchmark, hallway)).make(hallway.panel("train").tasks[0].id)
    env.reset()
    env.step("right")
    with pytest.raises(EnvFailure, match=r"the answer to action 1, 'right', is another one now.* give its environment"):
        env.clone()


def test_a_credit_study_by_replay_finds_what_it_finds_by_cloning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["credit-study", "--benchmark", "diagnostic", "--suite", "bandit_tree", "--tasks", "2", "--jobs", "1"]
    words += ["--set", "rollout.group=4", "--precision", "0.2", "--method", "grpo", "--arm", "peer_traj"]
    assert run([*words, "--out", str(tmp_path / "cloned")]) == 0
    assert "taken again" not in capsys.readouterr().out
    monkeypatch.setattr(diagnostic, "FAMILY", replace(diagnostic.FAMILY, copies=Copies.REPLAY))
    assert run([*words, "--out", str(tmp_path / "replayed")]) == 0
    assert "its episodes cannot be cloned" in capsys.readouterr().out
    cloned, replayed = (pd.read_parquet(tmp_path / name / "steps.parquet") for name in ("cloned", "replayed"))
    pd.testing.assert_frame_equal(cloned, replayed)
