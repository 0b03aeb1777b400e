"""Finished trajectories as the token sequences that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stepcredit.methods.contract import Step, Trajectory


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens that a model reads in one row, with some steps' responses in them.

    Attributes:
        ids: [L] all tokens up to the end of the last response.
        response_T: [T] positions of the response tokens, in order.
    """

    ids: NDArray[np.int64]
    response_T: NDArray[np.int64]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> TokenSequence:
        """Of at least one step; every step's prompt is a prefix of the last one's, see `stretches_of`."""
        last = steps[-1]
        spans = [np.arange(len(step.prompt_ids), len(step.prompt_ids) + len(step.response_ids)) for step in steps]
        return cls(np.concatenate([last.prompt_ids, last.response_ids]), np.concatenate(spans))


def stretches_of(trajectory: Trajectory) -> list[tuple[Step, ...]]:
    """The trajectory cut wherever a prompt does not continue the last one with its response.

    A running transcript is one stretch; with windowed prompts each turn, but for the first few, is one of its own.
    """
    steps = trajectory.steps
    cuts = [k for k in range(1, len(steps)) if not continues(steps[k - 1], steps[k])]
    edges = [0, *cuts, len(steps)]
    return [steps[start:end] for start, end in pairwise(edges) if end > start]


def continues(before: Step, after: Step) -> bool:
    """Whether the prompt after is the one before with its response, and perhaps more."""
    prompt, grown = len(before.prompt_ids), len(before.prompt_ids) + len(before.response_ids)
    return (
        len(after.prompt_ids) >= grown
        and np.array_equal(after.prompt_ids[prompt:grown], before.response_ids)
        and np.array_equal(after.prompt_ids[:prompt], before.prompt_ids)
    )
