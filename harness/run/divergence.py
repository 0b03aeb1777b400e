"""How far the policy's distributions are from a teacher's, over the teacher's likeliest tokens and all others as one.

Merging tokens never adds to a divergence, so this is at most the exact one, and the exact one where all tokens are told
apart (the data-processing inequality; SDPO calls the merged token its tail).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stepcredit.methods.contract import Distributions, Target

_LEAST_TAIL = 1e-6
"""What is left to other tokens counts as at least so much; float32 does not know it better."""


@dataclass(frozen=True, slots=True)
class Aim:
    """The targets of a batch's response tokens in one: shapes [K, k], [K, k] and [K]."""

    ids_Kk: Tensor
    logprob_Kk: Tensor
    weight_K: Tensor
    beta: float
    entry_clip: float | None

    @classmethod
    def of(cls, targets: Sequence[Target | None], counts: Sequence[int], device: torch.device) -> Aim | None:
        """Of items with so many tokens each; those without a target weigh nothing. None if all of them are."""
        known = next((target for target in targets if target is not None), None)
        if known is None:
            return None
        k = known.teacher.ids_Tk.shape[1]
        whole = [_nowhere(count, k, known) if t is None else t for t, count in zip(targets, counts, strict=True)]
        ids, logprobs, weights = (
            torch.cat(parts).to(device)
            for parts in zip(*((t.teacher.ids_Tk, t.teacher.logprob_Tk, t.weight_T) for t in whole), strict=True)
        )
        return cls(ids.long(), logprobs, weights, known.beta, known.entry_clip)

    def divergence(self, student_Kk: Tensor) -> Tensor:
        """[K] of each token, weighted; the gradient flows through the student's log-probabilities at `ids_Kk`."""
        teacher_Kc, student_Kc = _with_tail(self.logprob_Kk.to(student_Kk.dtype)), _with_tail(student_Kk)
        terms_Kc = _terms(teacher_Kc, student_Kc, self.beta)
        if self.entry_clip is not None:
            terms_Kc = terms_Kc.clamp(max=self.entry_clip)
        return self.weight_K * terms_Kc.sum(-1)


def part_of(target: Target | None, own: slice) -> Target | None:
    """The target of some of a trajectory's tokens."""
    if target is None:
        return None
    teacher = Distributions(target.teacher.ids_Tk[own], target.teacher.logprob_Tk[own])
    return Target(teacher, target.weight_T[own], target.beta, target.entry_clip)


def _terms(teacher_Kc: Tensor, student_Kc: Tensor, beta: float) -> Tensor:
    """[K, c] what each token of the vocabulary adds to beta KL(T || M) + (1 - beta) KL(P || M)."""
    if beta == 0.0:
        return teacher_Kc.exp() * (teacher_Kc - student_Kc)
    if beta == 1.0:
        return student_Kc.exp() * (student_Kc - teacher_Kc)
    mixed = torch.tensor([beta, 1.0 - beta], dtype=student_Kc.dtype, device=student_Kc.device).log()
    middle_Kc = torch.logaddexp(teacher_Kc + mixed[0], student_Kc + mixed[1])
    from_teacher_Kc = teacher_Kc.exp() * (teacher_Kc - middle_Kc)
    return beta * from_teacher_Kc + (1.0 - beta) * student_Kc.exp() * (student_Kc - middle_Kc)


def _with_tail(logprob_Kk: Tensor) -> Tensor:
    """[K, k + 1] log-probabilities, the last of all other tokens together."""
    rest_K = 1.0 - logprob_Kk.exp().sum(-1, keepdim=True)
    return torch.cat([logprob_Kk, rest_K.clamp(min=_LEAST_TAIL).log()], dim=-1)


def _nowhere(count: int, k: int, like: Target) -> Target:
    logprob_Tk = torch.full((count, k), -float(torch.tensor(k).log()))
    ids_Tk = torch.zeros((count, k), dtype=like.teacher.ids_Tk.dtype)
    return Target(Distributions(ids_Tk, logprob_Tk), torch.zeros(count), like.beta, like.entry_clip)
