"""Exact match and token F1 as SQuAD 1.1 defines them, for one example at a time."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from stepcredit.envs.contract import EnvError

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ARTICLE = re.compile(r"\b(?:an?|the)\b")
_REMEMBERED = 4096
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=_REMEMBERED)
def normalised(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> bool:
    """Whether the prediction, normalised, is one of the gold answers."""
    given = normalised(prediction)
    return any(given == normalised(gold) for gold in golds)


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over normalised tokens, for the gold answer that fits best.

    An exact match has 1, so where nothing is left of either after normalising, the two agree (SQuAD 1.1's script
    gives 0 there and counts an exact match all the same).
    """
    given = normalised(prediction).split()
    return max((_f1(given, normalised(gold).split()) for gold in golds), default=0.0)


def contains_gold(text: str, golds: Sequence[str]) -> bool:
    """Whether a gold answer stands in the text: its normalised tokens, in a row.

    A gold answer that consists of articles and punctuation is in no text.
    """
    searched = f" {normalised(text)} "
    return any(found in searched for gold in golds if (found := f" {normalised(gold)} ").strip())


def final_answer(text: str, *, examples_in_prompt: int = 0) -> str | None:
    """What the last <answer>...</answer> holds, or None where the policy wrote none.

    The pitfall (Search-R1's issue 79): its prompt shows `<answer> Beijing </answer>` as an example, so its scorer,
    which reads prompt and response together, takes a single pair of tags for no answer. The same scorer given the
    response alone counts every answer as wrong.

    Args:
        text: the response, or the prompt and the response.
        examples_in_prompt: pairs of tags in the text that are not the policy's: 0 for a response alone, 1 for a whole
            transcript with Search-R1's prompt.
    """
    answers = _ANSWER.findall(text)
    return answers[-1].strip() if len(answers) > examples_in_prompt else None


def mean_exact(values: Iterable[float]) -> float:
    """The mean over examples, the same to the last bit in whatever order and batches they were scored.

    The sum is rounded once (`math.fsum`). Means of batches must not be averaged: collect the examples instead.

    Raises:
        EnvError: there are no examples.
    """
    examples = list(values)
    if not examples:
        raise EnvError("a mean over no examples; score at least one")
    return math.fsum(examples) / len(examples)


def _f1(given: Sequence[str], gold: Sequence[str]) -> float:
    if not given or not gold:
        return float(given == gold)
    shared = (Counter(given) & Counter(gold)).total()
    return 2 * shared / (len(given) + len(gold))
