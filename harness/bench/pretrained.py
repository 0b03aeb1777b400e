"""Measurements on SmolLM2's real weights: vLLM and our engine, merged transcripts and rows, our update and TRL's.

Each ratio is of two things measured one after the other in this process, on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from stepcredit.envs import load_benchmark
from stepcredit.harness.bench.memory import LiveBytes
from stepcredit.harness.determinism import switch_on
from stepcredit.harness.engine.choice import engine_of
from stepcredit.harness.engine.contract import Engine, Sample
from stepcredit.harness.engine.sequences import response_logprobs
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.engine.vllm import vllm_version
from stepcredit.harness.imitation.scenes import perform, scenes_of, take
from stepcredit.harness.model.policy import Policy, load_policy
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.run.optimizer import optimizer_of
from stepcredit.harness.spec import EngineName, OptimSpec, RolloutSpec, RunSpec
from stepcredit.methods.contract import Credit, Group, Step, Trajectory

MODEL = "smollm2-135m"
_RUNNING = RolloutSpec(max_turns=20, max_response_tokens=64, max_context_tokens=4096)
_PROMPTS, _DRAWN, _EPISODES, _DIFFERENTIATED = 16, 32, 6, 5
_ROWS, _REPEATS = 6, 3


def measure() -> dict[str, float]:
    """All numbers; see the three functions that they come from. Without vLLM or TRL theirs are left out."""
    switch_on(1, "cpu")
    policy = load_policy(MODEL, load_benchmark("alfworld", "mini"))
    shown = [perform(scene, policy, _RUNNING)[0] for scene in _scenes()]
    numbers: dict[str, float] = {}
    if vllm_version() is not None:
        for name, kind in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
            _recast(policy, kind)
            numbers |= {f"{key}_{name}": value for key, value in measure_engines(policy, shown).items()}
    policy.model.float()
    numbers |= measure_merging(policy, shown)
    if find_spec("trl") is not None:
        numbers |= measure_updates(policy, shown)
    return numbers


def measure_engines(policy: Policy, shown: Sequence[Trajectory]) -> dict[str, float]:
    """The same draws by both engines, after games' first turns.

    Returns:
        Tokens a second of both and the ratio; the share of equal responses; as far as responses are equal, the largest
        and the mean difference of a log-probability.
    """
    prompts = [trajectory.steps[turn].prompt_ids for turn in range(4) for trajectory in shown][:_PROMPTS]
    ours, theirs = (engine_of(policy, name) for name in (EngineName.TRANSFORMERS, EngineName.VLLM))
    for engine in (ours, theirs):
        _drawn(engine, prompts, seed=1000)
    reference, slow = _timed(partial(_drawn, ours, prompts))
    samples, fast = _timed(partial(_drawn, theirs, prompts))
    pairs = list(zip(reference, samples, strict=True))
    apart = np.concatenate([_apart(first, second) for first, second in pairs])
    slow, fast = (
        sum(len(sample.token_ids) for sample in drawn) / seconds
        for drawn, seconds in ((reference, slow), (samples, fast))
    )
    return {
        "transformers_tokens_per_s": slow,
        "vllm_tokens_per_s": fast,
        "vllm_ratio": fast / slow,
        "vllm_equal_responses": sum(a.token_ids.tolist() == b.token_ids.tolist() for a, b in pairs) / _PROMPTS,
        "vllm_logprob_difference": float(apart.max()),
        "vllm_logprob_difference_mean": float(apart.mean()),
    }


def measure_merging(policy: Policy, shown: Sequence[Trajectory]) -> dict[str, float]:
    """An update's tokens and gradient with whole transcripts in a row, and with a row for each turn.

    Returns:
        Episodes, of 20 turns each; how many times fewer tokens are read; the largest difference of a gradient's
        element over the largest element, for one episode's first turns.
    """
    whole = [trajectory for trajectory in shown if len(trajectory.steps) == _RUNNING.max_turns]
    merged, apart = _both_ways(whole)
    part = replace(whole[0], steps=whole[0].steps[:_DIFFERENTIATED])
    ours, theirs = (_gradient(policy, sequences) for sequences in _both_ways([part]))
    largest = max(float(gradient.abs().max()) for gradient in theirs)
    difference = max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True))
    return {
        "merged_episodes": float(len(whole)),
        "merged_fewer_tokens": sum(map(_length, apart)) / sum(map(_length, merged)),
        "merged_gradient_difference": difference / largest,
    }


def measure_updates(policy: Policy, shown: Sequence[Trajectory]) -> dict[str, float]:
    """Optimiser steps of ours and of TRL's GRPOTrainer on the same rows, a prompt and a response each, in float32.

    Returns:
        Tokens a second of both, and how many times ours are; megabytes that a step has at most beside weights and
        moments, and how many times TRL's ours are. Neither computes anything again for the gradient.
    """
    steps = [step for trajectory in shown for step in trajectory.steps[:2]][:_ROWS]
    tokens = sum(_length(TokenSequence.of([step])) for step in steps)
    advantage_B = torch.linspace(-1, 1, len(steps))
    both = [make(policy, steps, advantage_B) for make in (_our_step, _their_step)]
    for step in both:
        step()  # the first makes the moments
    rounds = [[_timed(step)[1] for step in both] for _ in range(_REPEATS)]
    ours, theirs = (median(seconds) for seconds in zip(*rounds, strict=True))
    our_bytes, their_bytes = (_peak(step) for step in both)
    return {
        "update_tokens_per_s": tokens / ours,
        "trl_update_tokens_per_s": tokens / theirs,
        "update_ratio": theirs / ours,
        "update_peak_mb": our_bytes / 1e6,
        "trl_update_peak_mb": their_bytes / 1e6,
        "update_peak_ratio": our_bytes / their_bytes,
    }


def _peak(step: Callable[[], object]) -> int:
    counted = LiveBytes()
    with counted:
        step()
    return counted.peak


def _recast(policy: Policy, kind: torch.dtype) -> None:
    for weight in policy.model.parameters():
        weight.data = weight.data.to(kind)
    policy.model.config.dtype = kind


def _scenes() -> list[Any]:
    return take(scenes_of("alfworld", "full", {})(0, 0), _EPISODES)


def _drawn(engine: Engine, prompts: Sequence[Any], seed: int = 0) -> list[Sample]:
    with engine.awake():
        return engine.open(prompts).generate(
            seeds=list(range(seed, seed + len(prompts))),
            new_tracker=lambda: TurnTracker(lambda _: b"."),
            max_tokens=_DRAWN,
            temperature=1.0,
        )


def _both_ways(trajectories: Sequence[Trajectory]) -> tuple[list[TokenSequence], list[TokenSequence]]:
    """Merged as far as prompts go on, and a row for each turn."""
    merged = [TokenSequence.of(stretch) for trajectory in trajectories for stretch in stretches_of(trajectory)]
    return merged, [TokenSequence.of([step]) for trajectory in trajectories for step in trajectory.steps]


def _apart(first: Sample, second: Sample) -> NDArray[np.float32]:
    """Differences of log-probabilities, up to where the tokens part."""
    length = min(len(first.token_ids), len(second.token_ids))
    parted = np.flatnonzero(first.token_ids[:length] != second.token_ids[:length])
    end = int(parted[0]) if len(parted) else length
    differences: NDArray[np.float32] = np.abs(first.logprobs[:end] - second.logprobs[:end])
    return differences


def _gradient(policy: Policy, sequences: Sequence[TokenSequence]) -> list[Tensor]:
    policy.model.zero_grad()
    for sequence in sequences:
        (-response_logprobs(policy.model, [sequence], 1.0).sum()).backward()
    found = [weight.grad.clone() for weight in policy.model.parameters() if weight.grad is not None]
    policy.model.zero_grad()
    return found


def _our_step(policy: Policy, steps: Sequence[Step], advantage_B: Tensor) -> Callable[[], object]:
    """Episodes of one turn each."""
    spec = RunSpec(optim=OptimSpec(lr=1e-6))
    optimizer = optimizer_of(policy.model, spec.optim)
    template = perform(_scenes()[0], policy, _RUNNING)[0]
    groups = [Group(str(row), (replace(template, steps=(step,)),)) for row, step in enumerate(steps)]
    credits = [
        [Credit(torch.full((len(step.response_ids),), float(advantage)))]
        for step, advantage in zip(steps, advantage_B, strict=True)
    ]
    return lambda: update_policy(policy, None, optimizer, groups, credits, spec)


def _their_step(policy: Policy, steps: Sequence[Step], advantage_B: Tensor) -> Callable[[], object]:
    """The trainer's own loss on a batch as it makes them: prompts padded on the left, responses on the right."""
    from datasets import Dataset

    trl: Any = import_module("trl")
    with TemporaryDirectory() as folder:
        trainer = trl.GRPOTrainer(
            policy.model,
            lambda completions, **_: [0.0] * len(completions),
            args=trl.GRPOConfig(
                output_dir=str(Path(folder)), use_cpu=True, beta=0.0, report_to=[], gradient_checkpointing=False,
                per_device_train_batch_size=len(steps), num_generations=2, bf16=False,
            ),
            train_dataset=Dataset.from_list([{"prompt": "x"}] * len(steps)),
            processing_class=policy.tokenizer,
        )  # fmt: skip
    prompts, responses = (
        [torch.from_numpy(np.asarray(ids)) for ids in found] for found in zip(*_rows(steps), strict=True)
    )
    prompt_BP, seen_BP = _padded(prompts, "left")
    response_BT, there_BT = _padded(responses, "right")
    inputs = {
        "prompt_ids": prompt_BP, "prompt_mask": seen_BP, "completion_ids": response_BT, "completion_mask": there_BT,
        "advantages": advantage_B, "num_items_in_batch": there_BT.sum(),
    }  # fmt: skip
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-6, foreach=False)
    trainer.current_gradient_accumulation_steps = 1

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        trainer._compute_loss(policy.model, inputs).backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()

    return step


def _rows(steps: Sequence[Step]) -> Iterator[tuple[Any, Any]]:
    return ((step.prompt_ids, step.response_ids) for step in steps)


def _padded(rows: Sequence[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """[B, T] tokens and where there are any."""
    there = [torch.ones_like(row) for row in rows]
    ids_BT, there_BT = (pad_sequence(parts, batch_first=True, padding_side=side) for parts in (list(rows), there))
    return ids_BT, there_BT


def _length(sequence: TokenSequence) -> int:
    return len(sequence.ids)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = perf_counter()
    return work(), perf_counter() - start
