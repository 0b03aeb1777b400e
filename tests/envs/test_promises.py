"""Our benchmarks keep the promises of their contract; and a promise that is broken is noticed."""

from collections.abc import Mapping
from copy import copy
from typing import Any, cast

import pytest

from stepcredit.envs import laws, load_benchmark
from stepcredit.envs.contract import Benchmark, EnvError, StepResult
from stepcredit.envs.hallway import Hallway, HallwayEnv
from stepcredit.envs.laws import PromiseBroken, benchmark_tests
from stepcredit.envs.panel import Panel, Task

test_alfworld = benchmark_tests(lambda: load_benchmark("alfworld", "mini"), "train", "valid_unseen")
test_searchqa = benchmark_tests(lambda: load_benchmark("searchqa", "synthetic"), "train", "test")


class Forgetful(HallwayEnv):
    """Its clones are itself."""

    def clone(self) -> "Forgetful":  # type: ignore[override]
        return self


class Moody(HallwayEnv):
    """Answers every second episode differently."""

    moods = 0

    def step(self, action: str) -> StepResult:
        Moody.moods += 1
        result = super().step(action)
        mood = f"{result.observation.text} {Moody.moods}"
        return StepResult(type(result.observation)(mood, result.observation.actions), result.done, False, True)


class Growing(HallwayEnv):
    """Has a number more after its first turn."""

    @property
    def metrics(self) -> Mapping[str, float]:
        return {"moves": 1.0} if self._moves else {}


class Odd(Hallway):
    """A hallway with an environment of another kind."""

    def __init__(self, env: type[HallwayEnv]) -> None:
        self._env = env

    def make(self, task_id: str) -> HallwayEnv:
        return self._env(int(task_id.removeprefix("walk-")))


class Lost(Hallway):
    """Its tasks are of a subset that it does not know, and its references lead nowhere."""

    def panel(self, split: str) -> Panel:
        return Panel.of("hallway", "short", split, [Task("walk-01", "Elsewhere", "0" * 64)])

    def solution(self, task_id: str) -> tuple[str, ...]:
        return ("left",)


class Untold(Odd):
    """Has no references."""

    def solution(self, task_id: str) -> tuple[str, ...]:
        raise EnvError("none")


@pytest.mark.parametrize(
    ("benchmark", "promise", "complaint"),
    [
        (Odd(Forgetful), laws.clones_go_their_own_way, "changes the state of the original"),
        (Odd(Moody), laws.episodes_repeat, "answers .* with .*, then with"),
        (Odd(Growing), laws.metrics_have_the_same_names, r"names \[\] or \['moves'\]"),
        (Lost(), laws.panels_repeat, "subset 'Elsewhere', which is not in `subsets`"),
        (Lost(), laws.references_succeed, "does not end the episode"),
    ],
)
def test_broken_promises_are_named(benchmark: Any, promise: laws.Check, complaint: str) -> None:
    with pytest.raises(PromiseBroken, match=complaint):
        promise(cast(Benchmark, benchmark), "test")


def test_references_may_be_lacking() -> None:
    laws.references_succeed(cast(Benchmark, Untold(HallwayEnv)), "test")
    assert copy(HallwayEnv(1)).state_key == "1:0"
