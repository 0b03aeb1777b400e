"""Initial embeddings that know how instance names are composed.

" mug 2" starts as the sum of a vector for "mug" and one for "2": what a policy learns of one mug then holds for
the others from the first step, which is what binding names to their instances needs most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

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


def word_embeddings(tokens: Sequence[bytes], size: int, kinds: Mapping[str, str], *, scale: float, seed: int) -> Tensor:
    """Seeded Gaussian rows [len(tokens), size]: a word shares its part whether or not a space or a capital begins it.

    Words of a kind, such as rivers, share a part as well: what it takes to find one in a passage then holds for all
    from the first step. Years lean along one direction, so that earlier and later ones can be told apart.

    Args:
        kinds: the kind of each word that has one.
    """
    generator = torch.Generator().manual_seed(seed)
    rows_VD = torch.randn(len(tokens), size, generator=generator)
    marks_3D = torch.randn(3, size, generator=generator)
    roots: dict[bytes, Tensor] = {}
    shared: dict[str, Tensor] = {}
    for row, token in enumerate(tokens):
        match = _WORD.fullmatch(token)
        if match is None:
            continue
        space, word = match.groups()
        if word.lower() not in roots:
            roots[word.lower()] = torch.randn(size, generator=generator)
        kind = kinds.get(word.decode())
        if kind is not None and kind not in shared:
            shared[kind] = torch.randn(size, generator=generator)
        spaced, capital = float(bool(space)), float(word[:1].isupper())
        lean = (int(word) - _MIDDLE_YEAR) / _YEARS if word.isdigit() and len(word) == 4 else 0.0
        marks = torch.tensor([spaced, capital, lean]) @ marks_3D
        own = roots[word.lower()] + marks / math.sqrt(2.0)
        rows_VD[row] = own / math.sqrt(2.0) if kind is None else (own + shared[kind]) / math.sqrt(3.0)
    return rows_VD * scale
