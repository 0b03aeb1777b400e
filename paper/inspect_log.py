"""A run as logs that inspect_ai's viewer opens (UK AISI's Inspect, its `EvalLog` version 2, as JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from stepcredit.paper.errors import PaperError
from stepcredit.paper.files import write_atomic
from stepcredit.paper.manifest import MANIFEST, read_manifest
from stepcredit.paper.results import EPISODES, Run, read_run
from stepcredit.paper.traces import CREDITS, kept_tokens

EVALUATION, TRAINING = "evaluation", "training"
_TIMELESS = "1970-01-01T00:00:00+00:00"
"""Runs do not record when they were made: equal runs have equal bytes."""
_TOLD = ("turns", "invalid_actions", "prompt_tokens", "response_tokens", "subset", "rollout_sha256")
_NUMBERS = ("credit", "gap", "teacher", "student")


def export_inspect(folder: Path, out: Path) -> list[Path]:
    """Write the run's last evaluation, and its kept training episodes turn by turn where there are some.

    Raises:
        PaperError: there is no complete run, or its files are damaged.
    """
    run = _complete_run(folder)
    logs = {EVALUATION: _text(run, EVALUATION, _evaluated(run))}
    if CREDITS in run.manifest.files:
        logs[TRAINING] = _text(run, TRAINING, _trained(run))
    return [write_atomic(out / log_name(run, kind), text) for kind, text in logs.items()]


def log_name(run: Run, kind: str) -> str:
    """TIME_TASK_ID.json: the viewer lists no other names."""
    task = f"{run.cell}-{kind}".replace("_", "-")
    return f"{_TIMELESS.replace(':', '-')}_{task}_{run.manifest.spec_sha256[:22]}.json"


def _complete_run(folder: Path) -> Run:
    if not (folder / MANIFEST).is_file() or not (folder / EPISODES).is_file():
        raise PaperError(f"{folder} holds no complete run; name a run's folder: `stepcredit runs` lists them")
    manifest = read_manifest(folder)
    if manifest.status != "complete":
        raise PaperError(f"{folder} is not finished; run its command again first")
    return read_run(folder, manifest)


def _text(run: Run, kind: str, samples: Iterable[dict[str, Any]]) -> str:
    known, spec, manifest = list(samples), run.spec, run.manifest
    rate = sum(own["scores"]["success"]["value"] for own in known) / max(1, len(known))
    ids = list(dict.fromkeys(own["id"] for own in known))
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": manifest.spec_sha256[:22],
            "run_id": manifest.spec_sha256[22:44],
            "task_id": manifest.panels.eval.sha256[:22],
            "created": _TIMELESS,
            "task": f"stepcredit/{spec.tasks_name}-{kind}",
            "dataset": {"name": spec.tasks_name, "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "model": f"stepcredit/{spec.model}",
            "config": {"epochs": max((own["epoch"] for own in known), default=1)},
            "packages": dict(manifest.versions),
            "metadata": {
                "cell": run.cell,
                "method": spec.method,
                "seed": spec.seed,
                "spec_sha256": manifest.spec_sha256,
                "panel_sha256": manifest.panels.eval.sha256,
                "final_weights_sha256": manifest.final_weights_sha256,
                "created": "not recorded",
            },
        },
        "plan": {},
        "results": {
            "total_samples": len(known),
            "completed_samples": len(known),
            "scores": [{"name": "success", "scorer": "success", "metrics": {"mean": {"name": "mean", "value": rate}}}],
        },
        "stats": {},
        "samples": known,
    }
    return json.dumps(log, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _evaluated(run: Run) -> Iterator[dict[str, Any]]:
    """The held-out episodes after the last update; what was said in them is not kept."""
    rows = run.evaluation(run.spec.updates).sort_values(["task_id", "trajectory"])
    for row in rows.to_dict("records"):
        told = {name: row[name] for name in _TOLD if name in row}
        yield _sample(str(row["task_id"]), int(row["trajectory"]), bool(row["success"]), [], told)


def _trained(run: Run) -> Iterator[dict[str, Any]]:
    """The training episodes whose tokens were kept."""
    for (update, trajectory), own in kept_tokens(run).groupby(["update", "trajectory"], sort=True):
        first = own.iloc[0]
        messages = [message for _, turn in own.groupby("turn", sort=True) for message in _turn(turn)]
        told = {"update": int(str(update)), "reward": float(first["reward"]), "hindsight": str(first["hint"])}
        name = f"{first['task_id']}, update {update}"
        yield _sample(name, int(str(trajectory)), bool(first["success"]), messages, told)


def _turn(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What the policy read, and what it wrote with the credit that this got."""
    first = rows.iloc[0]
    if first["read"]:
        yield {"role": "user", "content": str(first["read"])}
    sums = {name: round(float(rows[name].sum()), 6) for name in _NUMBERS if rows[name].notna().all()}
    told = {"action": str(first["action"]), "valid": bool(first["valid"]), **sums}
    yield {"role": "assistant", "content": "".join(rows["text"]), "metadata": told}


def _sample(
    name: str, trajectory: int, success: bool, messages: list[dict[str, Any]], told: dict[str, Any]
) -> dict[str, Any]:
    asked = next((own["content"] for own in messages), name)
    written = [own["content"] for own in messages if own["role"] == "assistant"]
    return {
        "id": name,
        "epoch": trajectory + 1,
        "input": asked,
        "target": "",
        "messages": messages,
        "output": {"model": "stepcredit", "completion": written[-1] if written else "", "choices": []},
        "scores": {"success": {"value": int(success)}},
        "metadata": told,
    }
