"""Divergences between a teacher's whole distributions and the policy's, as terms of the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stepcredit.methods.advantages import constant
from stepcredit.methods.contract import Credit, Distributions, Rescorer, Target, Trajectory, Weights
from stepcredit.methods.gaps import Lesson

Divergence = Literal["sampled", "forward_kl", "reverse_kl", "jsd"]
"""What of the teacher counts: the drawn token's log-ratio, or its whole distribution."""

_BETAS = {"forward_kl": 0.0, "reverse_kl": 1.0}


@dataclass(frozen=True, slots=True)
class Approach:
    """How the policy moves towards its teacher; see `Target`.

    Attributes:
        weight: of the divergence.
        divergence: which.
        beta: of `jsd`.
        top_k: how many of the teacher's likeliest tokens are told apart.
        entry_clip: most that one of them may add.
    """

    weight: float
    divergence: Divergence
    beta: float
    top_k: int
    entry_clip: float | None

    def targets(self, lessons: Sequence[Lesson | None], rescore: Rescorer, teacher: Weights) -> list[Credit | None]:
        """Credit whose target is the teacher, for each lesson; without lessons the rescorer is not called."""
        asked = [lesson.asked(teacher) for lesson in lessons if lesson is not None]
        found = iter(rescore.distributions(asked, self.top_k) if asked else ())
        return [None if lesson is None else self._aimed(lesson.trajectory, next(found)) for lesson in lessons]

    def _aimed(self, trajectory: Trajectory, teacher: Distributions) -> Credit:
        shown = Distributions(teacher.ids_Tk, teacher.logprob_Tk.detach())
        beta = _BETAS.get(self.divergence, self.beta)
        target = Target(shown, constant(trajectory, self.weight), beta, self.entry_clip)
        covered = float(shown.logprob_Tk.exp().sum(-1).mean())
        return Credit(constant(trajectory, 0.0), target=target, diagnostics={"top_k_mass": covered})
