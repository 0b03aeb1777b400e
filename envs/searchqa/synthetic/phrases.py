"""Phrases that make the generated worlds' transcripts short: their words, and what frames passages."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from stepcredit.envs.searchqa.synthetic import names
from stepcredit.envs.searchqa.synthetic.passages import synthetic_corpus
from stepcredit.envs.searchqa.synthetic.questions import endless_drafts
from stepcredit.envs.searchqa.synthetic.world import YEARS
from stepcredit.envs.searchqa.text import INVALID, NO_TURN_LEFT

_TAGS = ("<search>", "</search>", "<answer>", "</answer>")
_FRAMES = ("\n\n<information>Doc 1(Title:", "\nDoc 2(Title:", "\nDoc 3(Title:", "\n</information>\n\n", "Question:")
_THOUGHTS = "is not found need so guess"
_WORD = re.compile(r"[A-Za-z]+|\d+")
_SAMPLED = 4000


def phrases() -> list[str]:
    """Every word of the generated worlds, with and without a space before it, and what frames passages."""
    words = {word for text in _texts() for word in _WORD.findall(text)}
    starts = {word for word in words if word[0].isupper() or word.isdigit()} | set(names.KINDS)
    return [*_TAGS, *_FRAMES, INVALID, NO_TURN_LEFT, *(f" {word}" for word in sorted(words)), *sorted(starts)]


def kinds() -> dict[str, str]:
    """What each word of a name stands for: a river, a first name, a year."""
    titles = [title.split() for title in names.TITLES]
    lists: dict[str, Iterable[object]] = {
        "first name": names.FIRST,
        "surname": names.SURNAMES,
        "city": names.CITIES,
        "region": names.REGIONS,
        "river": names.RIVERS,
        "occupation": names.OCCUPATIONS,
        "institute": names.INSTITUTES,
        "month": names.MONTHS,
        "work": names.KINDS,
        "title's first": {words[1] for words in titles},
        "title's second": {words[2] for words in titles},
        "day": range(1, 29),
        "year": YEARS,
    }
    return {str(word): kind for kind, words in lists.items() for word in words}


def _texts() -> Iterator[str]:
    """Every name and number there is, and every sentence's other words."""
    yield from (*names.FIRST, *names.SURNAMES, *names.CITIES, *names.TITLES, *names.REGIONS, *names.RIVERS)
    yield from (*names.OCCUPATIONS, *names.INSTITUTES, *names.MONTHS, *names.KINDS, _THOUGHTS)
    yield from (str(number) for number in (*range(1, 29), *YEARS))
    yield from (f"{passage.title} {passage.text}" for passage in synthetic_corpus().passages)
    for draft in islice(endless_drafts(0, random.Random("searchqa phrases")), _SAMPLED):
        yield draft.text
        yield from (f"{hop.query} {hop.slot}" for hop in draft.hops)
