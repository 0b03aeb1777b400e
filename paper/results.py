"""A study's folder -> validated runs. Everything that would make a table wrong is refused here."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stepcredit.paper import checks
from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import MANIFEST, Manifest, SpecRecord, read_manifest
from stepcredit.paper.origin import Origin, read_origin
from stepcredit.paper.words import counted

EPISODES = "episodes.parquet"
UPDATES = "updates.parquet"
PROBES = "probes.parquet"
BASELINE = "grpo"

LABELS = {
    "grpo": "GRPO",
    "opd": "OPD",
    "stepopsd": "StepOPSD",
    "rlsd": "RLSD",
    "sdar": "SDAR",
    "agentopsd": "AgentOPSD",
    "gigpo": "GiGPO",
    "vineppo": "VinePPO",
    "rlcsd": "RLCSD",
}
"""Spellings of methods whose runs were recorded before manifests had them; their order is that of the colours."""

EPISODE_COLUMNS = (
    "phase",
    "update",
    "split",
    "task_id",
    "trajectory",
    "subset",
    "seed",
    "success",
    "turns",
    "invalid_actions",
    "rollout_sha256",
)
PROBE_COLUMNS = ("task_id", "turn", "before", "after")
UPDATE_COLUMNS = ("update", "groups", "mixed_groups", "kl", "entropy")
# What runs of one table may differ in; checkpoint_every changes no result.
FREE_FIELDS = frozenset({"method", "method_options", "seed", "checkpoint_every"})


@dataclass(frozen=True)
class Run:
    """One complete cell: its manifest, one row per episode, one row per update.

    Attributes:
        probes: turns before training with their log-probabilities before and after; None in older runs.
    """

    manifest: Manifest
    episodes: pd.DataFrame
    updates: pd.DataFrame
    probes: pd.DataFrame | None = None

    @property
    def cell(self) -> str:
        """Name of the run and of its folder."""
        return self.manifest.cell

    @property
    def spec(self) -> SpecRecord:
        """What determined the run."""
        return self.manifest.spec

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Episodes on the held-out panel, at every update that has them."""
        return self.episodes[self.episodes["phase"] == "eval"]

    @cached_property
    def training(self) -> pd.DataFrame:
        """Episodes drawn for training."""
        return self.episodes[self.episodes["phase"] == "train"]

    def evaluation(self, update: int) -> pd.DataFrame:
        """Episodes on the held-out panel after `update` policy updates; no rows if it was not evaluated then."""
        return self.evaluations[self.evaluations["update"] == update]


@dataclass(frozen=True)
class Skipped:
    """A folder that is in no aggregate, and why."""

    cell: str
    reason: str


@dataclass(frozen=True)
class Study:
    """Runs of one setting that differ in method and seed only, sorted by method (GRPO first) and seed."""

    name: str
    runs: tuple[Run, ...]
    replicates: tuple[Run, ...]
    skipped: tuple[Skipped, ...]
    origin: Origin | None = None

    @property
    def manifest(self) -> Manifest:
        """The first run's manifest; whatever tables take from it is equal in all runs."""
        return self.runs[0].manifest

    @property
    def updates(self) -> int:
        """Policy updates of every run."""
        return self.manifest.spec.updates

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order of tables and colours."""
        return tuple(dict.fromkeys(run.spec.method for run in self.runs))

    def label(self, method: str) -> str:
        """The method's name in print: as its runs say, or as it was known before they did."""
        said = (run.manifest.method_label for run in self.runs if run.spec.method == method)
        return next(filter(None, said), LABELS.get(method, method))

    @cached_property
    def subsets(self) -> tuple[str, ...]:
        """The benchmark's order where the manifest gives one, then any other subset by name."""
        seen = {name for run in self.runs for name in run.evaluations["subset"].unique()}
        declared = self.manifest.subsets
        return (*declared, *sorted(seen - set(declared)))

    @cached_property
    def foreign_subsets(self) -> tuple[str, ...]:
        """The subsets that no training task comes from; none where training covers all."""
        trained = self.manifest.trained_subsets
        return tuple(name for name in self.subsets if name not in trained) if trained else ()

    @cached_property
    def metrics(self) -> frozenset[str]:
        """What the environment recorded of every episode besides success and turns."""
        return frozenset.intersection(*(frozenset(run.episodes.columns) for run in self.runs)) - set(EPISODE_COLUMNS)

    @property
    def score(self) -> str:
        """What an episode's success is called on this benchmark, in tables, figures and sentences."""
        return "Exact match" if "exact_match" in self.metrics else "Success"

    @property
    def trajectories(self) -> int:
        """Trajectories of every update."""
        return self.manifest.spec.rollout.tasks * self.manifest.spec.rollout.group

    def of(self, method: str) -> tuple[Run, ...]:
        """The runs of a method, by seed."""
        return tuple(run for run in self.runs if run.spec.method == method)


def load_study(folder: Path) -> Study:
    """Read and check every run under `folder`.

    Incomplete runs are skipped and listed; replicates are kept apart.

    Raises:
        PaperError: no complete run, a damaged or missing file, or runs that do not belong in one table.
    """
    if not folder.is_dir():
        raise PaperError(f"no study at {folder}: the folder does not exist; name a study's folder or make one first")
    origin = read_origin(folder)
    manifests = {path: read_manifest(path) for path in _run_folders(folder)}
    complete = {path: manifest for path, manifest in manifests.items() if manifest.status == "complete"}
    if not complete:
        raise PaperError(f"{folder} holds no complete run ({len(manifests)} incomplete); {_unfinished(origin)}")
    runs = sorted((_read_run(path, manifest) for path, manifest in complete.items()), key=_order)
    originals = tuple(run for run in runs if run.manifest.replicate_of is None)
    if not originals:
        raise PaperError(f"{folder} holds replicates only, such as {runs[0].cell!r}; run the original cells too")
    _check_one_setting(runs)
    _check_distinct(originals)
    checks.require_own_weights(map(_trained, originals))
    checks.require_same_tasks(
        (run.cell, run.manifest.panels.eval.sha256, frozenset(run.evaluations["task_id"]))
        for run in runs
        if not run.evaluations.empty
    )
    skipped = tuple(
        Skipped(path.name, "not finished (status running)")
        for path, manifest in sorted(manifests.items())
        if manifest.status == "running"
    )
    replicates = tuple(run for run in runs if run.manifest.replicate_of is not None)
    return Study(folder.name, originals, replicates, skipped, origin)


def _trained(run: Run) -> checks.Trained:
    manifest = run.manifest
    return checks.Trained(run.cell, run.spec.seed, manifest.policy.weights_sha256, manifest.final_weights_sha256)


def _unfinished(origin: Origin | None) -> str:
    return f"finish `{origin.commands[-1]}` first" if origin else "finish the command that began them first"


def _run_folders(folder: Path) -> Iterator[Path]:
    """Folders that hold a run or a part of one; a study's other folders, such as its paper, hold neither."""
    signs = (MANIFEST, EPISODES, UPDATES)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and any((path / name).exists() for name in signs):
            yield path


def _order(run: Run) -> tuple[bool, str, int, str]:
    return run.spec.method != BASELINE, run.spec.method, run.spec.seed, run.cell


def _read_run(folder: Path, manifest: Manifest) -> Run:
    episodes = _read_table(folder / EPISODES, manifest.files.get(EPISODES), EPISODE_COLUMNS)
    updates = _read_table(folder / UPDATES, manifest.files.get(UPDATES), UPDATE_COLUMNS)
    known = manifest.files.get(PROBES)
    probes = None if known is None else _read_table(folder / PROBES, known, PROBE_COLUMNS)
    run = Run(manifest, episodes, updates, probes)
    _check_evaluations(folder / EPISODES, run)
    checks.require_success_is_rewarded(folder / EPISODES, episodes)
    checks.require_final_evaluation(folder / EPISODES, run.evaluations, run.spec.updates)
    return run


def _read_table(path: Path, recorded: str | None, columns: Iterable[str]) -> pd.DataFrame:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PaperError(f"cannot read {path}: {error.strerror}; restore it or run the cell again") from error
    seen = hashlib.sha256(data).hexdigest()
    if recorded != seen:
        raise PaperError(
            f"{path} has sha256 {seen[:12]}, but {MANIFEST} records {str(recorded)[:12]}; "
            "the file was changed or cut short: restore it or run the cell again"
        )
    try:
        frame: pd.DataFrame = pq.read_table(io.BytesIO(data)).to_pandas()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PaperError(f"{path} is no readable parquet file ({reason}); restore it or run the cell again") from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise PaperError(f"{path} lacks the column {missing[0]!r}; it is of another version: run the cell again")
    checks.require_no_nulls(path, frame)
    return frame


def _check_evaluations(path: Path, run: Run) -> None:
    """Every evaluation is the whole panel, each task as often as the spec says, under the run's own seed and split."""
    panel, spec, episodes = run.manifest.panels.eval, run.spec, run.evaluations
    foreign = set(run.episodes["seed"].unique()) - {spec.seed}
    if foreign:
        raise PaperError(
            f"{path} holds episodes of seed {min(foreign)}, but its run has seed {spec.seed}; run the cell again"
        )
    splits = set(episodes["split"].unique()) - {spec.evaluation.split}
    if splits:
        raise PaperError(
            f"{path} holds evaluation episodes of split {min(splits)!r}, but the spec evaluates "
            f"{spec.evaluation.split!r}; run the cell again"
        )
    for update, rows in episodes.groupby("update"):
        repeated = rows["task_id"][rows.duplicated(["task_id", "trajectory"])]
        if not repeated.empty:
            raise PaperError(f"{path} evaluates task {repeated.iloc[0]!r} twice at update {update}; run the cell again")
        samples = spec.samples_at(int(str(update)))
        if len(rows) != panel.size * samples or (rows["trajectory"] >= samples).any():
            often = "once" if samples == 1 else f"{samples} times"
            raise PaperError(
                f"{path} holds {counted(len(rows), 'evaluation episode')} at update {update}, but the panel has "
                f"{counted(panel.size, 'task')}, each {often}; run the cell again"
            )


def _check_one_setting(runs: Iterable[Run]) -> None:
    """All runs share panels, grammar, evaluation and every other field that is not the method's or the seed."""
    first, *others = runs
    expected = _setting(first)
    for run in others:
        seen = _setting(run)
        for field in sorted(expected.keys() | seen.keys()):
            if expected.get(field) != seen.get(field):
                raise PaperError(
                    f"{first.cell} and {run.cell} do not belong in one table: {field} is {expected.get(field)!r} "
                    f"in the first and {seen.get(field)!r} in the second; keep them in two studies"
                )


def _setting(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    spec = {key: value for key, value in manifest.raw_spec.items() if key not in FREE_FIELDS}
    panels = {"train": manifest.panels.train.model_dump(), "eval": manifest.panels.eval.model_dump()}
    return dict(
        _flat(
            "",
            {
                "spec": spec,
                "panels": panels,
                "grammar": manifest.grammar,
                "subsets": manifest.subsets,
                "trained_subsets": manifest.trained_subsets,
                "selection": manifest.selection,
                "policy.weights_sha256": manifest.policy.weights_sha256,
            },
        )
    )


def _flat(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _check_distinct(runs: Iterable[Run]) -> None:
    """One run a method and seed; one set of options a method."""
    cells: dict[tuple[str, int], str] = {}
    options: dict[str, Run] = {}
    for run in runs:
        key = (run.spec.method, run.spec.seed)
        if key in cells:
            raise PaperError(
                f"{cells[key]} and {run.cell} are both {key[0]} with seed {key[1]}, and neither is a "
                "replicate of the other; remove one"
            )
        cells[key] = run.cell
        first = options.setdefault(run.spec.method, run)
        if first.spec.method_options != run.spec.method_options:
            raise PaperError(
                f"{first.cell} and {run.cell} run {run.spec.method} with different method_options; "
                "keep them in two studies"
            )
