"""Episodes of many tasks at once: all live trajectories take their turns together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from envs.contract import Env, EnvFailure, Observation
from envs.panel import Task
from harness.policy import Policy
from harness.sampling import Engine, Sample
from harness.seeds import turn_seed
from harness.spec import RolloutSpec
from harness.transcript import Transcript
from harness.turns import TurnTracker
from methods.contract import Group, Step, StopReason, Trajectory


def rollout(
    policy: Policy,
    engine: Engine,
    make_env: Callable[[str], Env],
    tasks: Sequence[Task],
    spec: RolloutSpec,
    run_seed: int,
    update: int,
    hindsight: Mapping[str, str] | None = None,
    prefetch: Callable[[Sequence[str]], None] | None = None,
) -> list[Group]:
    """Draw `spec.group` trajectories of each task.

    Every turn's draws depend on (run seed, update, task id, trajectory, turn) and the weights alone. An environment
    that breaks ends its own episodes, with `StopReason.ENV_FAILURE`. `hindsight` maps task ids to a block that their
    first prompt shows, to measure what a policy makes of it. `prefetch` is told the actions of all live episodes
    before they are taken.
    """
    hints = hindsight or {}
    groups = [_start(task, make_env, policy.transcript, spec, hints.get(task.id)) for task in tasks]
    live = [episode for group in groups for episode in group if episode.stop is None]
    if live:
        session = engine.open([episode.prompt for episode in live])
        new_tracker = partial(TurnTracker, policy.transcript.token_bytes, policy.turn_format.actions)
        while live:
            seeds = [turn_seed(run_seed, update, episode.task.id, episode.index, episode.turn) for episode in live]
            samples = session.generate(
                seeds=seeds,
                new_tracker=new_tracker,
                max_tokens=spec.max_response_tokens,
                temperature=spec.temperature,
            )
            if prefetch is not None:
                prefetch([sample.tracker.action_text for sample in samples])
            grown = [episode.act(sample, seed) for episode, sample, seed in zip(live, samples, seeds, strict=True)]
            going = [place for place, episode in enumerate(live) if episode.stop is None]
            live = [live[place] for place in going]
            session.keep(going)
            session.append([grown[place] for place in going])
    return [
        Group(task.id, tuple(episode.finished() for episode in group))
        for task, group in zip(tasks, groups, strict=True)
    ]


class _Episode:
    """One trajectory in the making. `transcript` is a buffer; the steps' prompts are views of it."""

    def __init__(self, task: Task, index: int, env: Env, transcript: Transcript, spec: RolloutSpec) -> None:
        self.task, self.index = task, index
        self.stop: StopReason | None = None
        self._reward = 0.0
        self._env, self._transcript, self._spec = env, transcript, spec
        self._buffer = np.empty(spec.max_context_tokens, dtype=np.int64)
        self._length = 0
        self._steps: list[Step] = []

    @property
    def prompt(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Everything visible before the next turn."""
        return self._buffer[: self._length]

    @property
    def turn(self) -> int:
        """The number of the next turn, from 0."""
        return len(self._steps)

    def read(self, tokens: Sequence[int]) -> None:
        """Add what the agent sees next; ends the episode where another turn may not fit."""
        if self._length + len(tokens) + self._spec.max_response_tokens > self._spec.max_context_tokens:
            self.stop = StopReason.CONTEXT_LIMIT
        else:
            self._write(tokens)

    def act(self, sample: Sample, seed: int) -> list[int]:
        """Send the response's action to the environment; returns the tokens of what it answers.

        A truncated response sends the empty action, which no environment admits.
        """
        tracker, prompt, state_key = sample.tracker, self.prompt, self._env.state_key
        self._write(sample.token_ids)
        try:
            result = self._env.step(tracker.action_text)
        except EnvFailure:
            self.stop = StopReason.ENV_FAILURE
            text, valid, following = "", False, []
        else:
            text, valid = result.observation.text, result.valid
            following = self._following(result.observation)
            if result.done:
                self.stop = StopReason.SUCCESS if result.success else StopReason.FAILURE
                self._reward = float(result.success) if result.reward is None else result.reward
            elif self.turn + 1 == self._spec.max_turns:
                self.stop = StopReason.TURN_LIMIT
            else:
                self.read(following)
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
            )
        )
        return following

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
        )

    def _following(self, observation: Observation) -> list[int]:
        """Tokens of the observation, cut to the limit before its closing words, and of the next turn's opening."""
        transcript, limit = self._transcript, self._spec.max_observation_tokens
        tokens = transcript.following(observation.text)
        suffix = len(transcript.generation_suffix)
        if limit is None or len(tokens) - suffix <= limit:
            return tokens
        closing = transcript.response(observation.closing)
        return [*tokens[: limit - len(closing)], *closing, *tokens[-suffix:]]

    def _write(self, tokens: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        end = self._length + len(tokens)
        self._buffer[self._length : end] = tokens
        self._length = end


def _start(
    task: Task, make_env: Callable[[str], Env], transcript: Transcript, spec: RolloutSpec, hint: str | None
) -> list[_Episode]:
    """The group's episodes with their first prompt; the environment is built once and cloned."""
    env = make_env(task.id)
    try:
        first = transcript.first(env.reset().text)
        if hint is not None:
            suffix = transcript.generation_suffix
            first = [*first[: -len(suffix)], *transcript.hindsight(hint), *suffix]
        envs = [env, *(env.clone() for _ in range(spec.group - 1))]
    except EnvFailure:
        first, envs = [], [env] * spec.group
    episodes = [_Episode(task, index, own, transcript, spec) for index, own in enumerate(envs)]
    for episode in episodes:
        if first:
            episode.read(first)
        else:
            episode.stop = StopReason.ENV_FAILURE
    return episodes
