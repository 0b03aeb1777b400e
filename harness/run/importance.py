"""What a token that an engine drew counts for in the trainer's policy gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stepcredit.harness.spec import Importance, ObjectiveSpec


def importance_weights(gap_K: Tensor, counts: Sequence[int], objective: ObjectiveSpec) -> Tensor:
    """[K] factors of the tokens' surrogate, without a gradient; see `Importance`.

    Args:
        gap_K: the trainer's log-probabilities before the step minus the engine's.
        counts: response tokens of each row, in order; their sum is K.
        objective: form and cap.
    """
    form = objective.importance
    if form in (Importance.SEQUENCE_TRUNCATE, Importance.SEQUENCE_MASK):
        sizes = torch.tensor(counts, device=gap_K.device)
        gap_K = torch.stack([part.sum() for part in gap_K.split(list(counts))]).repeat_interleave(sizes)
    ratio_K = gap_K.exp()
    if form in (Importance.TOKEN_TRUNCATE, Importance.SEQUENCE_TRUNCATE):
        return ratio_K.clamp(max=objective.importance_cap)
    return ratio_K.masked_fill(ratio_K > objective.importance_cap, 0.0)
