"""What the page's script works with, small: episodes of all runs, and the tokens of the few that were kept."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from stepcredit.paper.page.groups import Group
from stepcredit.paper.results import Run
from stepcredit.paper.traces import CREDITS, NUMBERS, kept_tokens

_TOKENS = ("text", "span", *NUMBERS)
_COUNTED = ("turns", "invalid_actions")
_DIGITS = 4


def packed(content: object) -> str:
    """JSON, deflated, in base64: what a browser unpacks by itself."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def overview(groups: Sequence[Group]) -> dict[str, Any]:
    """Groups, their runs, and whether tokens of these were kept."""
    return {
        "groups": [
            {
                "name": group.name,
                "tasks": group.tasks,
                "subsets": group.subsets,
                "runs": [
                    {
                        "cell": run.cell,
                        "seed": run.spec.seed,
                        "updates": run.spec.updates,
                        "tokens": CREDITS in run.manifest.files,
                    }
                    for run in group.runs
                ],
            }
            for group in groups
        ]
    }


def episodes(groups: Sequence[Group]) -> dict[str, Any]:
    """Each run's held-out episodes before training and after it.

    Tasks are told once by id and subset. A row: task's place, sample, whether it succeeded, turns, invalid actions.
    """
    tasks: dict[tuple[str, str], int] = {}
    runs = {}
    for group in groups:
        for run in group.runs:
            ends = {"before": 0, "after": run.spec.updates}
            rows = {end: _rows(run.evaluation(update), tasks) for end, update in ends.items()}
            runs[group.key(run)] = rows
    return {"tasks": list(tasks), "runs": runs}


def tokens(run: Run) -> dict[str, Any]:
    """Of a run that kept them: update -> its episodes, turn by turn, token by token.

    Raises:
        PaperError: the file is damaged.
    """
    rows = kept_tokens(run)
    return {
        str(update): [_episode(own) for _, own in of_update.groupby("trajectory", sort=True)]
        for update, of_update in rows.groupby("update", sort=True)
    }


def _rows(frame: pd.DataFrame, tasks: dict[tuple[str, str], int]) -> list[list[int]]:
    ordered = frame.sort_values(["task_id", "trajectory"])
    return [
        [tasks.setdefault((task, subset), len(tasks)), *map(int, numbers)]
        for task, subset, *numbers in ordered[["task_id", "subset", "trajectory", "success", *_COUNTED]].itertuples(
            index=False
        )
    ]


def _episode(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    return {
        "task": str(first["task_id"]),
        "success": bool(first["success"]),
        "reward": float(first["reward"]),
        "hint": str(first["hint"]),
        "turns": [_turn(own) for _, own in rows.groupby("turn", sort=True)],
    }


def _turn(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    return {
        "read": str(first["read"]),
        "action": str(first["action"]),
        "valid": bool(first["valid"]),
        "tokens": [list(_token(row)) for row in rows[list(_TOKENS)].itertuples(index=False)],
    }


def _token(row: Sequence[Any]) -> Iterator[str | float | None]:
    text, span, *numbers = row
    yield str(text)
    yield str(span)
    for number in numbers:
        yield round(float(number), _DIGITS) if math.isfinite(number) else None
