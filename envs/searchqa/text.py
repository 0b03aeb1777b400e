"""The words around questions, queries and passages."""

from __future__ import annotations

from collections.abc import Sequence

from stepcredit.envs.searchqa.corpus import Passage

INSTRUCTIONS = (
    "Answer the given question. In every turn, reason in <think> ... </think> first. If you lack some knowledge, ask "
    "the search engine in <search> ... </search>; what it finds stands between <information> and </information>. You "
    "can search several times, once a turn. If you need no further knowledge, give the answer in <answer> ... "
    "</answer>, as short as possible and without explanation."
)
INVALID = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)
"""Search-R1's answer to a turn without a query or an answer (arXiv 2503.09516, its released code)."""

NO_TURN_LEFT = "\nNo turn is left.\n"
LONGEST_QUERY = 10_000
"""Characters; every retriever takes as many."""
CLOSING = "</information>\n\n"


def first_observation(question: str) -> str:
    """What the agent reads first."""
    return f"Question: {question}"


def information(passages: Sequence[Passage]) -> str:
    """The passages that a query found, as Search-R1 shows them."""
    documents = (
        f"Doc {place}(Title: {passage.title}) {passage.text}\n" for place, passage in enumerate(passages, start=1)
    )
    return f"\n\n<information>{''.join(documents)}{CLOSING}"


def cleaned(query: str) -> str:
    """The query on one line: control characters, broken UTF-8 and white space become single spaces."""
    if not query.isprintable() or "\ufffd" in query:
        query = "".join(c if c.isprintable() and c != "\ufffd" else " " for c in query)
    return " ".join(query.split())
