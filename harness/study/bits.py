"""Whether bits stay the same: one tiny run under each condition, in processes of their own, beside a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.setup.settings import with_settings
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.cluster import RayPool
from stepcredit.harness.study.conditions import Condition, Way, baseline, conditions
from stepcredit.harness.study.pool import Ended, LocalPool, Pool, Resources
from stepcredit.harness.study.verify import Rows, differences_of, hashes_differing, scratch
from stepcredit.harness.words import one_of

_BASELINE = Condition("baseline", "the baseline")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a condition does to bits.

    Attributes:
        lacking: why it was not measured; all else means nothing then.
        failed: how its run failed; all else means nothing then.
        first: update of the first row that differs; None where all are equal.
        episodes: that differ, of so many.
        weights: largest difference of a weight after the last update.
        details: sentences on what differs.
    """

    condition: Condition
    lacking: str | None = None
    failed: str | None = None
    first: int | None = None
    episodes: int = 0
    of: int = 0
    weights: float = 0.0
    details: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every recorded bit is the same."""
        return self.failed is None and not self.details

    @property
    def broken(self) -> bool:
        """Whether equal bits were promised, and are not there."""
        return self.condition.promised and not self.equal


def chosen(names: Sequence[str]) -> list[Condition]:
    """The conditions of those names, in the order of the table; all where none is named.

    Raises:
        UserError: an unknown name.
    """
    every = conditions()
    wanted = {one_of("condition", name, [own.name for own in every]) for name in names}
    return [own for own in every if not wanted or own.name in wanted]


def measure(
    wanted: Sequence[Condition], report: Callable[[int, int], None] = lambda done, total: None
) -> list[Outcome]:
    """Make the baseline and one run for each condition, and compare.

    The runs lie in the cache until all are compared, so that an interrupted call goes on where it stopped.

    Raises:
        UserError: the baseline failed, or the cache cannot be written.
    """
    spec, outcomes = baseline(), list[Outcome]()
    with scratch(f"determinism-{spec.sha256[:12]}") as folder:
        first = _made(_BASELINE, spec, folder)
        for done, condition in enumerate(wanted, start=1):
            outcomes.append(_outcome(condition, spec, first, folder))
            report(done, len(wanted))
    return outcomes


def _outcome(condition: Condition, spec: RunSpec, first: Cell, folder: Path) -> Outcome:
    """Of one condition; a run that fails under it leaves the others as they are."""
    lacking = condition.lacking()
    if lacking is not None:
        return Outcome(condition, lacking)
    try:
        return _compared(condition, first, _made(condition, spec, folder))
    except UserError as error:
        return Outcome(condition, failed=str(error))


def _made(condition: Condition, spec: RunSpec, folder: Path) -> Cell:
    """The run under the condition; what is there of it is not made again."""
    study = folder / condition.name
    cell = Cell(study, with_settings(spec, condition.settings))
    if cell.ended():
        return cell
    cells = [cell]
    if condition.way is Way.BESIDE_ANOTHER:
        cells.append(Cell(study, spec.model_copy(update={"seed": spec.seed + 1})))
    if condition.way is Way.KILLED:
        _work(condition, cells, until=lambda: _has_updated(cell))
    _work(condition, cells)
    return cell


def _has_updated(cell: Cell) -> bool:
    kept = checkpoint.available(cell.folder)
    return bool(kept) and checkpoint.update_of(kept[-1]) > 0


def _work(condition: Condition, cells: Sequence[Cell], until: Callable[[], bool] = lambda: False) -> None:
    """Work on the cells till they end, or till then; whoever still works is killed."""
    for cell in cells:
        files.make_folder(cell.folder)
    with _pool(condition, len(cells)) as pool:
        for cell in cells:
            pool.start(cell)
        while pool.running and not until():
            event = pool.next_event()
            if isinstance(event, Ended):
                pool.forget(event.cell)
                _require_done(condition, event)


def _pool(condition: Condition, jobs: int) -> Pool:
    resources = Resources(jobs, condition.threads, condition.device, condition.track, condition.way is Way.RAY)
    if resources.ray:
        return RayPool(resources, examines=False)
    return LocalPool(resources, examines=False, changed=condition.variables, program=condition.program)


def _require_done(condition: Condition, event: Ended) -> None:
    if event.code:
        said = (event.error.strip() or f"exit code {event.code}").splitlines()[-1]
        raise UserError(f"condition {condition.name}: {said}")


def _compared(condition: Condition, there: Cell, here: Cell) -> Outcome:
    before, after = Rows.of(there.folder), Rows.of(here.folder)
    rows = list(differences_of(before, after))
    hashes = hashes_differing(manifest.require(there.folder), manifest.require(here.folder))
    pairs = zip_longest(*([row.rollout_sha256 for row in rows.episodes] for rows in (before, after)))
    return Outcome(
        condition,
        first=min((own.update for own in rows), default=None),
        episodes=sum(one != other for one, other in pairs),
        of=max(len(before.episodes), len(after.episodes)),
        weights=_furthest(there, here),
        details=(*(own.sentence for own in rows), *hashes),
    )


def _furthest(there: Cell, here: Cell) -> float:
    """Largest difference of a weight after training."""
    before, after = (checkpoint.load(checkpoint.find(c.folder), c.spec.sha256)[1].model for c in (there, here))
    return max(float((before[name].double() - after[name].double()).abs().max()) for name in before)
