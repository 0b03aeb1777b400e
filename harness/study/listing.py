"""What the listing commands list, as plain records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from stepcredit.envs import load_benchmark
from stepcredit.harness.record import cell, checkpoint, manifest
from stepcredit.harness.record.manifest import Manifest, Status
from stepcredit.harness.record.rows import EpisodeRow, read_rows
from stepcredit.harness.setup.parts import sub_panel
from stepcredit.harness.setup.settings import build_spec
from stepcredit.methods.registry import registered


def run_listing(root: Path) -> list[dict[str, Any]]:
    """One record a run below `root`.

    Raises:
        UserError: no such folder, or a damaged manifest or result file.
    """
    return [_run(folder, found) for folder in cell.discover(root) if (found := manifest.read(folder)) is not None]


def _run(folder: Path, found: Manifest) -> dict[str, Any]:
    complete = found.status is Status.COMPLETE
    kept = checkpoint.available(folder)
    reached = found.spec.updates if complete else checkpoint.update_of(kept[-1]) if kept else 0
    before, after = _success(folder) if complete else (None, None)
    return {
        "run": str(folder),
        "status": str(found.status),
        "updates": f"{reached}/{found.spec.updates}",
        "before": before,
        "after": after,
        "minutes": round(found.wall_s / 60, 1) if complete else None,
        "spec": found.spec_sha256[:12],
        "weights": (found.final_weights_sha256 or "")[:12] or None,
    }


def _success(folder: Path) -> tuple[float | None, float | None]:
    """Held-out success at the first and the last evaluation."""
    rows = [row for row in read_rows(folder / cell.EPISODES, EpisodeRow) if row.phase == "eval"]
    if not rows:
        return None, None
    first, last = min(row.update for row in rows), max(row.update for row in rows)
    return _mean(rows, first), _mean(rows, last)


def _mean(rows: list[EpisodeRow], update: int) -> float:
    wins = [row.success for row in rows if row.update == update]
    return round(sum(wins) / len(wins), 4)


def method_listing() -> list[dict[str, Any]]:
    """One record a registered method: its name, its paper, the traits that it has, and its options' defaults."""
    return [
        {
            "method": name,
            "paper": method.paper,
            "traits": {trait: value for trait, value in asdict(method.traits).items() if value},
            "options": to_jsonable_python(
                {option: _default(field) for option, field in method.Config.model_fields.items()}
            ),
        }
        for name, method in registered().items()
    ]


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
    """A panel's identity, its counts by subset, and its tasks. Suite and split default to the embedded policy's.

    Raises:
        UserError: fewer tasks than asked for.
        EnvError: unknown benchmark, suite or split, or unusable data.
    """
    usual = build_spec(model="tiny", benchmark=benchmark, suite=suite, method="grpo", seed=0)
    source = load_benchmark(benchmark, usual.suite)
    panel = sub_panel(source.panel(split or usual.evaluation.split), size, panel_seed, per_subset=per_subset)
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
