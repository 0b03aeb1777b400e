"""One run, read from top to bottom: panel -> rollout -> credit -> objective -> record, update after update.

Every draw has a named seed, so a run that is killed anywhere continues from its last checkpoint to the same bits.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stepcredit.harness.determinism import Determinism
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.engine.rescore import ModelRescorer
from stepcredit.harness.episodes.evaluate import EvalProtocol, evaluate
from stepcredit.harness.episodes.reward import paid
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import Diverged
from stepcredit.harness.model.policy import weights_sha256
from stepcredit.harness.progress import Report, Reporter
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.cell import CREDITS, EPISODES, PROBES, RESULTS, TIMINGS, UPDATES, Cell
from stepcredit.harness.record.checkpoint import RunState
from stepcredit.harness.record.manifest import Manifest, Status, Stopped
from stepcredit.harness.record.rows import (
    EpisodeRow,
    TimingRow,
    UpdateRow,
    UpdateStats,
    broken,
    episode_rows,
    update_row,
    write_rows,
)
from stepcredit.harness.record.traces import ProbeRow, traced_updates
from stepcredit.harness.run import probes, tokens
from stepcredit.harness.run.given import complete
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.run.schedule import episodes_of, evaluation_samples, evaluation_updates, tasks_of_update
from stepcredit.harness.run.spent import Seconds, evaluated, peak_here, timing_of
from stepcredit.harness.run.stopping import stop_before
from stepcredit.harness.run.tokens import Witness
from stepcredit.harness.seeds import Draws
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import Luck, RunSpec
from stepcredit.harness.tracking import Trackers, numbers_of
from stepcredit.harness.words import counted
from stepcredit.methods.checks import require_valid
from stepcredit.methods.contract import Credit, Group, Method, Rescorer
from stepcredit.paper.health import Condition

if TYPE_CHECKING:
    from stepcredit.harness.run.crew import Crew


def train(
    cell: Cell,
    parts: Parts,
    switches: Determinism,
    report: Reporter,
    track: Sequence[str] = (),
    *,
    processes: int = 1,
) -> None:
    """Run the cell to its end, from its last checkpoint if it has one.

    Args:
        cell: the run.
        parts: what its spec names.
        switches: what was switched on.
        report: is told how far it is.
        track: names of trackers to be told of it.
        processes: how many share the updates; see `stepcredit.harness.run.crew`.

    Raises:
        UserError: the folder is another run's or in use, a checkpoint is damaged, a file cannot be written, or a
            process was killed.
    """
    with _alone_in(cell.folder):
        begun = _enter(cell, parts, switches)
        if cell.ended():
            _let_go(cell)
            return
        with _crew(cell.spec, parts, switches, processes) as crew:
            learner = Learner.of(cell.spec, parts, crew)
            state = _resume(cell, learner)
            state.share(processes)
            trackers = Trackers(cell, track, lambda sentence: report(_progress(cell, parts, state, sentence)))
            told = len(state.broken)
            with _told_if_diverged(cell, begun, state):
                for _ in _advancing(cell, parts, learner, state, cell.spec.updates):
                    report(_progress(cell, parts, state, "; ".join(state.broken[told:])))
                    told = len(state.broken)
                    if not _awaits_evaluation(cell.spec, state):  # what an update came to is told once
                        trackers.tell(partial(numbers_of, state), state.update)
            trackers.close()
            _finish(cell, begun, learner, state)


@contextmanager
def _crew(spec: RunSpec, parts: Parts, switches: Determinism, processes: int) -> Iterator[Crew | None]:
    """None where this process does all of it."""
    if processes == 1:
        yield None
        return
    from stepcredit.harness.run.crew import Crew  # one process does without torch.distributed

    with Crew(spec, processes, switches.threads, parts.policy.model.device.type) as crew:
        yield crew


def begin(cell: Cell, parts: Parts, switches: Determinism, updates: int, report: Reporter) -> RunState:
    """The first updates of the cell alone, with the evaluations up to there; continued by the same call.

    Raises:
        UserError: as of `train`.
    """
    with _alone_in(cell.folder):
        _enter(cell, parts, switches)
        learner = Learner.of(cell.spec, parts)
        state = _resume(cell, learner)
        for _ in _advancing(cell, parts, learner, state, updates):
            report(_progress(cell, parts, state))
        _save(cell, learner, state)
        return state


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the run's folder, without what an interruption left."""
    files.make_folder(folder / checkpoint.FOLDER)
    with files.exclusive(folder / checkpoint.FOLDER):
        files.remove_leftovers(folder)
        yield


@contextmanager
def _told_if_diverged(cell: Cell, begun: Manifest, state: RunState) -> Iterator[None]:
    """The manifest of a run whose loss is not finite says so: the same command again ends in the same place."""
    try:
        yield
    except Diverged as error:
        begun.model_copy(update={"diverged": f"{error.seen} in update {state.update}"}).write(cell.folder)
        raise


def _advancing(cell: Cell, parts: Parts, learner: Learner, state: RunState, last: int) -> Iterator[None]:
    """Updates and evaluations until so many updates are done or the run is to stop; pauses after each to be looked
    at."""
    spec = cell.spec
    yield
    while True:
        if _awaits_evaluation(spec, state):
            _evaluate(cell, parts, learner, state)
            _save(cell, learner, state)
            yield
        if state.update >= last or state.stopped is not None:
            break
        state.stopped = stop_before(spec.stop, state) or _update_or_stop(cell, parts, learner, state)
        if state.update % spec.checkpoint_every == 0 and state.update not in evaluation_updates(spec):
            _save(cell, learner, state)
        yield


def _awaits_evaluation(spec: RunSpec, state: RunState) -> bool:
    due = state.update in evaluation_updates(spec) or state.stopped is not None
    return due and state.evaluated < state.update


def _update_or_stop(cell: Cell, parts: Parts, learner: Learner, state: RunState) -> Stopped | None:
    """One update; or why there is none."""
    try:
        _update(cell, parts, learner, state)
    except Diverged as error:
        if Condition.NOT_FINITE not in cell.spec.stop.conditions:
            raise
        return Stopped(
            update=state.update, condition=Condition.NOT_FINITE, reason=f"{error.seen} in update {state.update}"
        )
    return None


def _update(cell: Cell, parts: Parts, learner: Learner, state: RunState) -> None:
    """One update of the policy, and its rows."""
    spec, update, seconds = cell.spec, state.update, Seconds(learner.policy.model.device.type)
    with seconds.of("rollout_s"):
        tasks = tasks_of_update(parts.train_panel, spec.rollout.tasks, spec.seed, update)
        groups = rollout(learner.player, tasks, spec.rollout, Draws(spec.seed, update))
    with seconds.of("credit_s"), learner.kept.teaching():
        learner.kept.refresh(update)
        given = complete(groups, tasks, parts.method.needs, learner.player, spec, update, parts.skills)
        rewarded = paid(given, spec.objective)
        witness = Witness(learner.rescorer)
        credits = credits_of(parts.method, rewarded, witness, update)
        notes = _cut(learner.rescorer, credits) | _at_risk(learner.rescorer) | _unserved(parts.method, rewarded)
    with seconds.of("update_s"):
        # The penalty has done its work in the credit: the objective reads tokens, and rows tell what happened.
        stats = learner.update(groups, credits, spec, update)
        notes |= _engine_gap(stats, learner.player.engine)
    if update in traced_updates(spec.updates):
        tokens.keep(cell.folder, witness, groups, credits, update, learner.policy.transcript)
    drawn = episode_rows(groups, phase="train", update=update, split=spec.train_split, seed=spec.seed)
    state.episodes += drawn
    state.broken += broken(groups, f"in update {update}")
    state.updates.append(update_row(groups, credits, stats, notes, update=update, seed=spec.seed))
    state.update += 1
    state.timings.append(timing_of(seconds.row(state.update), drawn, stats, learner, state.sharing))


def credits_of(method: Method, groups: Sequence[Group], rescorer: Rescorer, update: int) -> list[list[Credit]]:
    """The method's verdict on each group, checked: a wrong one is refused by the method's name, not trained on."""
    credits = []
    for group in groups:
        credits.append(method.credit(group, rescorer, update))
        require_valid(method, group, credits[-1])
    settled = method.settled(credits)
    for group, own in zip(groups, settled, strict=True):
        require_valid(method, group, own)
    return settled


def _cut(rescorer: ModelRescorer, credits: Sequence[Sequence[Credit]]) -> dict[str, float]:
    """If hindsight lost its end in this update: how many tokens per trajectory."""
    cut = rescorer.take_cut_tokens()
    return {"hindsight_cut_tokens": cut / sum(len(own) for own in credits)} if cut else {}


def _unserved(method: Method, groups: Sequence[Group]) -> dict[str, float]:
    """If hindsight was lacking in this update: the share of trajectories that should have had it and did not."""
    missed = sum(method.config.unserved(group) for group in groups)
    return {"hindsight_unserved": missed / sum(len(group.trajectories) for group in groups)} if missed else {}


def _at_risk(rescorer: ModelRescorer) -> dict[str, float]:
    share = rescorer.take_signs_at_risk()
    return {} if share is None else {"gap_signs_at_risk": share}


def _engine_gap(stats: UpdateStats, engine: Engine) -> dict[str, float]:
    """How far an engine with arithmetic of its own was from the trainer."""
    if engine.exact:
        return {}
    return {"engine_gap_mean": stats.engine_gap_mean, "engine_gap_max": stats.engine_gap_max}


def _evaluate(cell: Cell, parts: Parts, learner: Learner, state: RunState) -> None:
    """Episodes on each task of the held-out panel, and their rows."""
    spec = cell.spec
    shared = EvalProtocol(parts.eval_panel, spec.evaluation.temperature, spec.evaluation.seed)
    run_seed = spec.seed if spec.evaluation.luck is Luck.BY_SEED else None
    protocol = replace(shared, samples=evaluation_samples(spec, state.update), run_seed=run_seed)
    seconds = Seconds(learner.policy.model.device.type)
    with seconds.of("eval_s"):
        groups = evaluate(learner.player, spec.rollout, protocol)
        if state.update == 0:
            probes.keep_turns(cell.folder, _probed(learner, spec, shared, groups), learner.policy, spec)
    played = episode_rows(groups, phase="eval", update=state.update, split=spec.evaluation.split, seed=spec.seed)
    state.episodes += played
    state.broken += broken(groups, f"in the evaluation after {counted(state.update, 'update')}")
    if not state.timings or state.timings[-1].update != state.update:
        state.timings.append(TimingRow(state.update, 0.0, 0.0, 0.0, 0.0))
    state.timings[-1] = evaluated(state.timings[-1], seconds.row(state.update), played)


def _probed(learner: Learner, spec: RunSpec, shared: EvalProtocol, groups: Sequence[Group]) -> Sequence[Group]:
    """Episodes that all runs have alike, whatever their seeds: drift over seeds is measured on one set of states."""
    if spec.evaluation.luck is Luck.SHARED:
        return groups
    few = replace(shared.panel, tasks=shared.panel.tasks[: probes.TASKS])
    return evaluate(learner.player, spec.rollout, replace(shared, panel=few))


def _enter(cell: Cell, parts: Parts, switches: Determinism) -> Manifest:
    """Write the manifest of a run that begins; check that of a run that continues."""
    weaker = files.weaker_promises(cell.folder)
    label = parts.method.label
    peak = peak_here(parts.policy.model)
    now = Manifest.begin(cell.name, cell.replicate_of, cell.spec, label, parts.inputs, switches.dump(), weaker)
    now = now.model_copy(update={"peak": peak})
    found = manifest.read(cell.folder)
    if found is None:
        now.write(cell.folder)
        return now
    manifest.require_same_spec(found, cell.spec, cell.folder)
    manifest.require_same_inputs(found, parts.inputs, cell.folder)
    manifest.require_same_platform(found, now, cell.folder)
    return found.model_copy(update={"weaker_promises": {**found.weaker_promises, **weaker}, "peak": peak})


def _resume(cell: Cell, learner: Learner) -> RunState:
    """The state of the last checkpoint, its weights loaded; or a fresh one."""
    if not checkpoint.available(cell.folder):
        return RunState()
    state, weights = checkpoint.load(checkpoint.find(cell.folder), cell.spec.sha256)
    learner.load(weights)
    state.resumed_at.append(state.update)
    return state


def _save(cell: Cell, learner: Learner, state: RunState) -> None:
    checkpoint.save(cell.folder, cell.spec.sha256, state, learner.weights())


def _finish(cell: Cell, begun: Manifest, learner: Learner, state: RunState) -> None:
    """Let go of what a next update would need, write the result files, then the manifest that vouches for them."""
    checkpoint.settle(cell.folder, cell.spec.sha256, state, learner.weights())
    write_rows(cell.folder / EPISODES, state.episodes, EpisodeRow)
    write_rows(cell.folder / UPDATES, state.updates, UpdateRow)
    write_rows(cell.folder / TIMINGS, state.timings, TimingRow)
    tokens.gather(cell.folder, cell.spec.updates, cell.folder / CREDITS)
    write_rows(cell.folder / PROBES, probes.probed(cell.folder, learner.policy, cell.spec), ProbeRow)
    done = {
        "status": Status.COMPLETE if state.stopped is None else Status.STOPPED,
        "stopped": state.stopped,
        "diverged": "",
        "update0_rollouts_sha256": state.updates[0].rollouts_sha256 if state.updates else None,
        "final_weights_sha256": weights_sha256(learner.policy.model),
        "files": {name: files.sha256_of(cell.folder / name) for name in RESULTS},
        "wall_s": round(sum(row.rollout_s + row.credit_s + row.update_s + row.eval_s for row in state.timings), 1),
        "peak_rss_mb": _peak_rss_mb(),
        "resumed_at": state.resumed_at,
        "processes": {str(update): processes for update, processes in state.processes.items()},
        "broken": state.broken,
    }
    begun.model_copy(update=done).write(cell.folder)
    _let_go(cell)


def _let_go(cell: Cell) -> None:
    """Remove what only the result files of a run that ends are made of."""
    tokens.let_go(cell.folder)
    probes.let_go(cell.folder)


def _progress(cell: Cell, parts: Parts, state: RunState, warning: str = "") -> Report:
    """How far the run is, in episodes, and the training success of its last update."""
    total = episodes_of(cell.spec, len(parts.eval_panel.tasks))
    note = f"update {state.update}/{cell.spec.updates}"
    if state.updates:
        note += f", success {state.updates[-1].success:.0%}"
    return Report(cell.name, len(state.episodes), total, note, warning)


def _peak_rss_mb() -> float:
    """Peak memory of this process; the kernel counts in KiB, on macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
