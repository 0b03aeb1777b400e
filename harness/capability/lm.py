"""lm-eval on a model in memory: our tasks in, one answer per example and metric out.

lm-eval's `evaluate` is called, not its `simple_evaluate`, which seeds the global generators, asks the hub for the
model's name and collects facts about the machine. Nothing here needs a network.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from stepcredit.envs.searchqa.metrics import exact_match, token_f1
from stepcredit.harness.capability.tasks import Suite, Task
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files

MAX_NEW_TOKENS = 32
_BATCH = 16
_LOGGER = "lm_eval"

Report = Callable[[str, int, int], None]
"""Called with a task's name, the tasks done before it and their number."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said to one example, and one metric of it."""

    suite: str
    subset: str
    example_id: str
    metric: str
    value: float
    response: str


def examine(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task], folder: Path, report: Report
) -> list[Answer]:
    """Ask the model every example. Greedy decoding and likelihoods alone, so equal weights give equal answers.

    The model is left as it was, in weights and mode, and so are the global random generators.

    Args:
        model: in memory, on any device.
        tokenizer: the model's.
        tasks: what is asked.
        folder: where the tasks' JSON lines are written for lm-eval to read.
        report: told about every task before it begins.

    Raises:
        UserError: a question does not fit into the model, or a file cannot be written.
    """
    answers: list[Answer] = []
    with _unchanged(model):
        lm = _model_for_lm_eval(model, tokenizer)
        for done, task in enumerate(tasks):
            report(task.name, done, len(tasks))
            _require_room(task, lm)
            path = folder / f"{task.name}.jsonl"
            files.write_bytes(path, task.json_lines)
            answers += _answers(task, _samples(task, path, lm))
        report("", len(tasks), len(tasks))
    return answers


class _SeparateLM(HFLM):  # type: ignore[misc]
    """Encodes prompt and choice one by one: a tokenizer of phrases would merge tokens across the boundary."""

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.tok_encode(context), self.tok_encode(continuation, add_special_tokens=False)


def _model_for_lm_eval(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> _SeparateLM:
    """A policy without an end token ends where it pads; the policy's own tokenizer is not touched."""
    own = copy.deepcopy(tokenizer)
    if own.eos_token is None:
        own.eos_token = own.pad_token
    with _quiet():
        return _SeparateLM(pretrained=model, tokenizer=own, batch_size=_BATCH)


def _require_room(task: Task, lm: _SeparateLM) -> None:
    if task.suite is not Suite.CLOSED_BOOK:
        return
    for document in task.documents:
        needed = len(lm.tok_encode(document["prompt"])) + MAX_NEW_TOKENS
        if needed > lm.max_length:
            raise UserError(
                f"question {document['id']!r} of {task.name} needs {needed} tokens, but the model has {lm.max_length} "
                "positions; leave the question out"
            )


def _samples(task: Task, path: Path, lm: _SeparateLM) -> list[Mapping[str, Any]]:
    """lm-eval's record of each example, metrics included."""
    with _quiet():
        loaded = TaskManager(include_defaults=False).load([_config(task, path)])
        results = evaluate(lm, loaded, bootstrap_iters=0, log_samples=True)
    return list(results["samples"][task.name])


def _config(task: Task, path: Path) -> dict[str, Any]:
    """The task as lm-eval wants it; a bare word stands for the document's field of that name."""
    common = {
        "task": task.name,
        "custom_dataset": partial(_read, path),
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "prompt",
        "metadata": {"version": 1},
    }
    match task.suite:
        case Suite.CLOSED_BOOK:
            return common | {
                "output_type": "generate_until",
                "doc_to_target": "answers",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": MAX_NEW_TOKENS, "do_sample": False},
                "process_results": _match,
                "metric_list": [_averaged("exact_match"), _averaged("f1")],
            }
        case Suite.REGRESSION:
            return common | {
                "output_type": "multiple_choice",
                "doc_to_target": "answer",
                "doc_to_choice": "choices",
                "metric_list": [_averaged("acc")],
            }
        case Suite.TEXT:
            return common | {
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_target": "text",
                "process_results": _bits,
                "metric_list": [_averaged("bits_per_byte", higher_is_better=False)],
            }


def _averaged(metric: str, *, higher_is_better: bool = True) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": higher_is_better}


def _read(path: Path, **_: object) -> dict[str, Dataset]:
    return {"test": Dataset.from_list([json.loads(line) for line in path.read_bytes().splitlines()])}


def _match(document: Mapping[str, Any], responses: Sequence[str]) -> dict[str, float]:
    """The reward's own metrics; lm-eval's registered f1 is another one."""
    response, golds = responses[0], document["answers"]
    return {"exact_match": float(exact_match(response, golds)), "f1": token_f1(response, golds)}


def _bits(document: Mapping[str, Any], log_likelihoods: Sequence[float]) -> dict[str, float]:
    return {"bits_per_byte": -log_likelihoods[0] / (len(document["text"].encode()) * math.log(2))}


def _answers(task: Task, samples: Sequence[Mapping[str, Any]]) -> Iterator[Answer]:
    for sample in samples:
        response = _response(task, sample)
        for metric in sample["metrics"]:
            value = float(sample[metric])
            yield Answer(task.suite, task.subset, sample["doc"]["id"], metric, value, response)


def _response(task: Task, sample: Mapping[str, Any]) -> str:
    responses = sample["filtered_resps"]
    match task.suite:
        case Suite.CLOSED_BOOK:
            return str(responses[0])
        case Suite.REGRESSION:
            likelihoods = [likelihood for likelihood, _ in responses]
            return str(sample["doc"]["choices"][int(np.argmax(likelihoods))])
        case Suite.TEXT:
            return ""


@contextmanager
def _unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Put the model's mode and the global generators back as they were."""
    training = model.training
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        model.train(training)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back lm-eval's bars, which cannot be switched off, and its notes; errors are exceptions and come through."""
    logger = logging.getLogger(_LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
