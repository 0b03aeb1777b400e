"""One trajectory in the making."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stepcredit.envs.contract import Chance, Env, EnvError, EnvFailure
from stepcredit.envs.panel import Task
from stepcredit.harness.engine.contract import Sample
from stepcredit.harness.episodes.prompts import Prompt, Tokens, new_prompt
from stepcredit.harness.episodes.watch import Watch
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Step, StopReason, Trajectory

SeedOf = Callable[[str, int, int], int]
"""The seed of a turn's draws, from task id, trajectory and turn."""


def open_episodes(
    task: Task,
    make_env: Callable[[str], Env],
    transcript: Transcript,
    spec: RolloutSpec,
    seed_of: SeedOf,
    hint: str | None = None,
) -> list[Episode]:
    """A group's episodes before their first turn; the environment is built once and cloned."""
    env, prompt, failure = make_env(task.id), new_prompt(transcript, spec), ""
    try:
        with Watch(spec.env_timeout_s) as watch:
            fits = prompt.begin(watch.call(task.id, env.reset), hint)
            envs = [env, *(watch.call(task.id, env.clone) for _ in range(spec.group - 1))]
    except EnvFailure as error:
        stop: StopReason | None = StopReason.ENV_FAILURE
        envs, failure = [env] * spec.group, str(error)
    else:
        stop = None if fits else StopReason.CONTEXT_LIMIT
    return [Episode(task, index, own, prompt.copy(), spec, seed_of, stop, failure) for index, own in enumerate(envs)]


class Episode:
    """Takes turns with drawn responses or recorded ones; `stop` says why it has ended, None while it has not."""

    def __init__(
        self,
        task: Task,
        index: int,
        env: Env,
        prompt: Prompt,
        spec: RolloutSpec,
        seed_of: SeedOf,
        stop: StopReason | None,
        failure: str = "",
    ) -> None:
        self.task, self.index, self.stop = task, index, stop
        self._failure = failure
        self._env, self._prompt, self._spec, self._seed_of = env, prompt, spec, seed_of
        self._reward = 0.0
        self._steps: list[Step] = []

    @property
    def prompt(self) -> NDArray[np.int64]:
        """[P] everything visible before the next turn."""
        return self._prompt.tokens

    @property
    def turn(self) -> int:
        """The number of the next turn, from 0."""
        return len(self._steps)

    @property
    def answer(self) -> str:
        """What the environment said to the last turn; empty before the first."""
        return self._steps[-1].observation if self._steps else ""

    @property
    def seed(self) -> int:
        """Of the next turn's draws."""
        return self._seed_of(self.task.id, self.index, self.turn)

    def act(self, sample: Sample, watch: Watch) -> list[int]:
        """Send the response's action to the environment; returns the tokens that follow in a running transcript.

        A truncated response sends the empty action, which no environment admits.
        """
        tracker, prompt, seed, state_key = sample.tracker, self.prompt, self.seed, self._env.state_key
        text, valid, following = self._take(sample.token_ids, tracker.action_text, seed, watch)
        self._steps.append(
            Step(
                prompt_ids=prompt,
                response_ids=sample.token_ids,
                logprobs=sample.logprobs,
                think=tracker.think,
                action=tracker.action,
                action_text=tracker.action_text,
                valid=valid,
                truncated=sample.truncated,
                observation=text,
                state_key=state_key,
                seed=seed,
                action_tag=tracker.action_tag,
                tagged=tracker.tagged,
                text=tracker.text,
            )
        )
        return following

    def replay(self, step: Step) -> str:
        """Take a recorded turn again; returns what the environment answers now."""
        with Watch(self._spec.env_timeout_s) as watch:
            text, _, _ = self._take(step.response_ids, step.action_text, step.seed, watch)
        self._steps.append(step)
        return text

    def branch(self, seed_of: SeedOf) -> Self:
        """An independent episode with the same past, whose draws have other seeds.

        Raises:
            UserError: its environment cannot be copied.
        """
        try:
            with Watch(self._spec.env_timeout_s) as watch:
                env = watch.call(self.task.id, self._env.clone)
        except EnvFailure as error:
            raise UserError(str(error)) from error
        twin = type(self)(
            self.task, self.index, env, self._prompt.copy(), self._spec, seed_of, self.stop, self._failure
        )
        twin._reward, twin._steps = self._reward, list(self._steps)
        return twin

    def finished(self) -> Trajectory:
        """The trajectory, once the episode has stopped; without an end of its own it has no reward."""
        assert self.stop is not None
        return Trajectory(
            task_id=self.task.id,
            subset=self.task.subset,
            index=self.index,
            steps=tuple(self._steps),
            reward=self._reward,
            success=self.stop is StopReason.SUCCESS,
            stop=self.stop,
            metrics=dict(self._env.metrics),
            failure=self._failure,
        )

    def _take(self, response: Tokens, action: str, seed: int, watch: Watch) -> tuple[str, bool, list[int]]:
        """What the environment answers, whether it admits the action, and the tokens that follow."""
        if isinstance(self._env, Chance):
            self._env.chance(seed)
        try:
            result = watch.call(self.task.id, self._env.step, action)
        except EnvFailure as error:
            self.stop, self._failure = StopReason.ENV_FAILURE, str(error)
            return "", False, []
        following: list[int] | None = []
        if result.done:
            self.stop = StopReason.SUCCESS if result.success else StopReason.FAILURE
            self._reward = float(result.success) if result.reward is None else self._finite(result.reward)
        elif self.turn + 1 == self._spec.max_turns:
            self.stop = StopReason.TURN_LIMIT
        else:
            following = self._prompt.extend(response, result.observation, action)
            if following is None:
                self.stop = StopReason.CONTEXT_LIMIT
        return result.observation.text, result.valid, following or []

    def _finite(self, reward: float) -> float:
        if not math.isfinite(reward):
            kind = type(self._env)
            raise EnvError(
                f"environment {kind.__module__}.{kind.__qualname__} gave task {self.task.id!r} the reward {reward} at "
                f"step {self.turn}; a reward must be a finite number, mend the environment"
            )
        return reward
