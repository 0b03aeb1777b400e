"""The public layouts of question files: which one a row is of, and the question in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.answers import list_of, mapping_of, plain
from stepcredit.envs.searchqa.jsonl import Row
from stepcredit.envs.searchqa.placing import Naming
from stepcredit.envs.searchqa.questions import Dataset, Question, question_of, split_of

Reader = Callable[[str, Row], Question]

_VERL_PREFIX = re.compile("^searchr1_", re.IGNORECASE)
_BEFORE_QUESTION = "Question:"
_ANSWERS = ("golden_answers", "answers", "answer", "possible_answers")
_IDS = ("id", "_id", "qid")


class ColumnsError(EnvError):
    """The row is of no known layout."""


class NamelessError(EnvError):
    """Neither the row nor the names of file and folders tell of which dataset the question is."""


def reader_of(where: str, row: Row, naming: Naming) -> Reader:
    """The reader for the layout that the row's columns show.

    Args:
        naming: for the layouts whose rows name neither dataset nor split.

    Raises:
        ColumnsError: no layout has these columns.
        NamelessError: the layout needs the name of a dataset, and there is none.
    """
    if "data_source" in row:
        return partial(from_search_r1, naming=naming)
    if "dataset" in row and "answers" in row:
        return partial(from_ours, naming=naming)
    if "question" in row and any(name in row for name in _ANSWERS):
        if not naming.known:
            error = _unknown_dataset(naming.dataset)
            raise NamelessError(f"{where}: {error}; call the file or its folder after its dataset, as nq/test.jsonl")
        return partial(from_flashrag, naming=naming)
    raise ColumnsError(
        f"{where} has the columns {', '.join(sorted(map(str, row))) or 'none'}; expected ours (id, dataset, split, "
        "question, answers), Search-R1's (data_source, prompt, reward_model, extra_info), SkyRL's (reward_spec in "
        f"place of reward_model) or FlashRAG's (id, question, golden_answers; also as {', '.join(_ANSWERS[1:])})"
    )


def from_ours(where: str, row: Row, naming: Naming) -> Question:
    """Our own layout: {"id", "dataset", "split", "question", "answers"}, and "supporting_titles" where known.

    Args:
        naming: gives the split where the row does not.

    Raises:
        EnvError: see `question_of`.
    """
    return question_of(
        where,
        id=row.get("id"),
        dataset=row.get("dataset"),
        split=naming.split if row.get("split") is None else row["split"],
        question=row.get("question"),
        answers=row.get("answers"),
        titles=row.get("supporting_titles") or (),
    )


def from_flashrag(where: str, row: Row, naming: Naming) -> Question:
    """FlashRAG's layout: {"id", "question", "golden_answers", "metadata"}; ids are unique within a file alone.

    Raises:
        EnvError: see `question_of`.
    """
    own_id = next((row[name] for name in _IDS if row.get(name) is not None), None)
    return question_of(
        where,
        id=_full_id(where, naming.dataset, naming.split, own_id),
        dataset=naming.dataset,
        split=naming.split,
        question=row.get("question"),
        answers=next((row[name] for name in _ANSWERS if row.get(name) is not None), None),
        titles=_supporting_titles(row),
    )


def from_search_r1(where: str, row: Row, naming: Naming) -> Question:
    """The layout of Search-R1, verl and verl-agent: data_source, prompt, reward_model and extra_info.

    SkyRL's has reward_spec in place of reward_model. The question is the column `question`, or extra_info's, or what
    follows "Question:" in the prompt's last message.

    Args:
        naming: gives the split where extra_info does not.

    Raises:
        EnvError: see `question_of`.
    """
    extra = mapping_of(row.get("extra_info"))
    dataset = _VERL_PREFIX.sub("", str(row["data_source"]))
    split = str(extra.get("split") or row.get("split") or naming.split)
    own_id = extra.get("index") if row.get("id") is None else row["id"]
    return question_of(
        where,
        id=_full_id(where, dataset, split, own_id),
        dataset=dataset,
        split=split,
        question=row.get("question") or extra.get("question") or _asked_in(where, row.get("prompt")),
        answers=_rewarded(row),
        titles=_supporting_titles(row),
    )


def _rewarded(row: Row) -> object:
    """The answers that the reward compares with; a column of them stands in where there are none."""
    for name in ("reward_model", "reward_spec"):
        truth = plain(mapping_of(row.get(name)).get("ground_truth"))
        target = mapping_of(truth).get("target") if mapping_of(truth) else truth
        if target is not None:
            return target
    return row.get("golden_answers")


def _unknown_dataset(name: str) -> str:
    try:
        Dataset.parse(name)
    except EnvError as error:
        return str(error)
    return ""


def _full_id(where: str, dataset: str, split: str, own_id: object) -> str:
    own_id = plain(own_id)
    if isinstance(own_id, float) and own_id.is_integer():
        own_id = int(own_id)
    if own_id is None or own_id != own_id or not str(own_id).strip():
        raise EnvError(f"{where} has no id; every question needs one (id, or extra_info.index)")
    try:
        return f"{Dataset.parse(dataset).key}-{split_of(where, split)}-{own_id}"
    except EnvError as error:
        raise EnvError(f"{where}: {error}" if where not in str(error) else str(error)) from error


def _asked_in(where: str, prompt: object) -> str:
    """The question in a prompt; instructions come before it."""
    messages = list_of(prompt) or [prompt]
    content = mapping_of(messages[-1]).get("content", messages[-1])
    _, found, question = str(content).partition(_BEFORE_QUESTION)
    if not found:
        raise EnvError(f"{where} has no column question, and its prompt has no {_BEFORE_QUESTION!r}; add the column")
    return question


def _supporting_titles(row: Row) -> tuple[str, ...]:
    """HotpotQA and 2Wiki list supporting facts, MuSiQue a paragraph for each of its hops; the others neither.

    Metadata of any other kind hold none.
    """
    outer = mapping_of(row.get("metadata"))
    inner = mapping_of(outer.get("metadata")) or outer
    titles: list[Any] = list_of(mapping_of(inner.get("supporting_facts")).get("title"))
    for hop in list_of(inner.get("question_decomposition")):
        titles.append(mapping_of(mapping_of(hop).get("support_paragraph")).get("title"))
    return tuple(title for title in titles if isinstance(title, str) and title)
