"""What the listing commands list, as plain records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from stepcredit.envs import family_of, load_benchmark
from stepcredit.harness.record import cell, checkpoint, files, manifest
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.record.rows import EpisodeRow, UpdateRow, read_rows
from stepcredit.harness.record.vitals import vitals_of
from stepcredit.harness.setup.panels import sub_panel
from stepcredit.harness.setup.settings import benchmark_called, suite_called
from stepcredit.methods.contract import Traits
from stepcredit.methods.registry import registered
from stepcredit.paper import health
from stepcredit.paper.statistics import success_rate

_TRIED = ["seed", "task_id", "success"]


def run_listing(root: Path) -> list[dict[str, Any]]:
    """One record a run below `root`.

    Raises:
        UserError: no such folder, or a damaged manifest or result file.
    """
    return [run_record(folder, found) for folder in cell.discover(root) if (found := manifest.read(folder)) is not None]


def run_record(folder: Path, found: Manifest) -> dict[str, Any]:
    """How far a run is, its success before and after training, and the 95% interval over tasks of that after it."""
    ended, kept = found.status.ended, checkpoint.available(folder)
    reached = found.updates if ended else checkpoint.update_of(kept[-1]) if kept else 0
    before, after, n, interval = _success(folder) if ended else (None, None, None, None)
    return {
        "run": str(folder),
        "status": _status(folder, found),
        "updates": f"{reached}/{found.spec.updates}",
        "before": before,
        "after": after,
        "n": n,
        "interval": interval,
        "minutes": round(found.wall_s / 60, 1) if ended else None,
        "spec": found.spec_sha256[:12],
        "weights": (found.final_weights_sha256 or "")[:12] or None,
        "notes": "; ".join(notes_of(folder, found)) or None,
    }


def notes_of(folder: Path, found: Manifest) -> list[str]:
    """Sentences on a run's collapse or divergence, and on where it was stopped; of one that goes on, that it diverged.

    Raises:
        UserError: a damaged result file.
    """
    if not found.status.ended:
        return [f"diverged {found.diverged}"] if found.diverged else []
    updates, episodes = read_rows(folder / cell.UPDATES, UpdateRow), read_rows(folder / cell.EPISODES, EpisodeRow)
    told = health.sentences(health.notes(vitals_of(updates, episodes)))
    return told if found.stopped is None else [f"stopped before its end: {found.stopped.reason}", *told]


def _status(folder: Path, found: Manifest) -> str:
    """A run that nobody writes was interrupted, however its manifest was left."""
    if found.status.ended:
        return str(found.status)
    match files.held(folder / checkpoint.FOLDER):
        case True:
            return "running"
        case False:
            return "interrupted"
        case None:
            return "interrupted or running"


def _success(folder: Path) -> tuple[float | None, float | None, int | None, list[float] | None]:
    """Held-out success at the first and the last evaluation, the episodes of the last, and its interval."""
    rows = [row for row in read_rows(folder / cell.EPISODES, EpisodeRow) if row.phase == "eval"]
    if not rows:
        return None, None, None, None
    first, last = min(row.update for row in rows), max(row.update for row in rows)
    after = pd.DataFrame([(row.seed, row.task_id, row.success) for row in rows if row.update == last], columns=_TRIED)
    estimate = success_rate(after)
    interval = None if estimate is None else [round(estimate.low, 4), round(estimate.high, 4)]
    return _mean(rows, first), _mean(rows, last), len(after), interval


def _mean(rows: list[EpisodeRow], update: int) -> float:
    wins = [row.success for row in rows if row.update == update]
    return round(sum(wins) / len(wins), 4)


def method_listing() -> list[dict[str, Any]]:
    """One record a registered method: its name, its paper, the traits that it has, and its options' defaults."""
    return [
        {
            "method": name,
            "paper": method.paper,
            "traits": _declared(method.traits),
            "options": to_jsonable_python(
                {option: _default(field) for option, field in method.Config.model_fields.items()}
            ),
        }
        for name, method in registered().items()
    ]


def _declared(traits: Traits) -> dict[str, Any]:
    """What is more than every method is."""
    values = {field: getattr(traits, field.name) for field in fields(traits)}
    return {field.name: value for field, value in values.items() if value and value != field.default}


def _default(field: FieldInfo) -> Any:
    return "(required)" if field.is_required() else field.get_default(call_default_factory=True)


def panel_listing(
    benchmark: str,
    suite: str | None,
    split: str | None,
    size: int | None,
    panel_seed: int,
    *,
    per_subset: int | None = None,
) -> Mapping[str, Any]:
    """A panel's identity, its counts by subset, and its tasks. Suite and split default to the benchmark's.

    Raises:
        UserError: fewer tasks than asked for.
        EnvError: unknown benchmark, suite or split, or unusable data.
    """
    benchmark = benchmark_called(benchmark)
    family = family_of(benchmark)
    source = load_benchmark(benchmark, suite_called(benchmark, suite) if suite else family.default_suite)
    panel = sub_panel(source.panel(split or family.held_out), size, panel_seed, per_subset=per_subset)
    counts = Counter(task.subset for task in panel.tasks)
    return {
        "benchmark": benchmark,
        "suite": panel.suite,
        "split": panel.split,
        "size": len(panel.tasks),
        "sha256": panel.sha256,
        "subsets": {subset: counts[subset] for subset in source.subsets if counts[subset]},
        "tasks": [{"id": task.id, "subset": task.subset, "sha256": task.content_sha256} for task in panel.tasks],
    }
