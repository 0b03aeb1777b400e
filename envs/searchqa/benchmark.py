"""Search-QA as a benchmark: canonical panels of questions, one index for all episodes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property

from stepcredit.envs.contract import EnvError, TurnFormat
from stepcredit.envs.naming import unknown
from stepcredit.envs.panel import Panel, Task
from stepcredit.envs.searchqa.env import SearchQaEnv, query_of
from stepcredit.envs.searchqa.options import SearchOptions
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.retrieval.cached import CachedRetriever
from stepcredit.envs.searchqa.retrieval.opening import open_retriever
from stepcredit.envs.searchqa.sources import open_source
from stepcredit.envs.searchqa.synthetic.questions import solutions
from stepcredit.envs.searchqa.text import INSTRUCTIONS, INVALID

_REMEMBERED = 100_000


class SearchQaBenchmark:
    """Suite `synthetic` is generated; `real` reads the seven datasets from STEPCREDIT_DATA.

    Questions and index are read on first use and shared by all episodes.

    Args:
        suite: `synthetic` or `real`.
        options: retriever, passages per query, turns, rewards.
        environ: where STEPCREDIT_DATA is looked up; the process's environment by default.
    """

    name = "searchqa"
    subsets = tuple(dataset.value for dataset in Dataset)
    trained_subsets = tuple(dataset.value for dataset in Dataset if dataset.trained)
    turn_format = TurnFormat(("search", "answer"), INSTRUCTIONS)

    def __init__(
        self, suite: str = "synthetic", options: SearchOptions | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.suite = suite
        self._options = options or SearchOptions()
        self._source = open_source(suite, os.environ if environ is None else environ)
        self._splits: dict[str, dict[str, Question]] = {}

    def panel(self, split: str) -> Panel:
        """Every question of the split once, sorted by id.

        Raises:
            EnvError: there is no such split, or its data cannot be used.
        """
        tasks = (_task(question) for question in self._split(split).values())
        return Panel.of(self.name, self.suite, split, tasks)

    def make(self, task_id: str) -> SearchQaEnv:
        """A fresh episode of the question.

        Raises:
            EnvError: no split has it.
        """
        return SearchQaEnv(self.question(task_id), self._retriever, self._options.rules)

    def question(self, task_id: str) -> Question:
        """The question as data.

        Raises:
            EnvError: no split has it.
        """
        for split in (*self._splits, *reversed(self._source.splits)):
            found = self._split(split).get(task_id)
            if found is not None:
                return found
        raise unknown(f"question of {self.name}-{self.suite}", task_id, [])

    def solution(self, task_id: str) -> tuple[str, ...]:
        """The searches and the answer of a flawless episode; real questions come without.

        Raises:
            EnvError: there is no such question, or no reference for it.
        """
        self.question(task_id)
        found = solutions().get(task_id)
        if found is None:
            raise EnvError(
                f"{task_id}: {self.name}-{self.suite} has no reference trajectories, only {self.name}-synthetic has"
            )
        return tuple(found)

    def prefetch(self, actions: Sequence[str]) -> None:
        """Look up the queries among the actions in one batch; the episodes then find them in memory."""
        queries = [query for action in actions if (query := query_of(action)) is not None]
        if queries:
            self._retriever.search(queries, self._options.topk)

    def provenance(self) -> Mapping[str, str]:
        """Questions, corpus, retriever and the words around them."""
        words = hashlib.sha256(f"{INSTRUCTIONS}{INVALID}".encode()).hexdigest()
        return {"suite": self.suite, **self._source.provenance(), **self._retriever.info, "template": words}

    @cached_property
    def _retriever(self) -> CachedRetriever:
        spec = self._options.retriever
        corpus = None if spec.engine == "http" else self._source.corpus()
        return CachedRetriever(open_retriever(spec, corpus), _REMEMBERED)

    def _split(self, split: str) -> dict[str, Question]:
        if split not in self._source.splits:
            raise unknown(f"split of {self.name}-{self.suite}", split, self._source.splits)
        if split not in self._splits:
            self._splits[split] = {question.id: question for question in self._source.questions(split)}
        return self._splits[split]


def _task(question: Question) -> Task:
    content = json.dumps([question.question, question.answers, question.supporting_titles], ensure_ascii=False)
    return Task(question.id, question.dataset.value, hashlib.sha256(content.encode()).hexdigest())
