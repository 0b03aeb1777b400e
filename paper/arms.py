"""What training made of each arm of hindsight: tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, nan

from stepcredit.paper.drift import Drift, drift_of
from stepcredit.paper.render import range_text, rate_text
from stepcredit.paper.statistics import LEVEL, Estimate, holm
from stepcredit.paper.tables import Cell as Entry
from stepcredit.paper.tables import Ranged, Table, interval_notes, p_text, scored, setting_note
from stepcredit.paper.variants import Cell, Collection

AXIS = "hindsight"
_PEER, _PLACEBO, _NOTHING = "peer_traj", "foreign", "none"
_CAUSELESS = "null_causal"
_EQUAL = "As far as GRPO"
_MEANINGS = (
    "p: that the difference to GRPO is none, corrected for the table's rows. Moved: nats a turn, the KL divergence of "
    "the policy before training to that after it, on its own turns on held-out tasks. Alike: correlation of two seeds' "
    "changes of those turns' log-probabilities, mean over pairs; interval over tasks. As far as GRPO: least bound, in "
    "nats a turn, within which both have moved equally far (two one-sided t-tests at 5%, over seeds)."
)


def arm_tables(collection: Collection) -> list[Table]:
    """For each benchmark: every method under every arm, and what the arms differ in."""
    tables = []
    for tasks in collection.tasks:
        cells = collection.cells(tasks, (AXIS,))
        if cells:
            tables += [_effects(collection, tasks, cells), _contrasts(collection, tasks, cells)]
    return tables


def arm_sentences(collection: Collection) -> Iterator[str]:
    """Whether a peer's block does more than a placebo's; and, where nothing has an effect, how far policies move."""
    compared = [*_peers(collection)]
    corrected = holm([found.p_value for _, _, found in compared])
    for (tasks, label, found), p in zip(compared, corrected, strict=True):
        apart = rate_text(found, signed=True, unit=" points")
        yield f"{tasks}: with a peer's block {label} ends {apart} from where it ends with a placebo's{_reading(p)}."
    for tasks in collection.tasks:
        cells = collection.cells(tasks, (AXIS,))
        if cells and tasks.endswith(_CAUSELESS):
            yield from _movements(collection, tasks, cells)


def _peers(collection: Collection) -> Iterator[tuple[str, str, Estimate]]:
    """Benchmark, method, and what a peer's block makes of its success beyond a placebo's."""
    for tasks in collection.tasks:
        cells = collection.cells(tasks, (AXIS,))
        for method in dict.fromkeys(cell.method for cell in cells):
            own = {cell.variant.axes[AXIS]: cell for cell in cells if cell.method == method}
            if _PEER in own and (found := own[_PEER].beyond(own.get(_PLACEBO))) is not None:
                yield tasks, own[_PEER].label, found


def _movements(collection: Collection, tasks: str, cells: list[Cell]) -> Iterator[str]:
    control = collection.baseline(tasks)
    still = None if control is None else drift_of(control.runs)
    if still is None:
        return
    yield (
        f"{tasks}: no action has an effect, yet GRPO moves the policy by {range_text(still.moved)} nats a turn, its "
        f"seeds alike by {range_text(still.alike)}."
    )
    known = [(cell, drift) for cell in cells if (drift := drift_of(cell.runs)) is not None]
    if known:
        corrected = holm([None if isnan(drift.p_alike) else drift.p_alike for _, drift in known])
        yield f"{tasks}: seeds move the policy the same way (Holm p below 0.05) under: {_same_way(known, corrected)}."


def _same_way(known: list[tuple[Cell, Drift]], corrected: list[float | None]) -> str:
    said = [
        f"{cell.label} with {cell.variant.axes[AXIS]} ({range_text(drift.alike)})"
        for (cell, drift), p in zip(known, corrected, strict=True)
        if p is not None and p < LEVEL and drift.alike.value > 0
    ]
    return "; ".join(said) or "none"


def _reading(corrected: float | None) -> str:
    if corrected is None:
        return ", of one seed: no verdict"
    if corrected < LEVEL:
        return f" (Holm p {p_text(corrected)}): what the block tells matters"
    return f" (Holm p {p_text(corrected)}): what the block tells has not been shown to matter"


def _effects(collection: Collection, tasks: str, cells: list[Cell]) -> Table:
    control = collection.baseline(tasks)
    still = None if control is None else drift_of(control.runs)
    beyond = [cell.beyond(control) for cell in cells]
    corrected = holm([None if found is None else found.p_value for found in beyond])
    rows = [_row(control, None, None, None)] if control else []
    rows += [_row(cell, found, p, still) for cell, found, p in zip(cells, beyond, corrected, strict=True)]
    header = ("Method", "Hindsight", "Seeds", "After", "Change", "Minus GRPO", "p (Holm)", "Moved", "Alike", _EQUAL)
    estimates = [*beyond, *(estimate for cell in cells for estimate in (cell.after, cell.change))]
    notes = (setting_note(cells[0].variant.study), _MEANINGS, *interval_notes(estimates))
    return Table(f"arms-{tasks}", f"{tasks}: what training made of each hindsight", header, tuple(rows), notes)


def _row(cell: Cell, beyond: Estimate | None, p: float | None, still: Drift | None) -> tuple[Entry, ...]:
    drift = drift_of(cell.runs)
    return (
        cell.label,
        cell.variant.axes.get(AXIS, "—"),
        len(cell.runs),
        scored(cell.after),
        scored(cell.change, signed=True),
        scored(beyond, signed=True),
        p_text(p),
        None if drift is None else drift.moved,
        None if drift is None else drift.alike,
        None if drift is None or still is None else _bound(drift.within(still)),
    )


def _bound(value: float) -> Ranged | None:
    return None if isnan(value) else Ranged(value, nan, nan, signed=False)


def _contrasts(collection: Collection, tasks: str, cells: list[Cell]) -> Table:
    rows = []
    for method in dict.fromkeys(cell.method for cell in cells):
        own = {cell.variant.axes[AXIS]: cell for cell in cells if cell.method == method}
        peer, placebo, nothing = own.get(_PEER), own.get(_PLACEBO), own.get(_NOTHING)
        pairs = ((peer, placebo), (peer, nothing), (placebo, nothing), (own.get("outcome"), placebo))
        found = [None if one is None else one.beyond(other) for one, other in pairs]
        rows.append((next(iter(own.values())).label, *(scored(estimate, signed=True) for estimate in found)))
    header = ("Method", "Peer − placebo", "Peer − nothing", "Placebo − nothing", "Outcome − placebo")
    scores = [cell.estimate for row in rows for cell in row if not isinstance(cell, str) and cell is not None]
    notes = (
        "Success after training, same seeds and tasks, in points. Intervals are of one number each, not corrected for "
        "how many there are.",
        *interval_notes(scores),
    )
    return Table(f"contrasts-{tasks}", f"{tasks}: what differs between the hindsights", header, tuple(rows), notes)
