"""What the report says: its sentences and protocol, generated from the numbers, for Markdown and PDF alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from stepcredit.paper.aggregates import difference_to_baseline, final_success, initial_success, learning, rivals
from stepcredit.paper.ailments import health_tables
from stepcredit.paper.checklist import checklist_table, methods_table
from stepcredit.paper.cost import continuations, cost_plots, cost_table
from stepcredit.paper.figures import all_plots
from stepcredit.paper.manifest import MANIFEST, EvaluationRecord
from stepcredit.paper.published import published_tables
from stepcredit.paper.render import markdown_body, rate_text
from stepcredit.paper.results import BASELINE, Run, Study
from stepcredit.paper.secondary import secondary_plots, secondary_tables
from stepcredit.paper.statistics import LEVEL, Estimate, Interval, holm
from stepcredit.paper.styles import Plot
from stepcredit.paper.tables import Table, all_tables, p_text, same_start, world_note
from stepcredit.paper.words import counted, listed

MOST_NAMED = 6
"""Methods that a sentence names one by one."""
TITLE = "Step-level credit assignment under identical seeds"


@dataclass(frozen=True)
class Step:
    """What to type, one command a line, and what that does."""

    sentence: str
    commands: tuple[str, ...] = ()


ORDER = (
    *("methods", "success", "f1", "searches", "learning_curves", "learning", "subset_rates", "differences"),
    *("closed-book", "regression", "paired_differences", "diagnostics", "cost", "cost_curves"),
    *("published", "secondary", "profiles", "health", "checklist"),
)
"""Tables and figures of a study of methods, as its pages have them."""


@dataclass(frozen=True)
class Report:
    """The whole content, before any layout.

    Attributes:
        order: of tables and figures by name on the pages; the table `provenance` stands apart.
    """

    title: str
    subtitle: str
    summary: tuple[str, ...]
    protocol: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    skipped: tuple[str, ...]
    again: tuple[Step, ...]
    order: tuple[str, ...] = ORDER


def report_of(study: Study, further: Sequence[Table] = ()) -> Report:
    """Everything that the study's report says. `further` tables come after those of its episodes."""
    spec = study.manifest.spec
    seeds = len({run.spec.seed for run in study.runs})
    return Report(
        title=TITLE,
        subtitle=f"{spec.tasks_name} · policy {spec.model} · {_named(study)} · {counted(seeds, 'seed')}",
        summary=tuple(_summary(study)),
        protocol=tuple(_protocol(study)),
        tables=(*_tables(study), *further),
        plots=(*all_plots(study), *cost_plots(study), *secondary_plots(study)),
        skipped=tuple(f"{skipped.cell}: {skipped.reason}" for skipped in study.skipped),
        again=tuple(_again(study)),
    )


def _tables(study: Study) -> list[Table]:
    own = [*all_tables(study), cost_table(study), *secondary_tables(study), *published_tables(study)]
    own += health_tables([(run.cell, run) for run in study.runs])
    return [methods_table(study), *own, checklist_table(study)]


def markdown_report(report: Report) -> str:
    """The report as one Markdown page, pictures and machine-readable tables linked by relative path."""
    parts = [f"# {report.title}", f"*{report.subtitle}*", *report.summary]
    provenance = [table for table in report.tables if table.name == "provenance"]
    for table in report.tables:
        if table not in provenance:
            parts += [f"## {table.title}", _table_section(table)]
    parts += ["## Figures"] if report.plots else []
    parts += [f"![{plot.name}](figures/{plot.name}.png)\n\n*{plot.caption}*" for plot in report.plots]
    parts += ["## Protocol", "| | |\n| :-- | :-- |\n" + "\n".join(f"| {k} | {v} |" for k, v in report.protocol)]
    for table in provenance:
        parts += [f"## {table.title}", _table_section(table)]
    if report.skipped:
        parts += ["## Left out", "Runs in no table or figure:", "\n".join(f"- {line}" for line in report.skipped)]
    parts.append("## Make it again")
    for step in report.again:
        parts += [step.sentence, *(["\n".join(("```sh", *step.commands, "```"))] if step.commands else [])]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _again(study: Study) -> Iterable[Step]:
    origin = study.origin
    if origin is None:
        yield Step(f"The command that made the runs was not recorded. {_settings(study)}")
    elif len(origin.commands) == 1:
        yield Step("This command makes the runs; run again, it trains only what is missing:", origin.commands)
    else:
        yield Step(
            "These commands make the runs, in this order; run again, they train only what is missing:",
            origin.commands,
        )
    folder = origin.folder if origin else study.name
    yield Step("The report alone, from the recorded episodes:", (f"stepcredit paper {quote(folder)}",))


def _settings(study: Study) -> str:
    spec = study.manifest.spec
    methods, seeds = study.methods, sorted({run.spec.seed for run in study.runs})
    fields = {
        "model": spec.model,
        "benchmark": spec.benchmark,
        "suite": spec.suite,
        "train_split": spec.train_split,
        "method": ", ".join(methods),
        "seed": ", ".join(map(str, seeds)),
        "updates": spec.updates,
        "rollout.tasks": spec.rollout.tasks,
        "rollout.group": spec.rollout.group,
        "optim.lr": f"{spec.optim.lr:g}",
        "evaluation.split": spec.evaluation.split,
        "evaluation.every": spec.evaluation.every,
    }
    said = "; ".join(f"{name} {value}" for name, value in fields.items())
    return f"The runs' specs say {said}; the other fields are in each run's {MANIFEST}."


def _table_section(table: Table) -> str:
    links = f"[CSV](tables/{table.name}.csv) · [LaTeX](tables/{table.name}.tex)"
    return f"{markdown_body(table)}\n{links}"


def _summary(study: Study) -> Iterable[str]:
    spec = study.manifest.spec
    seeds = sorted({run.spec.seed for run in study.runs})
    start = (
        (
            "All methods of a seed start from the same weights and draw the same rollouts at update 0"
            + _what_differs(study)
        )
        if same_start(study)
        else ""
    )
    yield (
        f"{_named(study)} trained the policy {spec.model}{_size(study)} on "
        f"{spec.tasks_name} tasks with {counted(len(seeds), 'seed')}, "
        f"{counted(spec.updates, 'update')} of {counted(study.trajectories, 'trajectory', 'trajectories')} each. "
        f"{start}"
    ).strip()
    yield from _unequal_seeds(study)
    yield from _stopped(study)
    finals = [(method, final_success(study, method)) for method in study.methods]
    yield _reached(study, finals)
    changes = [(method, learning(study, method)) for method in study.methods]
    yield from _sentence(
        f"Measured on the same seeds and tasks, the change of {study.score.lower()} by training is",
        [(study.label(m), own, *_zero(own)) for m, own in changes if own is not None],
    )
    gaps = [(m, gap) for m in rivals(study) if (gap := difference_to_baseline(study, m)) is not None]
    corrected = holm([gap.p_value for _, gap in gaps])
    yield from _sentence(
        f"Against {study.label(BASELINE)} on the same seeds and tasks, the difference is",
        [(study.label(m), gap, *_separable(p)) for (m, gap), p in zip(gaps, corrected, strict=True)],
    )
    yield _scope(final for _, final in finals)


def _named(study: Study) -> str:
    """The methods by name, or their number."""
    if len(study.methods) > MOST_NAMED:
        return f"{len(study.methods)} methods"
    return listed(map(study.label, study.methods))


def _what_differs(study: Study) -> str:
    """Only where budgets are equal is credit the one thing that differs."""
    dearer = [study.label(m) for m in study.methods if any(continuations(run) for run in study.of(m))]
    if dearer:
        return f". {listed(dearer)} played fresh episodes besides, which the others did not: budgets are not equal."
    return ", so whatever differs later comes from credit assignment."


def _unequal_seeds(study: Study) -> Iterable[str]:
    if len({tuple(run.spec.seed for run in study.of(method)) for method in study.methods}) > 1:
        yield (
            f"Not all methods were run with the same seeds ({'; '.join(_seeds_by_method(study))}): differences are "
            "over those that a method has in common with GRPO."
        )


def _stopped(study: Study) -> Iterable[str]:
    """A mean over the runs that did not collapse is no mean over runs."""
    stopped = [own.cell for own in study.skipped if own.stopped]
    if stopped:
        yield (
            f"{counted(len(stopped), 'run')} stopped early by a rule on collapse and divergence, and in no number "
            f"here ({listed(stopped)}; why stands at the end): what is reported is of runs that did not collapse, and "
            "too good where others did."
        )


def _reached(study: Study, finals: Iterable[tuple[str, Estimate | None]]) -> str:
    panel, before = study.manifest.panels.eval, initial_success(study)
    start = f" was {rate_text(before, unit='%')} before training and" if before is not None else ""
    known = [(method, final) for method, final in finals if final]
    if len(known) > MOST_NAMED:
        ordered = sorted(known, key=lambda own: own[1].mean)
        known, between = [ordered[0], ordered[-1]], "between "
    else:
        between = ""
    after = between + listed(f"{rate_text(final, unit='%')} with {study.label(method)}" for method, final in known)
    return (
        f"On the held-out panel of {counted(panel.size, f'{panel.split} task')}, {study.score.lower()}{start} is "
        f"{after or 'not measured'} after it."
    )


Judged = tuple[str, Estimate, str, bool]
"""A method's name, its estimate, the verdict in words, and whether it is one."""


def _sentence(start: str, judged: Sequence[Judged]) -> Iterable[str]:
    """Every method's number; where there are many, of those with a verdict."""
    told = judged if len(judged) <= MOST_NAMED else [own for own in judged if own[3]]
    others = [own for own in judged if own not in told]
    reasons = listed(dict.fromkeys(verdict.partition(",")[0] for _, _, verdict, _ in others))
    parts = [f"{rate_text(own, signed=True, unit=' points')} for {label} ({word})" for label, own, word, _ in told]
    if parts and others:
        yield f"{start} {listed(parts)}; the other {len(others)} stand in the table ({reasons})."
    elif parts:
        yield f"{start} {listed(parts)}."
    elif others:
        yield f"{start} told apart from zero for none of {len(others)} methods ({reasons}); the table has the numbers."


def _zero(estimate: Estimate) -> tuple[str, bool]:
    if estimate.seeds < 2:
        return "one seed: no verdict", False
    return f"the interval {'ex' if estimate.excludes_zero else 'in'}cludes zero", estimate.excludes_zero


def _separable(corrected: float | None) -> tuple[str, bool]:
    if corrected is None:
        return "one seed: no verdict", False
    told = corrected < LEVEL
    return f"{'separable' if told else 'not separable'}, Holm p {p_text(corrected)}", told


def _scope(finals: Iterable[Estimate | None]) -> str:
    kinds = {estimate.interval for estimate in finals if estimate is not None}
    if Interval.CROSSED in kinds:
        return (
            "Intervals are 95%. Those of rates and changes are over seeds and tasks: where the mean of other runs on "
            "other such tasks would lie. Those of differences are over seeds, on this panel. They do not cover other "
            "policies or settings."
        )
    return (
        "Intervals are 95% over tasks: there is one seed, so nothing here says how much another training run would "
        "differ."
    )


def _protocol(study: Study) -> Iterable[tuple[str, str]]:
    manifest, spec = study.manifest, study.manifest.spec
    train, held_out, rollout, evaluation = manifest.panels.train, manifest.panels.eval, spec.rollout, spec.evaluation
    weights = manifest.policy.weights_sha256
    yield "Policy", f"{spec.model}{_size(study)}" + (f", weights {weights[:10]}" if weights else "")
    yield "Tasks", f"{spec.tasks_name}. {world_note(study)}"
    if spec.env_options:
        yield "Environment", ", ".join(f"{key} {_plain(value)}" for key, value in sorted(spec.env_options.items()))
    yield "Training panel", f"split {train.split}, {counted(train.size, 'task')}, sha256 {train.sha256[:10]}"
    yield "Held-out panel", f"split {held_out.split}, {counted(held_out.size, 'task')}, sha256 {held_out.sha256[:10]}"
    yield (
        "Evaluation",
        (
            f"{_often(evaluation.samples)}; before the first update, {_rhythm(evaluation.every)}, after the last; "
            f"temperature {evaluation.temperature:g}, {_luck(evaluation)}"
        ),
    )
    yield "Checkpoint", manifest.selection
    yield "Seeds", "; ".join(_seeds_by_method(study))
    yield (
        "Training",
        (
            f"{counted(spec.updates, 'update')} of {counted(rollout.tasks, 'task')} × "
            f"{counted(rollout.group, 'trajectory', 'trajectories')}, "
            f"temperature {rollout.temperature:g}, AdamW with learning rate {spec.optim.lr:g}"
        ),
    )
    yield (
        "Limits",
        (
            f"{counted(rollout.max_turns, 'turn')} per episode, "
            f"{counted(rollout.max_response_tokens, 'token')} per turn, "
            f"{counted(rollout.max_context_tokens, 'token')} of context"
        ),
    )
    for method in study.methods:
        options = study.of(method)[0].spec.method_options
        if options:
            yield study.label(method), ", ".join(f"{key} {value}" for key, value in sorted(options.items()))
    yield (
        "Machine",
        _distinct(
            study, lambda run: f"{run.manifest.device or 'unknown'}, {counted(run.manifest.threads or 1, 'thread')}"
        ),
    )
    yield "Software", _distinct(study, _software)


def _often(samples: int) -> str:
    return "each task once" if samples == 1 else f"each task {samples} times before and after training, else once"


def _luck(evaluation: EvaluationRecord) -> str:
    """Which runs met the same draws."""
    if evaluation.luck == "shared":
        return f"seed {evaluation.seed} for every run"
    return f"draws shared by the runs of one seed (evaluation seed {evaluation.seed})"


def _rhythm(every: int) -> str:
    return "after every update" if every == 1 else f"every {counted(every, 'update')}"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            "(" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items() if inner not in (None, "")) + ")"
        )
    return str(value)


def _seeds_by_method(study: Study) -> Iterable[str]:
    seeds = {method: ", ".join(str(run.spec.seed) for run in study.of(method)) for method in study.methods}
    if len(set(seeds.values())) == 1:
        return [f"{next(iter(seeds.values()))} for every method"]
    return [f"{study.label(method)} {values}" for method, values in seeds.items()]


def _software(run: Run) -> str:
    names = ("python", "torch", "transformers", "alfworld")
    versions = [f"{name} {run.manifest.versions[name]}" for name in names if name in run.manifest.versions]
    return ", ".join([f"stepcredit {run.manifest.stepcredit_version}", *versions])


def _distinct(study: Study, value: Callable[[Run], str]) -> str:
    return "; ".join(dict.fromkeys(value(run) for run in study.runs))


def _size(study: Study) -> str:
    parameters = study.manifest.policy.parameters
    return f" ({parameters:,} parameters)" if parameters else ""
