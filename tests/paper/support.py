"""Writes synthetic studies in the schema of the result files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SUBSETS = ("Pick", "Look", "Clean", "Heat", "Cool", "PickTwo")
METHODS = ("grpo", "opd", "stepopsd")
GAIN = {"grpo": 0.20, "opd": 0.12, "stepopsd": 0.24}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def spec(method: str, seed: int, updates: int, every: int) -> dict[str, Any]:
    return {
        "model": "tiny",
        "benchmark": "alfworld",
        "suite": "mini",
        "train_split": "train",
        "method": method,
        "method_options": {},
        "seed": seed,
        "updates": updates,
        "checkpoint_every": 10,
        "rollout": {
            "tasks": 16,
            "group": 8,
            "max_turns": 20,
            "max_response_tokens": 24,
            "max_context_tokens": 1024,
            "temperature": 1.0,
        },
        "objective": {"clip_low": 0.2, "clip_high": 0.2, "distill": 1.0, "kl": 0.0, "invalid_penalty": 0.0},
        "optim": {"lr": 5e-4},
        "evaluation": {
            "split": "valid_unseen",
            "size": None,
            "panel_seed": 0,
            "every": every,
            "temperature": 1.0,
            "seed": 0,
        },
    }


def tasks(count: int, subsets: Iterable[str] = SUBSETS) -> list[tuple[str, str]]:
    names = tuple(subsets)
    return [
        (f"mini/valid_unseen/{names[i % len(names)]}/{i // len(names):04d}", names[i % len(names)])
        for i in range(count)
    ]


def episode(
    task: tuple[str, str], *, update: int, seed: int, success: bool, phase: str = "eval", trajectory: int = 0
) -> dict[str, Any]:
    identity = f"{task[0]}:{update}:{0 if update == 0 else seed}:{trajectory}:{success}"
    return {
        "phase": phase,
        "update": update,
        "split": "valid_unseen" if phase == "eval" else "train",
        "task_id": task[0],
        "subset": task[1],
        "seed": seed,
        "trajectory": trajectory,
        "success": success,
        "reward": float(success),
        "turns": 10,
        "invalid_actions": 2,
        "prompt_tokens": 300,
        "response_tokens": 120,
        "stop": "success" if success else "turn_limit",
        "rollout_sha256": sha256(identity),
    }


def simulated_episodes(method: str, seed: int, updates: int, every: int, panel_size: int) -> list[dict[str, Any]]:
    """Success grows with the updates; before the first one it depends on the task alone."""
    rng = np.random.default_rng([METHODS.index(method) if method in METHODS else 9, seed])
    start = np.random.default_rng(7).random(panel_size)
    rows = []
    panel = tasks(panel_size)
    for update in sorted({*range(0, updates, every), updates}):
        chance = 0.4 + (GAIN.get(method, 0.1) + 0.02 * rng.standard_normal()) * update / max(updates, 1)
        draws = start if update == 0 else rng.random(panel_size)
        rows += [
            episode(task, update=update, seed=seed, success=bool(draw < chance))
            for task, draw in zip(panel, draws, strict=True)
        ]
    for update in range(updates):
        chance = 0.45 + GAIN.get(method, 0.1) * update / max(updates, 1)
        for trajectory in range(128):
            task = panel[trajectory // 8 % panel_size]
            row = episode(
                task,
                update=update,
                seed=seed,
                success=bool(rng.random() < chance),
                phase="train",
                trajectory=trajectory % 8,
            )
            rows.append(row | {"invalid_actions": int(rng.integers(0, 4))})
    return rows


def simulated_updates(method: str, seed: int, updates: int) -> pd.DataFrame:
    rng = np.random.default_rng([17, len(method), seed])
    step = np.arange(updates)
    return pd.DataFrame(
        {
            "update": step,
            "seed": seed,
            "trajectories": 128,
            "groups": 16,
            "mixed_groups": rng.integers(6, 14, updates),
            "skipped_groups": 3,
            "kl": 1e-4 * step * rng.random(updates),
            "entropy": 0.6 * np.exp(-step / 80) + 0.02 * rng.standard_normal(updates),
            "diagnostics": "{}",
        }
    )


def write_run(
    study: Path,
    method: str = "grpo",
    seed: int = 0,
    *,
    updates: int = 4,
    every: int = 2,
    panel_size: int = 12,
    replicate: bool = False,
    episodes: list[dict[str, Any]] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one run's folder. `changes` are merged into the manifest, the spec's hash made after."""
    original = f"alfworld-mini-tiny-{method}-s{seed}"
    folder = study / (f"{original}-again" if replicate else original)
    folder.mkdir(parents=True)
    rows = simulated_episodes(method, seed, updates, every, panel_size) if episodes is None else episodes
    pd.DataFrame(rows).to_parquet(folder / "episodes.parquet")
    simulated_updates(method, seed, updates).to_parquet(folder / "updates.parquet")
    manifest = {
        "schema": 1,
        "cell": folder.name,
        "status": "complete",
        "spec": spec(method, seed, updates, every),
        "replicate_of": original if replicate else None,
        "stepcredit_version": "0.1.0",
        "git_commit": "0123456789ab",
        "git_dirty": False,
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
        "data": {"generator": "1"},
        "subsets": list(SUBSETS),
        "grammar": "2.1.2",
        "device": "cpu",
        "threads": 1,
        "panels": {
            "train": {"split": "train", "size": 600, "sha256": sha256("train")},
            "eval": {"split": "valid_unseen", "size": panel_size, "sha256": sha256("panel")},
        },
        "policy": {"preset": "tiny", "parameters": 1_204_224, "weights_sha256": sha256("tiny")},
        "update0_rollouts_sha256": sha256(f"update0:{seed}"),
        "final_weights_sha256": sha256(f"final:{method}:{seed}"),
        "wall_s": 100.0,
        "peak_rss_mb": 900,
        "selection": "last checkpoint; no selection",
    }
    manifest["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("episodes.parquet", "updates.parquet")
    }
    save_manifest(folder, merged(manifest, changes or {}))
    return folder


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if nested else value
    return result


def save_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    canonical = json.dumps(manifest["spec"], sort_keys=True, separators=(",", ":"))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"spec_sha256": sha256(canonical)}))


def write_study(folder: Path, methods: Iterable[str] = METHODS, seeds: int = 3, **options: Any) -> Path:
    for method in methods:
        for seed in range(seeds):
            write_run(folder, method, seed, **options)
    return folder
