"""Evaluations of a run after the fact: any of its checkpoints, any panel, temperature and seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel
from stepcredit.harness.determinism import Determinism, switch_on
from stepcredit.harness.device import resolve
from stepcredit.harness.episodes.evaluate import EvalProtocol, evaluate
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import take_over
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.model.presets import preset_named
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.manifest import Manifest, PanelRecord, PolicyRecord
from stepcredit.harness.record.rows import EpisodeRow, broken, episode_rows, write_rows
from stepcredit.harness.setup.panels import sub_panel
from stepcredit.harness.setup.settings import evaluated_elsewhere
from stepcredit.harness.spec import Luck, RolloutSpec, RunSpec
from stepcredit.methods.contract import Group, StopReason
from stepcredit.methods.recorded import Recorded

FOLDER = "evals"
_UNTOLD = "unknown"  # in the provenance of a server that does not say what it searches


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
    settings: tuple[str, ...] = ()


class Identity(Recorded):
    """All that determines an evaluation's numbers; two with one identity are the same evaluation."""

    LATER = frozenset({"run_seed"})

    cell: str
    spec_sha256: str
    policy: PolicyRecord
    """The weights that the run started from."""
    update: int
    checkpoint_sha256: str
    benchmark: str
    suite: str
    env_options: dict[str, Any]
    data: dict[str, str]
    """The benchmark's provenance: grammar, games, questions, corpus, retriever."""
    panel: PanelRecord
    limits: RolloutSpec
    temperature: float
    seed: int
    run_seed: int | None = None
    """The run's, where runs of other seeds meet other draws."""
    stepcredit_version: str
    versions: dict[str, str]
    determinism: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash over all of it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Says what is inside, and ends with the hash."""
        what = f"{self.suite}-{self.panel.split}-{self.panel.sha256[:8]}"
        return f"{what}-t{self.temperature:g}-s{self.seed}-u{self.update}-{self.sha256[:12]}.parquet"


@dataclass(frozen=True, slots=True)
class _Job:
    """A request with everything settled."""

    run: Manifest
    source: Path
    spec: RunSpec
    benchmark: Benchmark
    protocol: EvalProtocol
    switches: Determinism
    device: str

    @property
    def identity(self) -> Identity:
        """What was settled, as it goes into the summary."""
        run, spec, protocol = self.run, self.spec, self.protocol
        return Identity(
            cell=run.cell,
            spec_sha256=run.spec_sha256,
            policy=run.policy,
            update=checkpoint.update_of(self.source),
            checkpoint_sha256=files.sha256_of(self.source),
            benchmark=spec.benchmark,
            suite=spec.suite,
            env_options=spec.env_options,
            data=dict(self.benchmark.provenance()),
            panel=PanelRecord.of(protocol.panel),
            limits=spec.rollout.model_copy(
                update={"tasks": 1, "group": protocol.samples, "temperature": protocol.temperature}
            ),
            temperature=protocol.temperature,
            seed=protocol.seed,
            run_seed=protocol.run_seed,
            stepcredit_version=manifest.stepcredit_version(),
            versions=manifest.versions(),
            determinism=self.switches.dump(),
        )


def evaluate_run(
    folder: Path,
    request: Request,
    threads: int,
    device: str,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Evaluate one checkpoint of a run; episodes and summary go to `folder`/evals.

    Returns:
        The summary. One that is there already is read, not made again, unless a retrieval server does not say what
        it searches.

    Raises:
        UserError: no run there, no such checkpoint, or a panel that is shorter than asked for.
        EnvError: unknown suite or split.
    """
    job = _settle(folder, request, threads, device)
    identity = job.identity
    path, known = folder / FOLDER / identity.file_name, identity.model_dump(mode="json")
    if (there := _kept(path, known)) is not None:
        return there
    groups = _played(job, report)
    rows = episode_rows(
        groups,
        phase="eval",
        update=identity.update,
        split=job.protocol.panel.split,
        seed=job.spec.seed,
    )
    files.make_folder(path.parent)
    write_rows(path, rows, EpisodeRow)
    told = {"broken": found} if (found := broken(groups, "in this evaluation")) else {}
    summary = known | _outcome(rows, job.benchmark) | told | {"file": str(path), "sha256": files.sha256_of(path)}
    files.write_json(path.with_suffix(".json"), summary)
    return summary


def _kept(path: Path, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of an evaluation that is there with its episodes, as they were written."""
    written = path.with_suffix(".json")
    if _UNTOLD in known["data"].values() or not (path.exists() and written.exists()):
        return None
    summary = files.read_json(written)
    whole = known.items() <= summary.items() and summary.get("sha256") == files.sha256_of(path)
    return summary if whole else None


def identity_of(folder: Path, request: Request, threads: int, device: str) -> Identity:
    """What the evaluation would be, with the data as they are now; nothing is played.

    Raises:
        UserError: as in `evaluate_run`.
        EnvError: unknown suite or split.
    """
    return _settle(folder, request, threads, device).identity


def _settle(folder: Path, request: Request, threads: int, device: str) -> _Job:
    run = manifest.require(folder)
    spec = evaluated_elsewhere(run.spec, request.suite, request.settings)
    benchmark = load_benchmark(spec.benchmark, spec.suite, spec.env_options)
    split = benchmark.panel(request.split or spec.evaluation.split)
    panel = sub_panel(split, request.size, request.panel_seed, per_subset=request.per_subset)
    temperature = _temperature(request, spec)
    where = resolve(device, preset_named(spec.model).device)
    protocol = _protocol(run.spec, panel, temperature, request.seed)
    source = checkpoint.find(folder, request.checkpoint)
    return _Job(run, source, spec, benchmark, protocol, switch_on(threads, where), where)


def _temperature(request: Request, spec: RunSpec) -> float:
    """The request's, else the run's.

    Raises:
        UserError: it is not finite.
    """
    wanted = spec.evaluation.temperature if request.temperature is None else request.temperature
    if not math.isfinite(wanted):
        raise UserError(f"a temperature of {wanted} is none that can be sampled at; choose a number, such as 1")
    return wanted


def _protocol(spec: RunSpec, panel: Panel, temperature: float, seed: int) -> EvalProtocol:
    """As often and with the draws that the run's own evaluations had, where anything is drawn."""
    if temperature == 0.0:
        return EvalProtocol(panel, temperature, seed)
    own = spec.seed if spec.evaluation.luck is Luck.BY_SEED else None
    return EvalProtocol(panel, temperature, seed, spec.evaluation.samples, own)


def _played(job: _Job, report: Callable[[int, int], None]) -> list[Group]:
    spec = job.spec
    policy = load_policy(spec.model, job.benchmark, job.device, thinking=spec.rollout.thinking)
    _, weights = checkpoint.load(job.source, job.run.spec_sha256)
    take_over(policy.model, weights.model, spec.optim.rank)
    return evaluate(Player.of(policy, job.benchmark, spec.engine), spec.rollout, job.protocol, report)


def _outcome(rows: Sequence[EpisodeRow], benchmark: Benchmark) -> dict[str, Any]:
    by_subset = {name: [row.success for row in rows if row.subset == name] for name in benchmark.subsets}
    turns, stops = sum(row.turns for row in rows), Counter(row.stop for row in rows)
    return {
        "success": sum(row.success for row in rows) / len(rows),
        "stops": {stop.value: stops[stop] for stop in StopReason if stops[stop]},
        "invalid_rate": sum(row.invalid_actions for row in rows) / max(turns, 1),
        "subsets": {
            name: {"success": sum(wins) / len(wins), "episodes": len(wins)} for name, wins in by_subset.items() if wins
        },
        "metrics": {name: math.fsum(row.metrics[name] for row in rows) / len(rows) for name in rows[0].metrics},
    }
