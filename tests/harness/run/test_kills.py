"""Killed at any line, a command that is called again ends in equal bits, and makes nothing again that was finished.

STEPCREDIT_KILLS is how many moments are drawn (`make kills`: 200); without it some few are.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.setup.settings import build_spec
from tests.harness.cells import bits, reached
from tests.harness.commands import Moment, Part, Victim, command

KILLS = int(os.environ.get("STEPCREDIT_KILLS", "6"))
SETTINGS = (
    *("updates=2", "checkpoint_every=1", "rollout.tasks=3", "rollout.group=4"),
    *("evaluation.size=4", "evaluation.samples=1", "evaluation.every=2"),
)
TRAIN = (
    *("train", "--benchmark", "diagnostic", "--method", "stepopsd", "--out", "study"),
    *(word for setting in SETTINGS for word in ("--set", setting)),
)
SEEDS = {Victim.WORKER: (0,), Victim.PARENT: (0, 1)}
PARTS = (*(part for part in Part if part is not Part.REST), Part.REST)
TOLD = {
    Victim.WORKER: (2, "was killed by SIGKILL (out of memory, perhaps: try --jobs 1); run the same command again"),
    Victim.PARENT: (-9, ""),
}


@dataclass
class Tally:
    """Of the moments in one part."""

    kills: Counter[Victim] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)
    made_again: int = 0


def test_killed_commands_end_in_equal_bits_and_make_nothing_again(tmp_path: Path) -> None:
    expected, counts = undisturbed(tmp_path)
    tallies = {part: Tally() for part in PARTS}
    for number, moment in enumerate(drawn(counts, KILLS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        survive(folder, moment, expected, tallies[moment.part])
        told = f"{number + 1} of {KILLS}: the {moment.victim} in line {moment.nth} of {moment.part}"
        print(told, *tallies[moment.part].differing, flush=True)
    print(table(tallies, counts))
    assert not [difference for tally in tallies.values() for difference in tally.differing]
    assert not sum(tally.made_again for tally in tallies.values())


def words(victim: Victim) -> list[str]:
    return [*TRAIN, *(word for seed in SEEDS[victim] for word in ("--seed", str(seed)))]


def cells(folder: Path, victim: Victim) -> list[Cell]:
    specs = [
        build_spec(model="tiny", benchmark="diagnostic", suite=None, method="stepopsd", seed=seed, overrides=SETTINGS)
        for seed in SEEDS[victim]
    ]
    return [Cell(folder / "study", spec) for spec in specs]


def undisturbed(folder: Path) -> tuple[Mapping[str, object], Mapping[Part, int]]:
    """The bits of runs by their names, and how many lines a worker comes to."""
    ended = command(folder, *words(Victim.PARENT), counts=folder / "counts.json")
    assert ended.code == 0, ended.said
    counts = json.loads((folder / "counts.json").read_text())
    expected = {cell.name: bits(cell) for cell in cells(folder, Victim.PARENT)}
    return expected, {part: counts[part] for part in PARTS}


def drawn(counts: Mapping[Part, int], kills: int) -> list[Moment]:
    """Each part in its turn; every fourth kill is the parent's, which has two workers."""
    rng = random.Random("stepcredit:kills")
    victims = cycle((Victim.WORKER, Victim.WORKER, Victim.WORKER, Victim.PARENT))
    return [
        Moment(part, rng.randint(1, counts[part]), victim)
        for part, victim in islice(zip(cycle(PARTS), victims, strict=False), kills)
    ]


def survive(folder: Path, moment: Moment, expected: Mapping[str, object], tally: Tally) -> None:
    killed = command(folder, *words(moment.victim), moment=moment)
    code, sentence = TOLD[moment.victim]
    assert (killed.code, sentence in killed.said) == (code, True), f"{moment}: {killed}"
    asked = cells(folder, moment.victim)
    before = {cell.name: finished(cell) for cell in asked}
    again = command(folder, *words(moment.victim))
    assert again.code == 0, f"{moment}: {again}"
    tally.kills[moment.victim] += 1
    for cell in asked:
        found = bits(cell)
        tally.differing += [
            f"{moment}: {cell.name}: {name}" for name, value in expected[cell.name].items() if found[name] != value
        ]
        tally.made_again += made_again(cell, before[cell.name])
    assert not list(folder.rglob("*.tmp")), moment


def finished(cell: Cell) -> tuple[int, Mapping[Path, int]]:
    """The update that is safe, and when each file of a complete run was written."""
    times = {path: path.stat().st_mtime_ns for path in cell.folder.glob("*.*")} if cell.ended() else {}
    return reached(cell), times


def made_again(cell: Cell, before: tuple[int, Mapping[Path, int]]) -> int:
    """Updates, or files of a complete run."""
    update, times = before
    if times:
        return sum(path.stat().st_mtime_ns != time for path, time in times.items())
    found = manifest.read(cell.folder)
    assert found is not None
    return update - max((resumed for resumed in found.resumed_at), default=-1)


def table(tallies: Mapping[Part, Tally], counts: Mapping[Part, int]) -> str:
    rows: Sequence[tuple[object, ...]] = [
        ("part", "lines", "worker killed", "parent killed", "differences", "made again"),
        *(
            (part, counts[part], *(own.kills[victim] for victim in Victim), len(own.differing), own.made_again)
            for part, own in tallies.items()
        ),
    ]
    return "\n" + "\n".join("".join(f"{value!s:>14}" for value in row) for row in rows)
