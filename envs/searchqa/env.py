"""A question as an environment: search, read, answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

from stepcredit.envs.contract import EnvError, Observation, StepResult
from stepcredit.envs.searchqa.metrics import contains_gold, exact_match, token_f1
from stepcredit.envs.searchqa.questions import Question
from stepcredit.envs.searchqa.retrieval.contract import Hit, Retriever
from stepcredit.envs.searchqa.text import (
    CLOSING,
    INVALID,
    LONGEST_QUERY,
    NO_TURN_LEFT,
    cleaned,
    first_observation,
    information,
)

_ACTION = re.compile(r"<(search|answer)>(.*)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every episode.

    Attributes:
        topk: passages per query.
        searches: turns in which the agent may search; one more turn is for the answer alone.
        format_reward: added to the reward of an answered episode without an invalid turn.
    """

    topk: int = 3
    searches: int = 4
    format_reward: float = 0.0


@dataclass(slots=True)
class _Record:
    """What has happened so far."""

    turns: int = 0
    searches: int = 0
    invalid: int = 0
    answered: bool = False
    exact: bool = False
    f1: float = 0.0
    title_found: bool = False
    gold_found: bool = False


class SearchQaEnv:
    """One episode of a question. It ends with the answer, or with the last turn.

    Args:
        retriever: may be shared with other episodes.
    """

    def __init__(self, question: Question, retriever: Retriever, rules: Rules) -> None:
        self._question, self._retriever, self._rules = question, retriever, rules
        self._titles = frozenset(question.supporting_titles)
        self._record: _Record | None = None
        self._done = False

    def reset(self) -> Observation:
        """Begin the episode.

        Raises:
            EnvError: the episode has begun already.
        """
        if self._record is not None:
            raise EnvError("this episode has begun already; make a new environment for another one")
        self._record = _Record()
        text = first_observation(self._question.question)
        return Observation(text, (), task=text)

    def step(self, action: str) -> StepResult:
        """Search or answer. Anything else, a search in the last turn or too long a query is invalid and costs a turn.

        Args:
            action: `<search>query</search>` or `<answer>answer</answer>`.

        Raises:
            EnvError: the episode has not begun, or is over.
            RetrievalError: the retriever does not answer.
        """
        record = self._record
        if record is None or self._done:
            raise EnvError(f"action {action[:80]!r} outside of an episode; call reset() on a new environment first")
        record.turns += 1
        last = record.turns > self._rules.searches
        tag, content = _parsed(action)
        if tag == "answer":
            return self._answer(content, record)
        if tag == "search" and not last and len(content) <= LONGEST_QUERY:
            return self._search(content, record)
        record.invalid += 1
        self._done = last
        return StepResult(Observation(NO_TURN_LEFT if last else INVALID, ()), done=last, success=False, valid=False)

    def clone(self) -> SearchQaEnv:
        """An independent copy of the episode as it stands."""
        twin = copy(self)
        twin._record = copy(self._record)
        return twin

    @property
    def state_key(self) -> str:
        """Question, turn and invalid turns: passages do not change, and whatever was read is in the transcript."""
        record = self._record or _Record()
        return f"{self._question.id}:{record.turns}:{record.invalid}:{self._done}"

    @property
    def metrics(self) -> Mapping[str, float]:
        """Exact match and F1 of the answer, turns by kind, and whether the searches found what was needed.

        `title_found` is 0 where the question's supporting titles are unknown, which `titles_known` tells.
        """
        record = self._record or _Record()
        return {
            "exact_match": float(record.exact),
            "f1": record.f1,
            "answered": float(record.answered),
            "searches": float(record.searches),
            "invalid_turns": float(record.invalid),
            "titles_known": float(bool(self._titles)),
            "title_found": float(record.title_found),
            "gold_found": float(record.gold_found),
        }

    def _answer(self, answer: str, record: _Record) -> StepResult:
        golds = self._question.answers
        exact, f1 = exact_match(answer, golds), token_f1(answer, golds)
        record.answered, record.exact, record.f1 = True, exact, f1
        self._done = True
        reward = float(exact) + (0.0 if record.invalid else self._rules.format_reward)
        return StepResult(Observation("", ()), done=True, success=exact, valid=True, reward=reward)

    def _search(self, query: str, record: _Record) -> StepResult:
        hits = self._retriever.search([query], self._rules.topk)[0]
        record.searches += 1
        record.title_found = record.title_found or any(hit.passage.title in self._titles for hit in hits)
        record.gold_found = record.gold_found or self._holds_gold(hits)
        found = Observation(information([hit.passage for hit in hits]), (), CLOSING)
        return StepResult(found, done=False, success=False, valid=True)

    def _holds_gold(self, hits: list[Hit]) -> bool:
        golds = self._question.answers
        return any(contains_gold(f"{hit.passage.title} {hit.passage.text}", golds) for hit in hits)


def query_of(action: str) -> str | None:
    """The query that the action asks for, as the retriever is given it; None for any other action."""
    tag, content = _parsed(action)
    return content if tag == "search" and len(content) <= LONGEST_QUERY else None


def _parsed(action: str) -> tuple[str, str]:
    """Kind and content of an action; empty where it is none, or has no content.

    A query is cleaned, an answer is compared as it stands: a gold answer is not cleaned either.
    """
    match = _ACTION.fullmatch(action.strip())
    if match is None:
        return "", ""
    tag, content = match.groups()
    content = cleaned(content) if tag == "search" else content.strip()
    return (tag, content) if content else ("", "")
