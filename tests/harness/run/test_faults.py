"""Whatever call fails while a run works, it says so in a sentence, and the next call of the command gives equal bits.

STEPCREDIT_FAULTS=all tries every one, a number each so manyth (`make faults`: 29), and without it one of each call is
tried. Interrupted calls (EINTR) are taken up again by Python itself (PEP 475).
"""

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from stepcredit.harness.record import manifest
from stepcredit.harness.record.cell import Cell
from tests.harness.cells import bits, reached
from tests.harness.faults import SPEC, Call, Fault, faults, run_with

HARMLESS = {Call.REMOVE, Call.MKDIR}  # what is to be deleted may be gone; a folder that is there needs no making
SHARE = os.environ.get("STEPCREDIT_FAULTS", "few")


def test_every_fault_is_survived(tmp_path: Path) -> None:
    undisturbed = run_with(tmp_path / "undisturbed")
    assert undisturbed.ended
    expected = bits(Cell(tmp_path / "undisturbed", SPEC))
    tried, differing = Counter[Call](), []
    asked = chosen(faults(undisturbed.calls))
    assert {fault.call for fault in faults(undisturbed.calls)} == set(Call)
    for fault in asked:
        study = tmp_path / f"{fault.call}-{fault.nth}-{fault.number}"
        differing += survive(study, fault, expected)
        shutil.rmtree(study)
        tried[fault.call] += 1
        print(f"{tried.total()} of {len(asked)}: {fault.call} {fault.nth}", *differing, flush=True)
    print(table(undisturbed.calls, tried))
    assert not differing


def table(calls: Mapping[Call, int], tried: Mapping[Call, int]) -> str:
    rows = [("call", "made by a run", "faults tried"), *((call, calls[call], tried[call]) for call in Call)]
    return "\n" + "\n".join("".join(f"{value!s:>15}" for value in row) for row in rows)


def chosen(every: list[Fault]) -> list[Fault]:
    """All, each so manyth, or the middle one of each call."""
    if SHARE == "few":
        by_call = [[fault for fault in every if fault.call is call] for call in Call]
        return [own[len(own) // 2] for own in by_call]
    return every if SHARE == "all" else every[:: int(SHARE)]


def survive(study: Path, fault: Fault, expected: Mapping[str, object]) -> list[str]:
    """What differs in the end."""
    broken = run_with(study, fault)
    assert broken.ended or (broken.said and "\n" not in broken.said), f"{fault}: {broken.said}"
    if broken.ended:
        assert fault.call in HARMLESS, f"{fault} went unnoticed"
    cell = Cell(study, SPEC)
    before, complete = reached(cell), cell.ended()
    again = run_with(study)
    assert again.ended, f"{fault}: {again.said}"
    found = manifest.read(cell.folder)
    assert found is not None
    assert complete or before in (-1, *found.resumed_at), f"{fault}: update {before} was reached, and made again"
    assert not list(study.rglob("*.tmp")), fault
    return [f"{fault}: {name}" for name, value in bits(cell).items() if expected[name] != value]
