"""Evaluations of a run after the fact: any of its checkpoints, any panel, temperature and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark
from stepcredit.harness.determinism import switch_on
from stepcredit.harness.device import resolve
from stepcredit.harness.engine.cached import TransformersEngine
from stepcredit.harness.episodes.evaluate import Protocol, evaluate
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.model.presets import preset_named
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.manifest import Manifest, PanelRecord
from stepcredit.harness.record.rows import EpisodeRow, episode_rows, write_rows
from stepcredit.harness.setup.parts import sub_panel

FOLDER = "evals"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. None takes the run's own setting, or the last checkpoint."""

    suite: str | None = None
    split: str | None = None
    size: int | None = None
    per_subset: int | None = None
    panel_seed: int = 0
    temperature: float | None = None
    seed: int = 0
    checkpoint: int | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """A request with everything settled."""

    run: Manifest
    source: Path
    benchmark: Benchmark
    protocol: Protocol

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the episodes, machine and threads aside."""
        return {
            "cell": self.run.cell,
            "spec_sha256": self.run.spec_sha256,
            "update": checkpoint.update_of(self.source),
            "checkpoint_sha256": files.sha256_of(self.source),
            "suite": self.benchmark.suite,
            "panel": PanelRecord.of(self.protocol.panel).model_dump(),
            "temperature": self.protocol.temperature,
            "seed": self.protocol.seed,
        }

    @property
    def file_name(self) -> str:
        """Says what is inside."""
        panel, protocol = self.protocol.panel, self.protocol
        what = f"{panel.suite}-{panel.split}-{panel.sha256[:8]}"
        update = checkpoint.update_of(self.source)
        return f"{what}-t{protocol.temperature:g}-s{protocol.seed}-u{update}.parquet"


def evaluate_run(
    folder: Path,
    request: Request,
    threads: int,
    device: str,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Evaluate one checkpoint of a run; episodes and summary go to `folder`/evals.

    Returns:
        The summary. One that is there already is read, not made again.

    Raises:
        UserError: no run there, no such checkpoint, or a panel that is shorter than asked for.
        EnvError: unknown suite or split.
    """
    job = _settle(folder, request)
    path = folder / FOLDER / job.file_name
    if path.with_suffix(".json").exists():
        summary = files.read_json(path.with_suffix(".json"))
        if job.identity.items() <= summary.items() and summary["sha256"] == files.sha256_of(path):
            return summary
    rows = _episodes(job, threads, resolve(device, prefers_gpu=preset_named(job.run.spec.model).prefers_gpu), report)
    files.make_folder(path.parent)
    write_rows(path, rows, EpisodeRow)
    summary = job.identity | _outcome(rows, job.benchmark) | {"file": str(path), "sha256": files.sha256_of(path)}
    files.write_json(path.with_suffix(".json"), summary)
    return summary


def _settle(folder: Path, request: Request) -> _Job:
    run = manifest.read(folder)
    if run is None:
        raise UserError(f"{folder} holds no run (it has no {manifest.NAME}); `stepcredit runs` lists runs")
    spec = run.spec
    benchmark = load_benchmark(spec.benchmark, request.suite or spec.suite, spec.env_options)
    split = benchmark.panel(request.split or spec.evaluation.split)
    panel = sub_panel(split, request.size, request.panel_seed, per_subset=request.per_subset)
    temperature = spec.evaluation.temperature if request.temperature is None else request.temperature
    source = checkpoint.find(folder, request.checkpoint)
    return _Job(run, source, benchmark, Protocol(panel, temperature, request.seed))


def _episodes(job: _Job, threads: int, device: str, report: Callable[[int, int], None]) -> list[EpisodeRow]:
    switch_on(threads, device)
    spec = job.run.spec
    policy = load_policy(spec.model, job.benchmark, device)
    state, weights = checkpoint.load(job.source, job.run.spec_sha256)
    policy.model.load_state_dict(weights.model)
    groups = evaluate(policy, TransformersEngine(policy.model), job.benchmark, spec.rollout, job.protocol, report)
    split = job.protocol.panel.split
    return episode_rows(groups, phase="eval", update=state.update, split=split, seed=spec.seed)


def _outcome(rows: Sequence[EpisodeRow], benchmark: Benchmark) -> dict[str, Any]:
    by_subset = {name: [row.success for row in rows if row.subset == name] for name in benchmark.subsets}
    turns = sum(row.turns for row in rows)
    return {
        "success": sum(row.success for row in rows) / len(rows),
        "invalid_rate": sum(row.invalid_actions for row in rows) / max(turns, 1),
        "subsets": {
            name: {"success": sum(wins) / len(wins), "episodes": len(wins)} for name, wins in by_subset.items() if wins
        },
        "metrics": {name: math.fsum(row.metrics[name] for row in rows) / len(rows) for name in rows[0].metrics},
    }
