"""The public layouts of question files: which one a row is of, and the question in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.questions import Dataset, Question, question_of

Row = Mapping[str, Any]
Reader = Callable[[str, Row], Question]

_VERL_PREFIX = "searchR1_"
_BEFORE_QUESTION = "Question:"


@dataclass(frozen=True, slots=True)
class Naming:
    """What the name of a file tells of its questions: nq/test.jsonl holds NQ's test questions."""

    dataset: str
    split: str


def reader_of(where: str, row: Row, naming: Naming) -> Reader:
    """The reader for the layout that the row's columns show.

    Args:
        naming: for the layout whose rows name neither dataset nor split.

    Raises:
        EnvError: no layout has these columns.
    """
    if "data_source" in row:
        return from_search_r1
    if "golden_answers" in row:
        return partial(from_flashrag, naming=naming)
    if "answers" in row:
        return from_ours
    raise EnvError(
        f"{where} has the columns {', '.join(sorted(row)) or 'none'}; expected ours (id, dataset, split, question, "
        "answers), Search-R1's (data_source, prompt, reward_model, extra_info) or FlashRAG's (id, question, "
        "golden_answers)"
    )


def from_ours(where: str, row: Row) -> Question:
    """Our own layout: {"id", "dataset", "split", "question", "answers"}, and "supporting_titles" where known.

    Raises:
        EnvError: see `question_of`.
    """
    return question_of(
        where,
        id=row.get("id"),
        dataset=row.get("dataset"),
        split=row.get("split"),
        question=row.get("question"),
        answers=row.get("answers"),
        titles=row.get("supporting_titles") or (),
    )


def from_flashrag(where: str, row: Row, naming: Naming) -> Question:
    """FlashRAG's layout: {"id", "question", "golden_answers", "metadata"}; ids are unique within a file alone.

    Raises:
        EnvError: see `question_of`.
    """
    return question_of(
        where,
        id=_full_id(where, naming, row.get("id")),
        dataset=naming.dataset,
        split=naming.split,
        question=row.get("question"),
        answers=row.get("golden_answers"),
        titles=_supporting_titles(row.get("metadata")),
    )


def from_search_r1(where: str, row: Row) -> Question:
    """The layout of Search-R1, verl and verl-agent: data_source, prompt, reward_model and extra_info.

    The question is the column `question`, or extra_info's, or what follows "Question:" in the prompt's last message.

    Raises:
        EnvError: see `question_of`.
    """
    extra = _mapping(row.get("extra_info"))
    naming = Naming(str(row["data_source"]).removeprefix(_VERL_PREFIX), str(extra.get("split") or ""))
    own_id = extra.get("index") if row.get("id") is None else row["id"]
    truth = _mapping(_mapping(row.get("reward_model")).get("ground_truth")).get("target")
    return question_of(
        where,
        id=_full_id(where, naming, own_id),
        dataset=naming.dataset,
        split=naming.split,
        question=row.get("question") or extra.get("question") or _asked_in(where, row.get("prompt")),
        answers=row.get("golden_answers") if truth is None else truth,
        titles=_supporting_titles(row.get("metadata")),
    )


def _full_id(where: str, naming: Naming, own_id: object) -> str:
    if own_id is None or not str(own_id).strip():
        raise EnvError(f"{where} has no id; every question needs one (id, or extra_info.index)")
    try:
        return f"{Dataset.parse(naming.dataset).key}-{naming.split}-{own_id}"
    except EnvError as error:
        raise EnvError(f"{where}: {error}") from error


def _asked_in(where: str, prompt: object) -> str:
    """The question in a prompt; instructions come before it."""
    messages = prompt if isinstance(prompt, list) else [prompt]
    content = _mapping(messages[-1]).get("content") if messages else None
    _, found, question = str(content).partition(_BEFORE_QUESTION)
    if not found:
        raise EnvError(f"{where} has no column question, and its prompt has no {_BEFORE_QUESTION!r}; add the column")
    return question


def _supporting_titles(metadata: object) -> tuple[str, ...]:
    """HotpotQA and 2Wiki list supporting facts, MuSiQue a paragraph for each of its hops; the others neither."""
    outer = _mapping(metadata)
    inner = _mapping(outer.get("metadata")) or outer
    titles = list(_mapping(inner.get("supporting_facts")).get("title") or ())
    for hop in inner.get("question_decomposition") or ():
        titles.append(_mapping(_mapping(hop).get("support_paragraph")).get("title"))
    return tuple(title for title in titles if isinstance(title, str) and title)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
