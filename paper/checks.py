"""What result files say twice, and must say alike: whatever would make a table wrong in silence is refused here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stepcredit.paper.errors import PaperError

_WHETHER = frozenset({0.0, 1.0})


@dataclass(frozen=True, slots=True)
class Trained:
    """A run, and the weights that it began and ended with."""

    cell: str
    seed: int
    before: str | None
    after: str | None


def require_no_nulls(path: Path, frame: pd.DataFrame) -> None:
    """Every number is there.

    Raises:
        PaperError: a column has a null.
    """
    empty = [str(name) for name in frame.columns if frame[name].isna().any()]
    if empty:
        raise PaperError(
            f"{path}, column {empty[0]!r}: {int(frame[empty[0]].isna().sum())} values are missing; run the cell again"
        )


def require_success_is_rewarded(path: Path, episodes: pd.DataFrame) -> None:
    """Where rewards say no more than whether an episode succeeded, they say what success says.

    Raises:
        PaperError: an episode's reward contradicts its success.
    """
    if "reward" not in episodes or not set(episodes["reward"].unique()) <= _WHETHER:
        return
    wrong = episodes[episodes["success"] != (episodes["reward"] == 1.0)]
    if not wrong.empty:
        row = wrong.iloc[0]
        raise PaperError(
            f"{path}: {len(wrong)} episodes have a reward that contradicts their success, such as {row['task_id']!r} "
            f"at update {row['update']} (success {bool(row['success'])}, reward {row['reward']:g}); run the cell again"
        )


def require_final_evaluation(path: Path, evaluations: pd.DataFrame, updates: int) -> None:
    """A run that was evaluated at all was evaluated after its last update.

    Raises:
        PaperError: it was not.
    """
    known = set(evaluations["update"].unique())
    if known and updates not in known:
        raise PaperError(
            f"{path} is evaluated after {sorted(int(update) for update in known)} updates, but not after the last, "
            f"{updates}; run the cell again"
        )


def require_own_weights(runs: Iterable[Trained]) -> None:
    """Runs of different seeds have learned different weights: a copy under another seed is no second run.

    Raises:
        PaperError: two seeds have one run's weights.
    """
    owners: dict[str, Trained] = {}
    for run in runs:
        if run.after is None or run.after == run.before:
            continue
        owner = owners.setdefault(run.after, run)
        if owner.seed != run.seed:
            raise PaperError(
                f"{owner.cell} and {run.cell} ended with the same weights {run.after[:12]} under different seeds: one "
                "is a copy of the other; remove it, or run its cell again"
            )


def require_same_tasks(panels: Iterable[tuple[str, str, frozenset[str]]]) -> None:
    """One panel's hash stands for one list of tasks.

    Args:
        panels: of each run its cell, the panel's hash, and the tasks that were evaluated.

    Raises:
        PaperError: two runs have evaluated different tasks under one hash.
    """
    first: dict[str, tuple[str, frozenset[str]]] = {}
    for cell, sha256, tasks in panels:
        other, known = first.setdefault(sha256, (cell, tasks))
        if tasks != known:
            odd = min(tasks ^ known)
            raise PaperError(
                f"{other} and {cell} name one panel, sha256 {sha256[:10]}, but only one of them evaluates task "
                f"{odd!r}; run the cell that is not of this panel again"
            )
