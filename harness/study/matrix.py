"""Runs the cells of a study that are missing, a few at a time, each in a worker process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stepcredit.harness.errors import UserError
from stepcredit.harness.progress import Display, display_for
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import Inputs
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.cluster import RayPool
from stepcredit.harness.study.listing import notes_of
from stepcredit.harness.study.order import Order
from stepcredit.harness.study.pool import Event, LocalPool, Pool, Resources, Said
from stepcredit.harness.study.worker import BAD_INPUT
from stepcredit.harness.words import counted


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there and what is left to do."""

    finished: tuple[Cell, ...]
    missing: tuple[Cell, ...]

    @property
    def resumed(self) -> tuple[Cell, ...]:
        """The missing cells that have a checkpoint to continue from."""
        return tuple(cell for cell in self.missing if checkpoint.available(cell.folder))

    def title(self, cell: Cell) -> str:
        """What the cell is called on the screen: by its study too, where there are several."""
        studies = {own.study for own in (*self.finished, *self.missing)}
        return cell.name if len(studies) == 1 else f"{cell.study.name}/{cell.name}"


def cells_of(study: Path, specs: Sequence[RunSpec], *, copy: bool = False) -> list[Cell]:
    """One cell a spec; `copy` makes replicates beside the originals.

    Raises:
        UserError: two specs share a cell's name.
    """
    cells = [Cell(study, spec, copy) for spec in specs]
    names = [cell.name for cell in cells]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"cell {repeated[0]} is asked for twice; give each method and seed once")
    return cells


def plan(cells: Sequence[Cell], inputs_of: Callable[[RunSpec], Inputs]) -> Plan:
    """Sort the cells into finished and missing, before anything is started.

    Args:
        cells: the matrix.
        inputs_of: the weights and data that a spec starts from now.

    Raises:
        UserError: a folder was written by another spec, from other weights or data, or is damaged.
    """
    finished = []
    for cell in cells:
        inputs, found = inputs_of(cell.spec), manifest.read(cell.folder)
        if found is not None:
            manifest.require_same_spec(found, cell.spec, cell.folder)
            manifest.require_same_inputs(found, inputs, cell.folder)
        if cell.ended():
            finished.append(cell)
    return Plan(tuple(finished), tuple(cell for cell in cells if cell not in finished))


def run(plan: Plan, resources: Resources, episodes_of: Callable[[RunSpec], int], *, examines: bool = False) -> None:
    """Run the missing cells; on an error or Ctrl-C end all workers, which lose at most their last few updates.

    Args:
        plan: what is missing.
        resources: what may be used.
        episodes_of: how many episodes a spec asks for.
        examines: whether a worker examines its run outside the environment right after training.

    Raises:
        UserError: a worker met bad input, a full disk, or was killed.
    """
    for cell in plan.missing:
        files.make_folder(cell.folder)
    totals = {plan.title(cell): episodes_of(cell.spec) for cell in plan.missing}
    order, kind = Order(plan.missing, plan.finished), RayPool if resources.ray else LocalPool
    with display_for(totals, len(plan.finished)) as display, kind(resources, examines=examines) as pool:
        while order.waiting or pool.running:
            while order.waiting and pool.running < resources.jobs:
                pool.start(order.next())
            ended = _take_in(pool.next_event(), pool, plan, display)
            if ended is not None:
                order.learn(ended)


def _take_in(event: Event, pool: Pool, plan: Plan, display: Display) -> Cell | None:
    """Show a report, or the end of a cell; the cell, if it is complete."""
    title = plan.title(event.cell)
    if isinstance(event, Said):
        display.show(replace(event.report, cell=title))
        return None
    pool.forget(event.cell)
    if event.code == BAD_INPUT:
        raise UserError(event.error.strip().splitlines()[-1])
    if event.code < 0:
        raise UserError(
            f"the worker of {title} was killed by {signal.Signals(-event.code).name} "
            "(out of memory, perhaps: try --jobs 1); run the same command again to resume"
        )
    if event.code > 0:
        raise RuntimeError(f"the worker of {title} failed\n{event.error}")
    display.finish(title, summary(event.cell.folder))
    return event.cell


def summary(folder: Path) -> str:
    """One line on a run that has ended, with what there is to say of its health."""
    found = manifest.require(folder)
    done = f"{found.cell}: {counted(found.updates, 'update')} in {found.wall_s:.0f} s, {found.peak_rss_mb:.0f} MB"
    return "; ".join([done, *notes_of(folder, found)])
