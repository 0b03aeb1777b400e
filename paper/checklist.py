"""What each method does, and what a reader asks before trusting a table: answered from manifests, for every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stepcredit.paper.cost import continuations
from stepcredit.paper.results import Run, Study
from stepcredit.paper.tables import Table, same_bits, same_start
from stepcredit.paper.words import counted, listed

DEFINITIONS = {
    "grpo": ("the trajectory's advantage in its group", "arXiv 2402.03300"),
    "opd": ("how much likelier a teacher finds it, or a divergence from the teacher", "arXiv 2306.13649, 2601.18734"),
    "stepopsd": ("GRPO's, tilted within a clip by a teacher in hindsight", "arXiv 2605.27140"),
    "rlsd": ("GRPO's, tilted by a teacher in hindsight, less with every update", "arXiv 2604.03128"),
    "rlsd_ectr": ("GRPO's, tilted by what a right hint says beyond a wrong one", "arXiv 2606.11709, an ablation"),
    "rlcsd": ("GRPO's, moved where a right hint contradicts wrong ones", "arXiv 2606.11709"),
    "sdar": ("GRPO's, and a gated distillation loss beside it", "arXiv 2605.15155"),
    "agentopsd": ("GRPO's, weighted by how much its turn moves a belief in success", "arXiv 2608.05987"),
    "gigpo": ("GRPO's, and a comparison of steps taken in the same state", "arXiv 2505.10978"),
    "vineppo": ("what its step changes in the chances of success, by fresh episodes", "arXiv 2410.01679"),
}
"""Methods known here -> the credit of a token, and where it is from."""


def methods_table(study: Study) -> Table:
    """The credit of a token by method."""
    unknown = ("as its own package says", "—")
    rows = tuple((study.label(m), *DEFINITIONS.get(m, unknown)) for m in study.methods)
    notes = ("Options stand under Protocol; formulas in the methods' docstrings (stepcredit/methods).",)
    return Table("methods", "The methods", ("Method", "Credit of a token", "Source"), rows, notes)


def checklist_table(study: Study) -> Table:
    """Questions and answers."""
    rows = tuple(_answers(study))
    notes = ("Filled from the runs' manifests.",)
    return Table("checklist", "Reproducibility checklist", ("Question", "Answer"), rows, notes)


def _answers(study: Study) -> Iterator[tuple[str, str]]:
    manifest, runs = study.manifest, (*study.runs, *study.replicates)
    evaluation = manifest.spec.evaluation
    seeds = {tuple(run.spec.seed for run in study.of(method)) for method in study.methods}
    yield "Same seeds for every method?", _yes(len(seeds) == 1, counted(len(next(iter(seeds))), "seed"))
    yield "Same tasks in every evaluation?", f"yes: one panel, {manifest.panels.eval.sha256[:10]}, whole each time"
    yield "Same episodes before the first update?", _yes(same_start(study))
    yield "Equal budgets?", _budgets(study)
    luck = "one for all seeds" if evaluation.luck == "shared" else "one for each seed, its methods share it"
    times = counted(evaluation.samples, "episode")
    yield "How was each policy evaluated?", f"{times} a task, temperature {evaluation.temperature:g}; luck: {luck}"
    yield "Was a checkpoint chosen?", manifest.selection
    yield "Was anything repeated?", _repeated(study)
    yield "Which code?", _code(runs)
    yield "Same versions of libraries?", _yes(len({tuple(sorted(run.manifest.versions.items())) for run in runs}) == 1)
    yield "Same device and threads?", _yes(len({(run.manifest.device, run.manifest.threads) for run in runs}) == 1)
    yield "Was anything left out?", _left_out(study)


def _yes(holds: bool, what: str = "") -> str:
    return ("yes" if holds else "no") + (f": {what}" if holds and what else "")


def _budgets(study: Study) -> str:
    extra = [study.label(m) for m in study.methods if any(continuations(run) for run in study.of(m))]
    same = f"{counted(study.updates, 'update')} of {counted(study.trajectories, 'trajectory', 'trajectories')} each"
    return f"no: {listed(extra)} played fresh episodes besides ({same})" if extra else f"yes: {same}"


def _repeated(study: Study) -> str:
    if not study.replicates:
        return "no"
    equal = sum(_equal(study, run) for run in study.replicates)
    return f"{counted(len(study.replicates), 'run')}, {equal} of them with the same bits"


def _equal(study: Study, copy: Run) -> bool:
    originals = (run for run in study.runs if run.cell == copy.manifest.replicate_of)
    return any(same_bits(run, copy).startswith("yes") for run in originals)


def _code(runs: Iterable[Run]) -> str:
    commits = dict.fromkeys((run.manifest.git_commit or "unknown")[:7] for run in runs)
    changed = sum(bool(run.manifest.git_dirty) for run in runs)
    untold = sum(run.manifest.git_dirty is None for run in runs)
    state = f"{counted(changed, 'run')} with uncommitted changes" if changed else "all clean"
    if untold:
        state = f"of {counted(untold, 'run')} it is not recorded whether there were changes"
    return f"{', '.join(commits)}; {state}"


def _left_out(study: Study) -> str:
    stopped = sum(own.stopped for own in study.skipped)
    unfinished = len(study.skipped) - stopped
    kinds = [counted(unfinished, "unfinished run")] if unfinished else []
    kinds += [f"{counted(stopped, 'run')} stopped early"] if stopped else []
    return f"{listed(kinds)}, listed at the end" if kinds else "no"
