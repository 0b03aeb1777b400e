"""Prompts for somebody who is not told the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stepcredit.envs.contract import Benchmark
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.transcript import Transcript
from stepcredit.methods.contract import Group, Trajectory


def untold(groups: Sequence[Group], benchmark: Benchmark, transcript: Transcript) -> list[Group]:
    """The groups with `Step.untold_ids`: prompts without the tokens of the words that say what the task is.

    Raises:
        UserError: the benchmark does not say which words these are.
    """
    return [_untold(group, _task_of(group.task_id, benchmark), transcript) for group in groups]


def _task_of(task_id: str, benchmark: Benchmark) -> bytes:
    words = benchmark.make(task_id).reset().task
    if not words:
        raise UserError(
            f"hindsight 'without_task' leaves out the words that say what the task is, but benchmark "
            f"{benchmark.name!r} does not say which they are in {task_id!r}; choose another hindsight"
        )
    return words.encode()


def _untold(group: Group, words: bytes, transcript: Transcript) -> Group:
    return replace(group, trajectories=tuple(_of(one, words, transcript) for one in group.trajectories))


def _of(trajectory: Trajectory, words: bytes, transcript: Transcript) -> Trajectory:
    steps = [replace(step, untold_ids=without(step.prompt_ids, words, transcript)) for step in trajectory.steps]
    return replace(trajectory, steps=tuple(steps))


def without(prompt_ids: NDArray[np.int64], words: bytes, transcript: Transcript) -> NDArray[np.int64]:
    """[P'] the prompt without the tokens that spell the first place of these words; as it is where it has none.

    Tokens that also spell something else stay.
    """
    pieces = [transcript.token_bytes(int(token)) for token in prompt_ids]
    start = b"".join(pieces).find(words)
    if start < 0:
        return prompt_ids
    ends = np.cumsum([len(piece) for piece in pieces])
    begins = ends - [len(piece) for piece in pieces]
    kept: NDArray[np.int64] = prompt_ids[(begins < start) | (ends > start + len(words)) | (begins == ends)]
    return kept
