"""A study's folder -> validated runs. Everything that would make a table wrong is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from stepcredit.paper import checks
from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import MANIFEST, Manifest, SpecRecord, read_manifest
from stepcredit.paper.origin import Origin, read_origin
from stepcredit.paper.parquet import read_columns, read_table
from stepcredit.paper.words import counted

EPISODES = "episodes.parquet"
UPDATES = "updates.parquet"
PROBES = "probes.parquet"
TIMINGS = "timings.parquet"
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
METRICS = ("exact_match", "f1", "answered", "title_found", "gold_found", "searches", "invalid_turns")
"""An environment's own numbers that tables show."""
OTHER_EPISODE_COLUMNS = ("reward", "prompt_tokens", "response_tokens", "stop", *METRICS)
_TELLING = frozenset({"phase", "split", "task_id", "trajectory", "subset", "seed", "rollout_sha256", "reward"})
PROBE_COLUMNS = ("task_id", "turn", "before", "after")
UPDATE_COLUMNS = ("update", "groups", "mixed_groups", "kl", "entropy")
OTHER_UPDATE_COLUMNS = ("skipped_groups", "loss", "grad_norm", "success", "invalid_rate")
TIMING_COLUMNS = ("update", "rollout_s", "credit_s", "update_s", "eval_s")
ENERGY = "energy_j"
# What runs of one table may differ in; checkpoint_every changes no result.
FREE_FIELDS = frozenset({"method", "method_options", "seed", "checkpoint_every"})


@dataclass(frozen=True)
class Run:
    """One complete cell: its manifest, one row per episode, one row per update.

    Attributes:
        folder: where its files are.
        evaluations: episodes on the held-out panel, at every update that has them.
        training: episodes drawn for training, without what only tells them apart.
        probes: turns before training with their log-probabilities before and after; None in older runs.
        timings: wall seconds by part after each update; None where a run has none.
    """

    folder: Path
    manifest: Manifest
    evaluations: pd.DataFrame
    training: pd.DataFrame
    updates: pd.DataFrame
    probes: pd.DataFrame | None = None
    timings: pd.DataFrame | None = None

    @property
    def cell(self) -> str:
        """Name of the run and of its folder."""
        return self.manifest.cell

    @property
    def spec(self) -> SpecRecord:
        """What determined the run."""
        return self.manifest.spec

    @cached_property
    def evaluated(self) -> tuple[int, ...]:
        """After which updates."""
        return tuple(sorted(int(update) for update in self.evaluations["update"].unique()))

    @cached_property
    def _by_update(self) -> dict[int, pd.DataFrame]:
        return {int(str(update)): rows for update, rows in self.evaluations.groupby("update")}

    def evaluation(self, update: int) -> pd.DataFrame:
        """Episodes on the held-out panel after `update` policy updates; no rows if it was not evaluated then."""
        return self._by_update.get(update, self.evaluations.iloc[:0])


@dataclass(frozen=True)
class Skipped:
    """A folder that is in no aggregate, and why.

    Attributes:
        stopped: whether its spec's rule ended it; else it is not finished.
    """

    cell: str
    reason: str
    stopped: bool = False


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
        return frozenset.intersection(*(frozenset(run.evaluations.columns) for run in self.runs)) & set(METRICS)

    @property
    def score(self) -> str:
        """What an episode's success is called on this benchmark, in tables, figures and sentences."""
        return "Exact match" if "exact_match" in self.metrics else "Success"

    @property
    def trajectories(self) -> int:
        """Trajectories of every update."""
        return self.manifest.spec.rollout.tasks * self.manifest.spec.rollout.group

    @cached_property
    def known(self) -> dict[tuple[object, ...], Any]:
        """What has been worked out of this study, which does not change, by what was asked."""
        return {}

    def of(self, method: str) -> tuple[Run, ...]:
        """The runs of a method, by seed."""
        return tuple(run for run in self.runs if run.spec.method == method)


def load_study(folder: Path) -> Study:
    """Read and check every run under `folder`.

    Incomplete runs and those that were stopped early are skipped and listed; replicates are kept apart.

    Raises:
        PaperError: no complete run, a damaged or missing file, or runs that do not belong in one table.
    """
    if not folder.is_dir():
        raise PaperError(f"no study at {folder}: the folder does not exist; name a study's folder or make one first")
    if (folder / MANIFEST).is_file():
        raise PaperError(f"{folder} is the folder of one run; name its study's, which is {folder.parent}")
    origin = read_origin(folder)
    manifests = {path: read_manifest(path) for path in _run_folders(folder)}
    complete = {path: manifest for path, manifest in manifests.items() if manifest.status == "complete"}
    skipped = tuple(filter(None, (left_out(path.name, manifest) for path, manifest in sorted(manifests.items()))))
    if not complete:
        raise PaperError(_none_complete(folder, skipped, origin))
    runs = sorted((read_run(path, manifest) for path, manifest in complete.items()), key=_order)
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
    replicates = tuple(run for run in runs if run.manifest.replicate_of is not None)
    return Study(folder.name, originals, replicates, skipped, origin)


def _trained(run: Run) -> checks.Trained:
    manifest = run.manifest
    return checks.Trained(run.cell, run.spec.seed, manifest.policy.weights_sha256, manifest.final_weights_sha256)


def left_out(cell: str, manifest: Manifest) -> Skipped | None:
    """Why a run is in no aggregate; None where it is."""
    if manifest.status == "complete":
        return None
    if manifest.stopped is None:
        return Skipped(cell, "not finished (status running)")
    done = f"{manifest.stopped.update} of {counted(manifest.spec.updates, 'update')}"
    return Skipped(cell, f"stopped early after {done}: {manifest.stopped.reason}", stopped=True)


def _none_complete(folder: Path, skipped: Sequence[Skipped], origin: Origin | None) -> str:
    if skipped and all(own.stopped for own in skipped):
        return f"{folder} holds no complete run: {skipped[0].cell} was {skipped[0].reason}; run it without stop.after"
    if not skipped and origin is None:
        return f"{folder} holds no run; name a study's folder: `stepcredit runs` lists runs"
    return f"{folder} holds no complete run ({len(skipped)} incomplete); {_unfinished(origin)}"


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


def read_run(folder: Path, manifest: Manifest) -> Run:
    """One run's files, checked.

    Raises:
        PaperError: one is missing, damaged, or contradicts another.
    """
    files = manifest.files
    episodes = read_table(folder / EPISODES, files.get(EPISODES), EPISODE_COLUMNS, OTHER_EPISODE_COLUMNS)
    updates = read_table(folder / UPDATES, files.get(UPDATES), UPDATE_COLUMNS, OTHER_UPDATE_COLUMNS)
    probes = read_table(folder / PROBES, files[PROBES], PROBE_COLUMNS) if PROBES in files else None
    timings = _read_timings(folder / TIMINGS, files[TIMINGS]) if TIMINGS in files else None
    checks.require_success_is_rewarded(folder / EPISODES, episodes)
    drawn = episodes["phase"] == "train"
    training = episodes.loc[drawn, [name for name in episodes if name not in _TELLING]]
    _check_origin(folder / EPISODES, manifest, episodes, drawn)
    run = Run(folder, manifest, episodes[~drawn].drop(columns=["phase", "split"]), training, updates, probes, timings)
    _check_evaluations(folder / EPISODES, run)
    checks.require_final_evaluation(folder / EPISODES, run.evaluations, run.spec.updates)
    return run


def _read_timings(path: Path, recorded: str) -> pd.DataFrame:
    """Energy is null where the machine did not tell it."""
    timings = read_columns(path, recorded, TIMING_COLUMNS, (ENERGY,))
    checks.require_no_nulls(path, timings[list(TIMING_COLUMNS)])
    return timings


def _check_origin(path: Path, manifest: Manifest, episodes: pd.DataFrame, drawn: pd.Series[bool]) -> None:
    """All episodes are of the run's own seed, those that evaluate of its split."""
    spec = manifest.spec
    foreign = set(episodes["seed"].unique()) - {spec.seed}
    if foreign:
        raise PaperError(
            f"{path} holds episodes of seed {min(foreign)}, but its run has seed {spec.seed}; run the cell again"
        )
    splits = set(episodes.loc[~drawn, "split"].unique()) - {spec.evaluation.split}
    if splits:
        raise PaperError(
            f"{path} holds evaluation episodes of split {min(splits)!r}, but the spec evaluates "
            f"{spec.evaluation.split!r}; run the cell again"
        )


def _check_evaluations(path: Path, run: Run) -> None:
    """Every evaluation is the whole panel, each task as often as the spec says."""
    panel, spec = run.manifest.panels.eval, run.spec
    for update in run.evaluated:
        rows = run.evaluation(update)
        repeated = rows["task_id"][rows.duplicated(["task_id", "trajectory"])]
        if not repeated.empty:
            raise PaperError(f"{path} evaluates task {repeated.iloc[0]!r} twice at update {update}; run the cell again")
        samples = spec.samples_at(update)
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
