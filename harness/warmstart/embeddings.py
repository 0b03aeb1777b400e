"""Initial embeddings that know how instance names are composed.

" mug 2" starts as the sum of a vector for "mug" and one for "2": what a policy learns of one mug then holds for
the others from the first step, which is what binding names to their instances needs most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

_INSTANCE = re.compile(rb" ([a-z]+)(?: (\d+))?")


def composed_embeddings(tokens: Sequence[bytes], size: int, *, scale: float, seed: int) -> Tensor:
    """Seeded Gaussian rows [len(tokens), size] of standard deviation `scale`, instances sharing their parts."""
    generator = torch.Generator().manual_seed(seed)
    rows_VD = torch.randn(len(tokens), size, generator=generator)
    parts: dict[bytes, Tensor] = {}
    for row, token in enumerate(tokens):
        match = _INSTANCE.fullmatch(token)
        if match is None:
            continue
        for part in match.groups():
            if part is not None and part not in parts:
                parts[part] = torch.randn(size, generator=generator)
        kind, number = match.groups()
        rows_VD[row] = parts[kind] if number is None else (parts[kind] + parts[number]) / math.sqrt(2.0)
    return rows_VD * scale
