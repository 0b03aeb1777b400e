"""What a method's runs cost: episodes, continuations, tokens, seconds by part, memory; and success against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from stepcredit.paper.aggregates import Point, evaluation_curve
from stepcredit.paper.figures import curve, legend_above, legend_room, styles
from stepcredit.paper.results import ENERGY, Run, Study
from stepcredit.paper.statistics import mean
from stepcredit.paper.styles import WIDTH, Plot
from stepcredit.paper.tables import Cell, Table

_PARTS = {"rollout_s": "Rollouts (s)", "credit_s": "Credit (s)", "update_s": "Updates (s)", "eval_s": "Evaluations (s)"}
MOST_TIMES = 5.0
"""What the dearest method may cost of the cheapest, for both to be seen on one plain axis."""
_TOKENS = ("prompt_tokens", "response_tokens")


def cost_table(study: Study) -> Table:
    """Means over a method's runs; a dash where runs did not record a number."""
    header = ("Method", "Seeds", "Episodes", "Continuations", "Tokens read", "Tokens drawn", *_PARTS.values(), "MB")
    rows = tuple((study.label(m), len(study.of(m)), *_costs(study.of(m))) for m in study.methods)
    energy = [_kilojoules(study.of(m)) for m in study.methods]
    told = any(kilojoules is not None for kilojoules in energy)
    if told:
        header, rows = (*header, "kJ"), tuple((*row, own) for row, own in zip(rows, energy, strict=True))
    energy_note = (
        "kJ: what the machine's counters of its processors and GPU told, whoever used them."
        if told
        else "Energy was not measured."
    )
    notes = (
        "Means over a method's runs. Episodes: those that were trained on; continuations: fresh episodes from their "
        "states, whose tokens are not among those counted here.",
        "Seconds are wall time on the machine that trained them, which may have done other work beside it. MB: peak "
        f"memory. {energy_note}",
    )
    return Table("cost", "What a run cost", header, rows, notes)


def cost_plots(study: Study) -> list[Plot]:
    """Success against tokens and against seconds, where runs recorded both and were evaluated while training."""
    known = all(run.timings is not None and set(_TOKENS) <= set(run.training) for run in study.runs)
    if not known or study.updates == 0:
        return []
    caption = (
        f"{study.score} on the held-out panel against what training had cost by then: tokens of the episodes that "
        "were trained on, and wall seconds without evaluations. Means over seeds."
    )
    return [Plot("cost_curves", caption, partial(cost_curves, study))]


def cost_curves(study: Study) -> Figure:
    """Left over millions of tokens, right over seconds; by factors where methods differ by more than a few."""
    figure = Figure(figsize=(WIDTH, 2.0 + legend_room(study)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, spent, label in (
        (left, _tokens_spent, "Tokens trained on (millions)"),
        (right, _seconds_spent, "Seconds of training"),
    ):
        lines = {m: _against(evaluation_curve(study, m), study.of(m), spent) for m in study.methods}
        whole = [points[-1].at for points in lines.values() if points]
        by_factors = bool(whole) and max(whole) > MOST_TIMES * min(whole)
        for method, points in lines.items():
            shown = [point for point in points if point.at > 0 or not by_factors]
            curve(axes, shown, styles(study)[method], study.label(method), len(study.methods))
        axes.set_xlabel(label)
        if by_factors:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_xlim(left=0)
    left.set_ylabel(f"{study.score} (%)")
    left.set_ylim(0, min(100, left.get_ylim()[1]))
    legend_above(figure, left)
    return figure


def _against(points: Sequence[Point], runs: Sequence[Run], spent: Callable[[Run, int], float]) -> list[Point]:
    """The same points over what had been spent by then."""
    return [Point(mean([spent(run, int(p.at)) for run in runs]), p.mean, p.low, p.high) for p in points]


def _tokens_spent(run: Run, update: int) -> float:
    before = run.training[run.training["update"] < update]
    return float(before[list(_TOKENS)].to_numpy().sum()) / 1e6


def _seconds_spent(run: Run, update: int) -> float:
    """A row's number counts the updates done; its seconds are those of the last of them."""
    assert run.timings is not None
    before = run.timings[run.timings["update"] <= update]
    return float(before[["rollout_s", "credit_s", "update_s"]].to_numpy().sum())


def _costs(runs: Sequence[Run]) -> tuple[Cell, ...]:
    timed = [run.timings for run in runs if run.timings is not None]
    seconds = [_mean([float(rows[part].sum()) for rows in timed]) for part in _PARTS]
    tokens = [_mean([float(run.training[name].sum()) for run in runs if name in run.training]) for name in _TOKENS]
    memory = _mean([run.manifest.peak_rss_mb for run in runs if run.manifest.peak_rss_mb is not None])
    return (
        _mean([float(len(run.training)) for run in runs]),
        _mean([continuations(run) for run in runs]),
        *tokens,
        *seconds,
        memory,
    )


def _kilojoules(runs: Sequence[Run]) -> int | None:
    return _mean([energy / 1e3 for run in runs if (energy := _energy(run)) is not None])


def _energy(run: Run) -> float | None:
    """In joules; None where a part of it was not told."""
    if run.timings is None or ENERGY not in run.timings or run.timings[ENERGY].isna().any():
        return None
    return float(run.timings[ENERGY].sum())


def continuations(run: Run) -> float:
    """Fresh episodes: of every state as many as the method's options say; a group's trajectories begin in one state."""
    groups = float(run.updates["groups"].sum())
    states = float(run.training["turns"].sum()) - (run.spec.rollout.group - 1) * groups
    return states * float(run.spec.method_options.get("continuations", 0))


def _mean(values: Sequence[float]) -> int | None:
    return round(mean(values)) if values else None
