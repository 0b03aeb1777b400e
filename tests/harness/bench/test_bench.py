"""The measurement itself: both engines do the same work, so that their ratio means something."""

from collections.abc import Mapping, Sequence

from stepcredit.envs.panel import Panel
from stepcredit.harness.bench.rollout import measure_rollout
from tests.harness.support import SPEC, TASKS, TURNS, ToyEnv, toy_policy


class ToyBenchmark:
    name, suite, subsets = "toy", "toy", ("Pick",)
    trained_subsets, turn_format = subsets, TURNS

    def panel(self, split: str) -> Panel:
        return Panel.of(self.name, self.suite, split, TASKS)

    def make(self, task_id: str) -> ToyEnv:
        return ToyEnv(task_id)

    def prefetch(self, actions: Sequence[str]) -> None:
        pass

    def provenance(self) -> Mapping[str, str]:
        return {}


def test_engine_and_baseline_draw_the_same_with_the_same_probabilities() -> None:
    numbers = measure_rollout(toy_policy(), ToyBenchmark(), "train", SPEC)
    assert numbers["equal_trajectories"] == 1.0
    assert 0 < numbers["logprob_difference"] < 1e-5
    assert numbers["logprob_difference_float64"] < 2e-6
    assert numbers["ratio"] > 0
