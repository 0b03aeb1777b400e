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
_WORD = re.compile(rb"( ?)([A-Za-z]+|\d+)")
_MIDDLE_YEAR, _YEARS = 1830, 60


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


def word_embeddings(tokens: Sequence[bytes], size: int, *, scale: float, seed: int) -> Tensor:
    """Seeded Gaussian rows [len(tokens), size]: a word shares its part whether or not a space or a capital begins it.

    Numbers lean along one direction by their size, so that earlier and later years can be told apart.
    """
    generator = torch.Generator().manual_seed(seed)
    rows_VD = torch.randn(len(tokens), size, generator=generator)
    marks_3D = torch.randn(3, size, generator=generator)
    roots: dict[bytes, Tensor] = {}
    for row, token in enumerate(tokens):
        match = _WORD.fullmatch(token)
        if match is None:
            continue
        space, word = match.groups()
        if word.lower() not in roots:
            roots[word.lower()] = torch.randn(size, generator=generator)
        spaced, capital = float(bool(space)), float(word[:1].isupper())
        lean = (int(word) - _MIDDLE_YEAR) / _YEARS if word.isdigit() and len(word) == 4 else 0.0
        marks = torch.tensor([spaced, capital, lean]) @ marks_3D
        rows_VD[row] = (roots[word.lower()] + marks / math.sqrt(2.0)) / math.sqrt(2.0)
    return rows_VD * scale
