"""Measurements of credit: rescoring beside plain forward passes, and what each method adds to an update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepcredit.envs.contract import Benchmark
from stepcredit.harness.engine.recompute import HEAD_TOKENS
from stepcredit.harness.engine.rescore import ModelRescorer
from stepcredit.harness.engine.sequences import Read, likeliest_at, logprobs_at, response_read
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.run.schedule import tasks_of_update
from stepcredit.harness.seeds import Draws
from stepcredit.harness.setup.parts import Parts, assemble
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RolloutSpec, RunSpec
from stepcredit.methods.arms import peer_hindsight
from stepcredit.methods.contract import (
    Credit,
    Distributions,
    Group,
    Method,
    Rescorer,
    ScoreRequest,
    Trajectory,
    Weights,
)
from stepcredit.methods.laws.rescorers import even
from stepcredit.methods.registry import METHODS, build

_LONG = RolloutSpec(group=2, max_turns=40, max_context_tokens=4096)
_STEPS = (20, 30, 40)
_REPEATS = 9
_TOP, _ROUNDS = 100, 3
_ONE_LAYER = Qwen2Config(
    vocab_size=151_936, hidden_size=2048, intermediate_size=11_008, num_hidden_layers=1, num_attention_heads=16,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip


def measure_rescoring(policy: Policy, benchmark: Benchmark) -> dict[str, float]:
    """Student and teacher log-probabilities of real ALFWorld trajectories, by the rescorer and step by step.

    The trajectories failed after 40 turns and are cut to their first 20, 30 and 40; the teacher is shown the actions of
    the peer that succeeded. The baseline reads each step's whole prompt twice, with and without that block.

    Returns:
        Medians of milliseconds per trajectory, over repetitions and trajectories; the ratio at 30 steps; the rescorer's
        time at 40 steps over that at 20; the largest difference of a log-probability.
    """
    tasks = benchmark.panel("train").tasks[:30]
    groups = rollout(Player.of(policy, benchmark), tasks, _LONG, Draws(0, update=0))
    lessons = list(_long_lessons(groups))
    rescorer = ModelRescorer(policy, {}, 8192)
    ours, growth, theirs, difference = [], [], [], 0.0
    for trajectory, hint in lessons:
        requests = {k: _pair(replace(trajectory, steps=trajectory.steps[:k]), hint) for k in _STEPS}
        times = {k: _median_time(partial(rescorer.score, asked)) for k, asked in requests.items()}
        ours.append(times[30])
        growth.append(times[40] / times[20])
        theirs.append(_median_time(partial(_plain, policy, requests[30])))
        pairs = zip(rescorer.score(requests[30]), _plain(policy, requests[30]), strict=True)
        difference = max(difference, *(float((a - b).abs().max()) for a, b in pairs))
    return {
        "rescored_trajectories": float(len(lessons)),
        "rescore_30_steps_ms": 1e3 * median(ours),
        "plain_30_steps_ms": 1e3 * median(theirs),
        "rescore_ratio": median(b / a for a, b in zip(ours, theirs, strict=True)),
        "rescore_growth_40_to_20": median(growth),
        "rescore_difference": difference,
    }


def measure_distributions(tokens: int = 256) -> dict[str, float]:
    """A teacher's 100 likeliest tokens beside the drawn token's log-probability, in one layer of Qwen2.5-3B's sizes.

    Returns:
        Milliseconds a token of the latter, and how many times as long the former take.
    """
    model = Qwen2ForCausalLM(_ONE_LAYER).eval()
    ids = np.arange(2 * tokens, dtype=np.int64)
    sequence = [TokenSequence(ids, ids[tokens:])]

    @torch.no_grad()
    def take(read: Read) -> None:
        response_read(model, sequence, read, HEAD_TOKENS, None)

    reads = (logprobs_at(1.0), likeliest_at(1.0, _TOP))
    rounds = [[_once(partial(take, read)) for read in reads] for _ in range(_ROUNDS + 1)][1:]
    return {
        "score_a_token_ms": 1e3 * median(sampled for sampled, _ in rounds) / tokens,
        "top_100_ratio": median(whole / sampled for sampled, whole in rounds),
    }


def measure_updates(updates: int = 3) -> dict[str, float]:
    """Whole updates of the default ALFWorld run.

    Returns:
        Seconds of a GRPO update, after one that warms up; StepOPSD's over GRPO's; and for every method without fresh
        episodes its own computation, apart from the model's, as a share of a GRPO update.
    """
    seconds = {name: _update_seconds(_spec(name), updates) for name in ("grpo", "stepopsd")}
    grpo = seconds["grpo"]
    parts = assemble(_spec("grpo"), "cpu")
    groups = _drawn(Learner.of(_spec("grpo"), parts), parts, _spec("grpo"), 0)
    known = _Known(groups)
    shares = {
        f"credit_share_{name}": _median_time(partial(_credits, method, groups, known)) / grpo
        for name, method in _cheap_methods()
    }
    return {"grpo_update_s": grpo, "stepopsd_update_ratio": seconds["stepopsd"] / grpo, **shares}


class _Known:
    """A rescorer that has every answer ready: without hindsight what was sampled, with it something near."""

    def __init__(self, groups: Sequence[Group]) -> None:
        generator = torch.Generator().manual_seed(0)
        self._student = {}
        for trajectory in (trajectory for group in groups for trajectory in group.trajectories):
            logprob_T = torch.from_numpy(np.concatenate([step.logprobs for step in trajectory.steps]))
            near_T = logprob_T + 0.1 * torch.randn(logprob_T.shape, generator=generator)
            self._student[trajectory.task_id, trajectory.index] = logprob_T, near_T

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """See `Rescorer.distributions`."""
        return [even(request.trajectory, top) for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """See `Rescorer.score`."""
        return [
            self._student[request.trajectory.task_id, request.trajectory.index][request.hindsight is not None]
            for request in requests
        ]


def _credits(method: Method, groups: Sequence[Group], rescore: Rescorer) -> list[list[Credit]]:
    return [method.credit(group, rescore, 0) for group in groups]


def _cheap_methods() -> Iterator[tuple[str, Method]]:
    for name in METHODS:
        method = build(name, {})
        if not method.needs.continuations:
            yield name, method


def _long_lessons(groups: Sequence[Group]) -> Iterator[tuple[Trajectory, str]]:
    for group in groups:
        for trajectory in group.trajectories:
            hint = peer_hindsight(group, trajectory.index, "actions")
            if hint is not None and len(trajectory.steps) == _LONG.max_turns:
                yield trajectory, hint


def _pair(trajectory: Trajectory, hint: str) -> list[ScoreRequest]:
    return [ScoreRequest(trajectory, Weights.LIVE, hint), ScoreRequest(trajectory, Weights.LIVE)]


@torch.no_grad()
def _plain(policy: Policy, requests: Sequence[ScoreRequest]) -> list[Tensor]:
    """The baseline: one forward pass over the whole prompt of every step."""
    suffix = len(policy.transcript.generation_suffix)
    scores = []
    for request in requests:
        block = [] if request.hindsight is None else policy.transcript.hindsight(request.hindsight)
        parts = []
        for step in request.trajectory.steps:
            prompt = [*step.prompt_ids[:-suffix], *block, *step.prompt_ids[-suffix:]]
            ids = torch.tensor([*prompt, *step.response_ids])
            kept = len(step.response_ids) + 1
            logits_TV = policy.model(input_ids=ids[None], use_cache=False, logits_to_keep=kept).logits[0, :-1]
            parts.append(logits_TV.log_softmax(-1).gather(1, ids[1 - kept :, None])[:, 0])
        scores.append(torch.cat(parts))
    return scores


def _spec(method: str) -> RunSpec:
    return build_spec(model="tiny", benchmark="alfworld", suite=None, method=method, seed=0)


def _once(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _drawn(learner: Learner, parts: Parts, spec: RunSpec, update: int) -> list[Group]:
    tasks = tasks_of_update(parts.train_panel, spec.rollout.tasks, spec.seed, update)
    return rollout(learner.player, tasks, spec.rollout, Draws(spec.seed, update))


def _update_seconds(spec: RunSpec, updates: int) -> float:
    """Median over updates, without the first."""
    parts = assemble(spec, "cpu")
    learner = Learner.of(spec, parts)
    seconds = []
    for update in range(updates + 1):
        start = perf_counter()
        groups = _drawn(learner, parts, spec, update)
        learner.kept.refresh(update)
        credits = [parts.method.credit(group, learner.rescorer, update) for group in groups]
        learner.update(groups, credits, spec, update)
        seconds.append(perf_counter() - start)
    return median(seconds[1:])


def _median_time(work: Callable[[], object]) -> float:
    work()
    return median(_once(work) for _ in range(_REPEATS))
