"""An environment that does not come back is given up; the others play on, and the record says it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stepcredit.envs.contract import EnvFailure, Observation, StepResult
from stepcredit.harness.cli.app import run
from stepcredit.harness.determinism import switch_on
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.episodes.watch import Watch
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import checkpoint, manifest
from stepcredit.harness.record.cell import EPISODES, Cell
from stepcredit.harness.record.checkpoint import RunState, SavedWeights
from stepcredit.harness.record.rows import EpisodeRow, read_rows
from stepcredit.harness.run.train import train
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.settings import build_spec
from stepcredit.methods.contract import StopReason
from tests.harness.hub import random_qwen
from tests.harness.model.templates import family
from tests.harness.support import DRAWS, SPEC, TASKS, ToyEnv, toy_groups, toy_player, toy_policy
from tests.methods.test_new_method import PIP, shell

LIMIT_S = 0.5
IMPATIENT = SPEC.model_copy(update={"env_timeout_s": LIMIT_S})
POLICY = toy_policy()


def sleeps() -> None:
    time.sleep(60)


def computes() -> None:
    while True:
        pass


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def reads() -> None:
    os.read(os.pipe()[0], 1)


def handles_its_errors() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001
            continue


def handles_everything_twice() -> None:
    for _ in range(2):
        try:
            time.sleep(60)
        except:  # noqa: E722
            continue
    time.sleep(60)


HANGS = (sleeps, computes, waits_for_a_lock, reads, handles_its_errors, handles_everything_twice)


@pytest.mark.parametrize("hang", HANGS, ids=lambda hang: hang.__name__)
def test_a_call_that_does_not_come_back_is_given_up(hang: Callable[[], None]) -> None:
    with Watch(LIMIT_S) as watch:
        with pytest.raises(EnvFailure, match=rf"of toy/1 did not come back from {hang.__name__}\(\) in 0.5 s"):
            watch.call("toy/1", hang)
        assert watch.call("toy/2", len, "and on") == 6


def test_calls_that_come_back_may_together_take_longer() -> None:
    with Watch(LIMIT_S) as watch:
        for _ in range(4):
            watch.call("toy/0", time.sleep, LIMIT_S / 2)


@contextmanager
def an_alarm_of_ones_own() -> Iterator[list[int]]:
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    yield rung
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, handler)


def test_whoever_used_the_alarm_before_has_it_back() -> None:
    with an_alarm_of_ones_own() as rung:
        with Watch(LIMIT_S) as watch:
            watch.call("toy/0", len, "")
        time.sleep(0.4)
        assert rung == [signal.SIGALRM]


def test_in_another_thread_it_is_refused_unless_it_is_off() -> None:
    said: list[str] = []

    def play(limit_s: float | None) -> None:
        try:
            toy_groups(POLICY, spec=SPEC.model_copy(update={"env_timeout_s": limit_s}))
        except UserError as error:
            said.append(str(error))

    for limit_s in (None, 600.0):
        thread = threading.Thread(target=play, args=(limit_s,))
        thread.start()
        thread.join()
    (sentence,) = said
    assert "rollout.env_timeout_s=600 needs the main thread" in sentence


class Hanging(ToyEnv):
    """Of the first task: never answers the second action."""

    def step(self, action: str) -> StepResult:
        if self._name == TASKS[0].id and self._commands:
            time.sleep(60)
        return super().step(action)


class NeverBegun(ToyEnv):
    """Of the first task: never begins."""

    def reset(self) -> Observation:
        if self._name == TASKS[0].id:
            time.sleep(60)
        return super().reset()


@pytest.mark.parametrize(("make", "steps", "call"), [(Hanging, 2, "step"), (NeverBegun, 0, "reset")])
def test_the_rest_of_the_batch_plays_as_if_nothing_had_happened(make: type[ToyEnv], steps: int, call: str) -> None:
    usual, found = toy_groups(POLICY), rollout(toy_player(POLICY, make), TASKS, IMPATIENT, DRAWS)
    for trajectory in found[0].trajectories:
        assert (trajectory.stop, trajectory.reward, len(trajectory.steps)) == (StopReason.ENV_FAILURE, 0.0, steps)
        assert f"did not come back from {call}()" in trajectory.failure
    for before, after in zip(usual[1:], found[1:], strict=True):
        for one, other in zip(before.trajectories, after.trajectories, strict=True):
            assert [step.response_ids.tolist() for step in one.steps] == [
                step.response_ids.tolist() for step in other.steps
            ]
            assert (one.reward, one.stop, other.failure) == (other.reward, other.stop, "")


STEP = "        self._moves += 1\n"
HANG = "        if self._goal == 4:\n            import time\n\n            time.sleep(600)\n"
SETTINGS = (
    *("updates=1", "rollout.tasks=10", "rollout.group=2", "rollout.max_turns=2", "rollout.max_response_tokens=8"),
    *("rollout.env_timeout_s=0.5", "evaluation.samples=1"),
)


@pytest.fixture
def hanging_hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a benchmark, installed as a package; it hangs where the fourth door is the right one."""
    assert run(["new-benchmark", "hanging_hall", "--out", str(tmp_path)]) == 0
    shell(f"{PIP} ./hanging_hall", tmp_path)
    module = tmp_path / "site" / "hanging_hall.py"
    module.write_text(module.read_text().replace(STEP, STEP + HANG))
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.mark.usefixtures("hanging_hall")
def test_a_benchmark_from_outside_that_hangs_is_recorded_and_its_run_ends(tmp_path: Path) -> None:
    tokenizer = family("chatml")
    for part in (tokenizer, random_qwen(len(tokenizer))):
        part.save_pretrained(tmp_path / "policy")
    model = str(tmp_path / "policy")
    spec = build_spec(model=model, benchmark="hanging_hall", suite=None, method="grpo", seed=0, overrides=SETTINGS)
    cell, said = Cell(tmp_path, spec), list[str]()
    train(cell, assemble(spec, "cpu"), switch_on(1, "cpu"), lambda report: said.append(report.warning))
    found = manifest.require(cell.folder)
    assert (found.status, len(found.broken)) == ("complete", 3)
    assert found.broken == [sentence for sentence in said if sentence]
    assert found.broken[1].startswith("in update 0, the environment broke in ")
    assert found.broken[1].endswith("did not come back from step() in 0.5 s and was given up (rollout.env_timeout_s)")
    rows = read_rows(cell.folder / EPISODES, EpisodeRow)
    hung = [row for row in rows if int(row.task_id.removeprefix("walk-")) % 5 == 4]
    assert hung
    assert {row.stop for row in hung} == {"env_failure"}
    assert "env_failure" not in {row.stop for row in rows if row not in hung}


def test_what_broke_outlives_an_interruption(tmp_path: Path) -> None:
    told = RunState(update=1, broken=["in update 0, the environment broke in 1 of 2 episodes: it hung"])
    for state in (told, RunState(update=2)):
        path = checkpoint.save(tmp_path, "0" * 64, state, SavedWeights({}))
        assert checkpoint.load(path, "0" * 64)[0].broken == state.broken
