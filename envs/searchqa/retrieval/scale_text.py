"""A corpus of any size that is like text: real passages, recombined, in a vocabulary that grows as theirs does."""

from __future__ import annotations

import json
import math
import random
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path

from stepcredit.envs.searchqa.corpus import Passage

_WORD = re.compile(r"(\w+)")
_SENTENCE = re.compile(r"(?<=[.!?]) +")

Pieces = Sequence[str]
"""A sentence, cut before and after each word: words at the odd places, what is between them at the even ones."""


def write_passages(path: Path, source: Sequence[Passage], passages: int) -> None:
    """Write that many as .jsonl; fewer are the beginning of more."""
    with path.open("w", encoding="utf-8") as file:
        for row in islice(_recombined(source), passages):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _recombined(source: Sequence[Passage]) -> Iterator[dict[str, str]]:
    """Rounds through all sentences of the source in an order of their own, dealt out to passages of the source's sizes.

    A vocabulary grows by a power of the text (Heaps). For the power that the source has, the rarest words take a new
    form in each round, as many as the law wants new ones.
    """
    texts = [[_WORD.split(sentence) for sentence in _SENTENCE.split(passage.text)] for passage in source]
    titles = [_WORD.split(passage.title) for passage in source]
    rarest, power = _by_rarity(texts), _heaps_power(texts)
    for number in count():
        rng = random.Random(f"scale:{number}")
        sentences = [*chain.from_iterable(texts)]
        rng.shuffle(sentences)
        rng.shuffle(titles)
        fresh = len(rarest) * ((number + 1) ** power - number**power) if number else 0
        forms = {word: word + _letters(number) for word in rarest[: round(fresh)]}
        dealt = iter(sentences)
        for place, (title, text) in enumerate(zip(titles, texts, strict=True)):
            own = " ".join(_said(sentence, forms) for sentence in islice(dealt, len(text)))
            yield {"id": f"{number}-{place}", "title": _said(title, forms), "text": own}


def _said(pieces: Pieces, forms: dict[str, str]) -> str:
    return "".join([forms.get(piece, piece) for piece in pieces])


def _letters(number: int) -> str:
    """The number in letters, so that a word stays a word."""
    rest, last = divmod(number, len(string.ascii_lowercase))
    return (_letters(rest) if rest else "") + string.ascii_lowercase[last]


def _by_rarity(texts: Sequence[Sequence[Pieces]]) -> list[str]:
    counts = Counter(word for text in texts for sentence in text for word in sentence[1::2])
    return sorted(counts, key=lambda word: (counts[word], word))


def _heaps_power(texts: Sequence[Sequence[Pieces]]) -> float:
    """From how much larger the vocabulary of all passages is than that of every second one."""
    half, whole = (len(_by_rarity(part)) for part in (texts[::2], texts))
    return math.log2(whole / half)
