"""What a rollout asks of an engine, and how one token is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepcredit.harness.engine.turns import TurnTracker

NOT_FINITE = "the policy's log-probabilities are not finite: its weights are damaged, or training diverged"


@dataclass(frozen=True, slots=True)
class Sample:
    """One response.

    Attributes:
        token_ids: [T] what was drawn.
        logprobs: [T] natural log-probabilities at the sampling temperature (at 1 where it is 0).
        tracker: has seen every token.
        truncated: the token limit, or an end-of-text token, came before the action was closed.
    """

    token_ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    tracker: TurnTracker
    truncated: bool


class Session(Protocol):
    """Sequences that grow turn by turn: draw responses, append what the environment said, drop what has ended.

    Every method takes and returns one entry per live row, in order.
    """

    def generate(
        self,
        *,
        seeds: Sequence[int],
        new_tracker: Callable[[], TurnTracker],
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> list[Sample]:
        """Draw one response per row, each until its action is closed or `max_tokens` are drawn.

        The draw of a token is the inverse of the cumulative distribution at the uniform of (seed, index in the turn),
        so that it does not depend on what else is in the batch.

        Raises:
            UserError: the model's logits are not finite.
        """
        ...

    def append(self, tokens: Sequence[Sequence[int]]) -> None:
        """Add tokens to each row, to be read before the next draw."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, given in ascending order."""
        ...


class Engine(Protocol):
    """Samples from a policy whose weights may change between sessions, never during one.

    Every engine draws as `Session.generate` promises. What they differ in is `exact`.
    """

    @property
    def exact(self) -> bool:
        """Whether a draw's log-probability is, but for rounding, what a forward pass of the trainer's model gives.

        An engine with weights or arithmetic of its own is not, and its log-probabilities are never taken as the
        policy's: they are computed again.
        """
        ...

    def rows(self, tokens: int) -> int:
        """How many sequences of so many tokens it holds together, at least one; the same on every machine."""
        ...

    def awake(self) -> AbstractContextManager[None]:
        """Around sessions: within it the policy's weights stand still, outside an engine need hold no memory for them.

        One that is awake already stays so.
        """
        ...

    def open(self, prompts: Sequence[NDArray[np.int64]]) -> Session:
        """Start one sequence per prompt; while the engine is awake."""
        ...


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float = 1.0) -> tuple[Tensor, Tensor]:
    """Tokens [B] by inverse cumulative distribution, or the likeliest ones at temperature 0, and log-probabilities.

    With `top_p` below 1 tokens are drawn from the nucleus alone (arXiv 1904.09751): the likeliest, down to the one with
    which their probabilities reach it. Log-probabilities are always those among all tokens.

    The distribution is summed up in integers, exact in whatever order a device adds: 51 bits for a probability of 1, so
    that the sum over a vocabulary, which rounding may take beyond 1, stays far from the sign bit of 64.
    """
    precision = torch.promote_types(logits_BV.dtype, torch.float32)
    probability_BV = (logits_BV.to(precision) / (temperature or 1.0)).softmax(-1)
    if temperature == 0.0:
        token_B = logits_BV.argmax(-1)
    else:
        cumulative_BV = (_nucleus(probability_BV, top_p) * 2.0**51).long().cumsum(-1)
        threshold_B = (uniform_B * cumulative_BV[:, -1]).long()
        token_B = torch.searchsorted(cumulative_BV, threshold_B[:, None], right=True)[:, 0]
        token_B = token_B.clamp(0, logits_BV.shape[1] - 1)  # out of range only where logits are not finite
    return token_B, probability_BV.gather(1, token_B[:, None])[:, 0].log()


def _nucleus(probability_BV: Tensor, top_p: float) -> Tensor:
    """The probabilities with zeros outside the nucleus; of equal ones, the token with the lower id is in it first."""
    if top_p == 1.0:
        return probability_BV
    falling_BV, token_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
    above_BV = (falling_BV * 2.0**51).long().cumsum(-1) - (falling_BV * 2.0**51).long()
    outside_BV = above_BV >= int(top_p * 2.0**51)
    return probability_BV.masked_fill(torch.zeros_like(outside_BV).scatter(1, token_BV, outside_BV), 0.0)
