"""Whether a recorded run comes out again: its first updates once more, beside what its files say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepcredit.envs import places
from stepcredit.harness.determinism import Determinism, switch_on
from stepcredit.harness.device import resolve
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.presets import preset_named
from stepcredit.harness.progress import Report
from stepcredit.harness.record import files, manifest
from stepcredit.harness.record.cell import CREDITS, EPISODES, PROBES, UPDATES, Cell, verify_files
from stepcredit.harness.record.manifest import Manifest, differences
from stepcredit.harness.record.rows import EpisodeRow, UpdateRow, read_rows
from stepcredit.harness.run.schedule import episodes_of
from stepcredit.harness.run.train import begin, train
from stepcredit.harness.setup.parts import Parts, assemble

_FOLDER = "verify"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and what was found.

    Attributes:
        updates: how many were made again.
        of: how many the run has.
        rows: recorded episodes and updates that were compared.
        differing: sentences, the earliest difference first; none where all bits are equal.
        elsewhere: what differs between this machine and the one that the run was made on.
    """

    updates: int
    of: int
    rows: int
    differing: tuple[str, ...]
    elsewhere: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a run recorded."""

    episodes: Sequence[EpisodeRow]
    updates: Sequence[UpdateRow]

    @classmethod
    def of(cls, folder: Path) -> Rows:
        """Of a run that has ended."""
        return cls(read_rows(folder / EPISODES, EpisodeRow), read_rows(folder / UPDATES, UpdateRow))

    def until(self, last: int) -> Rows:
        """Of the first updates, and of the evaluations up to there."""
        kept = [row for row in self.episodes if row.update < last or (row.update == last and row.phase == "eval")]
        return Rows(kept, [row for row in self.updates if row.update < last])

    def __len__(self) -> int:
        return len(self.episodes) + len(self.updates)


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of a kind that are not equal.

    Attributes:
        update: of the first of them.
        sentence: how many, and what differs there.
    """

    update: int
    sentence: str


def verify_run(
    folder: Path,
    updates: int | None,
    device: str,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Verdict:
    """Make a run's first updates again, all of them if none are named, and compare row by row and hash by hash.

    What is made again lies in the cache until it is compared, so that an interrupted call goes on where it stopped.

    Raises:
        UserError: no complete run there, damaged files, or other weights or data than it started from.
        EnvError: its benchmark or its data cannot be had.
    """
    found = _complete(folder)
    last = found.updates if updates is None else min(updates, found.updates)
    where = resolve(device, preset_named(found.spec.model).device)
    switches, parts = switch_on(found.threads, where), assemble(found.spec, where)
    _require_same(found, parts, folder)
    total = episodes_of(found.spec, len(parts.eval_panel.tasks), last)
    with scratch(f"{found.cell}-{found.spec_sha256[:12]}") as study:
        cell = Cell(study, found.spec, copy=found.replicate_of is not None)
        whole = last == found.updates
        again = _made_again(cell, parts, switches, None if whole else last, lambda now: report(now.done, total))
        hashes = hashes_differing(found, manifest.require(cell.folder)) if whole else ()
        there, here = Rows.of(folder).until(last), again.until(last)
        differing = (*(own.sentence for own in differences_of(there, here)), *hashes)
    return Verdict(last, found.updates, len(there), differing, _elsewhere(found, switches))


def _complete(folder: Path) -> Manifest:
    found = manifest.require(folder)
    if not found.status.ended:
        raise UserError(f"{folder} is not complete, so there is nothing to compare with yet; finish the run first")
    verify_files(found, folder)
    return found


def _require_same(found: Manifest, parts: Parts, folder: Path) -> None:
    if found.inputs != parts.inputs:
        differing = "; ".join(differences(found.inputs.model_dump(), parts.inputs.model_dump()))
        raise UserError(
            f"{folder} started from other weights or data than are here ({differing}); to verify it, check out commit "
            f"{found.git_commit} and bring its data"
        )


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder in the cache that goes when all is compared; another commit's or an edited source's is not gone on
    with."""
    commit, dirty = manifest.source_commit()
    place = places.cache_root(os.environ) / _FOLDER / f"{name}-{str(commit)[:12]}"
    if dirty is not False:
        shutil.rmtree(place, ignore_errors=True)
    files.make_folder(place)
    yield place
    shutil.rmtree(place)


def _made_again(
    cell: Cell, parts: Parts, switches: Determinism, last: int | None, report: Callable[[Report], None]
) -> Rows:
    """The first updates; None for the whole run, to where its rule stops it."""
    if last is not None:
        state = begin(cell, parts, switches, last, report)
        return Rows(state.episodes, state.updates)
    train(cell, parts, switches, report)
    return Rows.of(cell.folder)


def differences_of(there: Rows, here: Rows) -> Iterator[Difference]:
    """Of the episodes and of the updates: how many, and the first of each."""
    for kind, before, after in (("episode", there.episodes, here.episodes), ("update", there.updates, here.updates)):
        pairs = zip((asdict(row) for row in before), (asdict(row) for row in after), strict=False)
        unequal = [pair for pair in pairs if pair[0] != pair[1]]
        if len(before) != len(after):
            yield Difference(0, f"{len(before)} {kind}s there, {len(after)} here")
        if unequal:
            first, second = unequal[0]
            where = f"{len(unequal)} of {len(before)} {kind}s, first {_named(first)}"
            yield Difference(first["update"], f"{where}: {_leaf(first, second)}")


def _named(row: Mapping[str, Any]) -> str:
    who = f", {row['phase']} episode {row['trajectory']} of {row['task_id']}" if "task_id" in row else ""
    return f"at update {row['update']}{who}"


def _leaf(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    return "; ".join(differences(first, second))


def hashes_differing(there: Manifest, here: Manifest) -> tuple[str, ...]:
    """What else a whole run's manifest vouches for: tokens' credit, probes, last weights."""
    before, after = ({**own.files, "the last weights": own.final_weights_sha256} for own in (there, here))
    names = [name for name in (CREDITS, PROBES, "the last weights") if name in before and before[name] != after[name]]
    return tuple(f"{name}: sha256 {str(before[name])[:12]} there, {str(after[name])[:12]} here" for name in names)


def _elsewhere(found: Manifest, switches: Determinism) -> tuple[str, ...]:
    before = {"versions": found.versions, "determinism": found.determinism, "processes": found.processes}
    after = {"versions": manifest.versions(), "determinism": switches.dump(), "processes": {}}
    return tuple(differences(before, after))
