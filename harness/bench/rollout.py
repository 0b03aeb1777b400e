"""Measurements that name their baseline: rollouts against plain generate() over the full history, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, StoppingCriteria

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Task
from stepcredit.harness.bench.credit import measure_distributions, measure_rescoring, measure_updates
from stepcredit.harness.determinism import switch_on
from stepcredit.harness.engine.choice import engine_of
from stepcredit.harness.engine.contract import Engine, Sample, draw
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import AT_A_TIME, rollout
from stepcredit.harness.model.policy import Policy, load_policy
from stepcredit.harness.seeds import Draws, uniforms
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group, Trajectory

_Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class GenerateEngine:
    """The baseline: `model.generate()` on the whole transcript in every turn, with the same draws."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @property
    def exact(self) -> bool:
        """It is the model itself."""
        return True

    def rows(self, tokens: int) -> int:
        """It keeps nothing between turns."""
        return AT_A_TIME

    def awake(self) -> AbstractContextManager[None]:
        """It holds nothing between sessions."""
        return nullcontext()

    def open(self, prompts: Sequence[NDArray[np.int64]]) -> GenerateSession:
        """Start one sequence per prompt."""
        return GenerateSession(self._model, prompts)


class GenerateSession:
    """A `stepcredit.harness.engine.contract.Session` without a memory but the tokens."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]) -> None:
        self._model = model
        self._texts = [prompt.tolist() for prompt in prompts]

    @torch.inference_mode()
    def generate(
        self,
        *,
        seeds: Sequence[int],
        new_tracker: Callable[[], TurnTracker],
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> list[Sample]:
        """See `Session.generate`."""
        choose = partial(draw, temperature=temperature, top_p=top_p)
        watch = _Watch(np.asarray(seeds), [new_tracker() for _ in seeds], choose)
        longest = max(map(len, self._texts))
        padded = torch.tensor([[0] * (longest - len(text)) + text for text in self._texts])
        shown = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in self._texts])
        self._model.generate(  # type: ignore[operator]
            padded.to(self._model.device),
            attention_mask=shown.to(self._model.device),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=0,
            logits_processor=[watch.processor],
            stopping_criteria=[watch.criterion],
        )
        for text, drawn in zip(self._texts, watch.drawn, strict=True):
            text += drawn
        return watch.samples()

    def append(self, tokens: Sequence[Sequence[int]]) -> None:
        for text, new in zip(self._texts, tokens, strict=True):
            text += new

    def keep(self, rows: Sequence[int]) -> None:
        self._texts = [self._texts[row] for row in rows]


class _Watch:
    """Replaces generate()'s choice of tokens by the seeded draw and ends each row with its action."""

    def __init__(self, seed_B: NDArray[np.int64], trackers: list[TurnTracker], choose: _Draw) -> None:
        self._seed_B, self._trackers, self._draw = seed_B, trackers, choose
        self._logprobs: list[list[float]] = [[] for _ in trackers]
        self._going = [True] * len(trackers)
        self.drawn: list[list[int]] = [[] for _ in trackers]
        self.processor, self.criterion = _Processor(self), _Criterion(self)

    def choose(self, logits_BV: Tensor) -> Tensor:
        """Scores that leave one token per row."""
        index_B = np.full_like(self._seed_B, max(map(len, self.drawn)))
        uniform_B = torch.from_numpy(uniforms(self._seed_B, index_B)).to(logits_BV.device)
        token_B, logprob_B = self._draw(logits_BV, uniform_B)
        for row, (token, logprob) in enumerate(zip(token_B.tolist(), logprob_B.tolist(), strict=True)):
            if self._going[row]:
                self.drawn[row].append(token)
                self._logprobs[row].append(logprob)
                self._going[row] = not self._trackers[row].push(token)
        return torch.full_like(logits_BV, -torch.inf).scatter(1, token_B[:, None], 0.0)

    def done(self, device: torch.device) -> Tensor:
        """[B] which rows have closed their action."""
        return ~torch.tensor(self._going, device=device)

    def samples(self) -> list[Sample]:
        """What was drawn."""
        return [
            Sample(np.array(ids, np.int64), np.array(logprobs, np.float32), tracker, not tracker.done)
            for ids, logprobs, tracker in zip(self.drawn, self._logprobs, self._trackers, strict=True)
        ]


class _Processor(LogitsProcessor):
    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self._watch.choose(scores)


class _Criterion(StoppingCriteria):
    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def __call__(self, input_ids: Tensor, scores: Tensor, **unused: object) -> Tensor:
        return self._watch.done(input_ids.device)


def measure_rollout(policy: Policy, benchmark: Benchmark, split: str, spec: RolloutSpec) -> dict[str, float]:
    """The same rollouts by the engine and by the baseline, after one short warm-up each.

    Returns:
        Response tokens, response tokens per second of both and their ratio; the share of trajectories with equal
        tokens and the largest difference of a log-probability in those; the same difference on a quarter of the
        tasks in double precision, which tells a difference of method from one of rounding.
    """
    tasks = benchmark.panel(split).tasks[: spec.tasks]
    _side_by_side(policy, benchmark, tasks[:1], spec.model_copy(update={"max_turns": 2}))
    groups, seconds = _side_by_side(policy, benchmark, tasks, spec)
    tokens = sum(trajectory.response_tokens for group in groups[0] for trajectory in group.trajectories)
    equal, difference = _compared(*groups)
    precise = replace(policy, model=deepcopy(policy.model).double())
    precise_groups, _ = _side_by_side(precise, benchmark, tasks[: -(-len(tasks) // 4)], spec)
    return {
        "response_tokens": float(tokens),
        "engine_tokens_per_s": tokens / seconds[0],
        "generate_tokens_per_s": tokens / seconds[1],
        "ratio": seconds[1] / seconds[0],
        "equal_trajectories": equal,
        "logprob_difference": difference,
        "logprob_difference_float64": _compared(*precise_groups)[1],
    }


def _side_by_side(
    policy: Policy, benchmark: Benchmark, tasks: Sequence[Task], spec: RolloutSpec
) -> tuple[tuple[list[Group], list[Group]], tuple[float, float]]:
    """Groups and wall seconds of engine and baseline."""

    def timed(engine: Engine) -> tuple[list[Group], float]:
        start = perf_counter()
        groups = rollout(Player(policy, engine, benchmark), tasks, spec, Draws(0, update=0))
        return groups, perf_counter() - start

    ours, theirs = timed(engine_of(policy)), timed(GenerateEngine(policy.model))
    return (ours[0], theirs[0]), (ours[1], theirs[1])


def _compared(ours: Sequence[Group], theirs: Sequence[Group]) -> tuple[float, float]:
    """Share of trajectories with equal tokens, and the largest difference of their log-probabilities."""
    pairs = [
        pair
        for group, other in zip(ours, theirs, strict=True)
        for pair in zip(group.trajectories, other.trajectories, strict=True)
    ]
    equal = [
        (
            np.concatenate([step.logprobs for step in first.steps]),
            np.concatenate([step.logprobs for step in second.steps]),
        )
        for first, second in pairs
        if _tokens(first) == _tokens(second)
    ]
    return len(equal) / len(pairs), max((float(np.abs(a - b).max()) for a, b in equal), default=0.0)


def _tokens(trajectory: Trajectory) -> list[bytes]:
    return [step.response_ids.tobytes() for step in trajectory.steps]


def measure() -> dict[str, float]:
    """All numbers of the tiny policy on mini games, one thread; see the three functions that they come from."""
    switch_on(1, "cpu")
    benchmark = load_benchmark("alfworld", "mini")
    policy = load_policy("tiny", benchmark)
    numbers = measure_rollout(policy, benchmark, "train", RolloutSpec(tasks=8))
    return numbers | measure_rescoring(policy, benchmark) | measure_distributions() | measure_updates()
