"""The notes of runs: which of them collapsed or diverged, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepcredit.paper.health import ENTROPY_SHARE, INVALID_SHARE, MOST_KL, PATIENCE, Vitals, limited_share, notes
from stepcredit.paper.health import sentences as told
from stepcredit.paper.results import Run
from stepcredit.paper.tables import Table
from stepcredit.paper.words import counted


def health_tables(runs: Sequence[tuple[str, Run]]) -> list[Table]:
    """A row for each run that there is something to say of; no table where that is none.

    Args:
        runs: with what each is called.
    """
    said = ((name, "; ".join(told(notes(vitals(run))))) for name, run in runs)
    found = [(name, sentences) for name, sentences in said if sentences]
    if not found:
        return []
    rules = (
        f"{len(found)} of {counted(len(runs), 'run')}; of the others there is nothing to say. By rule from the numbers "
        f"of {PATIENCE} updates or more in a row: entropy under {ENTROPY_SHARE:g} of the first update's, no success "
        f"after some, at least {INVALID_SHARE:.0%} of actions invalid, every episode cut at a limit of turns or tokens "
        f"after some were not, no group with credit; and of one update: a KL above {MOST_KL:g} nats a token, a number "
        "that is not finite. These runs are in the tables like all others."
    )
    return [Table("health", "Collapse and divergence", ("Run", "Note"), tuple(found), (rules,))]


def vitals(run: Run) -> list[Vitals]:
    """Of each update; a run of an earlier version may lack numbers."""
    stops = {} if "stop" not in run.training else run.training.groupby("update")["stop"].agg(list).to_dict()
    return [_vitals(row, stops.get(row["update"])) for row in run.updates.to_dict("records")]


def _vitals(row: dict[Any, Any], stops: list[str] | None) -> Vitals:
    measured = ("entropy", "kl", "loss", "grad_norm", "success", "invalid_rate")
    return Vitals(
        update=int(row["update"]),
        taught="skipped_groups" not in row or row["skipped_groups"] < row["groups"],
        limited=None if stops is None else limited_share(stops),
        **{name: row.get(name) for name in measured},
    )
