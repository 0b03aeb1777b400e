"""The rules on collapse and divergence, worked out by hand, and as laws."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.paper.ailments import health_tables
from stepcredit.paper.health import PATIENCE, Condition, Spell, Vitals, limited_share, notes, ongoing, sentences
from stepcredit.paper.results import load_study
from tests.paper.support import save_manifest, write_study

WELL = Vitals(
    0, taught=True, entropy=1.0, kl=0.01, loss=-0.1, grad_norm=0.2, success=0.5, invalid_rate=0.1, limited=0.5
)
ILL = {
    Condition.ENTROPY: replace(WELL, entropy=0.0999),
    Condition.SUCCESS: replace(WELL, success=0.0),
    Condition.INVALID: replace(WELL, invalid_rate=0.9),
    Condition.CUT: replace(WELL, limited=1.0),
    Condition.UNTAUGHT: replace(WELL, taught=False, entropy=0.0, kl=0.0, grad_norm=0.0),
}
ALMOST = (
    replace(WELL, entropy=0.1),
    replace(WELL, success=0.01),
    replace(WELL, invalid_rate=0.89),
    replace(WELL, limited=0.99),
    replace(WELL, kl=0.5),
    replace(WELL, taught=False, success=1.0, entropy=0.0),
)


def course(*parts: tuple[Vitals, int]) -> list[Vitals]:
    """So many updates of each, in order."""
    every = [own for own, times in parts for _ in range(times)]
    return [replace(own, update=number) for number, own in enumerate(every)]


@pytest.mark.parametrize("condition", ILL)
def test_what_holds_for_five_updates_is_noted_and_until_when(condition: Condition) -> None:
    ill = ILL[condition]
    assert notes(course((WELL, 3), (ill, 4), (WELL, 2), (ill, 3))) == []
    assert notes(course((WELL, 3), (ill, 5), (WELL, 1))) == [Spell(condition, 3, 7, 5, open=False)]
    assert notes(course((WELL, 1), (ill, 9))) == [Spell(condition, 1, 9, 9, open=True)]


@pytest.mark.parametrize("almost", ALMOST)
def test_what_is_almost_there_is_not(almost: Vitals) -> None:
    assert notes(course((WELL, 1), (almost, 20))) == []


@pytest.mark.parametrize(
    ("condition", "bad"),
    [
        (Condition.KL, {"kl": 0.51}),
        (Condition.NOT_FINITE, {"loss": math.nan}),
        (Condition.NOT_FINITE, {"entropy": math.inf}),
    ],
)
def test_a_blow_is_noted_at_once(condition: Condition, bad: dict[str, float]) -> None:
    blow = replace(WELL, **bad)  # type: ignore[arg-type]
    assert [(own.condition, own.first, own.updates) for own in notes(course((WELL, 2), (blow, 1), (WELL, 5)))] == [
        (condition, 2, 1)
    ]


@pytest.mark.parametrize("condition", [Condition.SUCCESS, Condition.CUT])
def test_what_never_was_is_no_loss(condition: Condition) -> None:
    """A policy that never succeeds has not collapsed."""
    assert notes(course((ILL[condition], 20))) == []


def test_an_update_that_taught_nothing_measured_no_entropy() -> None:
    """Its row says 0; it neither makes a collapse nor ends one."""
    low, idle = ILL[Condition.ENTROPY], replace(ILL[Condition.UNTAUGHT], success=1.0)
    assert notes(course((WELL, 1), (idle, 10))) == []
    assert notes(course((idle, 1), (WELL, 1), (low, 3), (idle, 2), (low, 2))) == [
        Spell(Condition.ENTROPY, 2, 8, 5, open=True)
    ]


def test_conditions_of_the_same_updates_are_one_sentence() -> None:
    dead = replace(WELL, success=0.0, limited=1.0)
    told = sentences(notes(course((WELL, 2), (dead, 6), (WELL, 1), (replace(WELL, kl=3.0), 1))))
    assert told == [
        "no success any more and every episode cut at a limit from update 2 to 7",
        "KL of an update above 0.5 nats a token in update 9",
    ]


def test_runs_of_earlier_versions_lack_numbers() -> None:
    assert notes([Vitals(number, taught=True, entropy=0.5, kl=0.0) for number in range(9)]) == []


def test_limits_are_those_of_turns_and_tokens() -> None:
    assert limited_share(["turn_limit", "context_limit", "success", "failure"]) == 0.5


ANY = st.lists(st.sampled_from([WELL, *ILL.values()]), max_size=30).map(lambda own: course(*((one, 1) for one in own)))


@given(ANY, st.sampled_from([*ILL]), st.integers(1, 8))
def test_a_rule_holds_where_the_last_so_many_updates_do(vitals: Sequence[Vitals], condition: Condition, n: int) -> None:
    """Worked out again from the end: of the measured updates the last n are ill, and a first one before them was not
    where a loss is meant."""
    lost = condition in (Condition.SUCCESS, Condition.CUT)
    seen = [own for own in vitals if own.taught or condition is not Condition.ENTROPY]
    ill = [replace(own, update=0) == ILL[condition] for own in seen]
    start = ill.index(False) if False in ill else len(ill)
    long_enough = len(ill) >= n and all(ill[-n:]) and not (lost and start > len(ill) - n)
    if condition is Condition.ENTROPY and ill[:1] == [True]:
        long_enough = False  # the start is low itself, and nothing is a tenth of it
    assert (ongoing(vitals, [condition], n) is not None) == long_enough


@given(ANY)
def test_notes_are_the_rules_own_words(vitals: Sequence[Vitals]) -> None:
    """Whatever lasts to the end of a run would have stopped it."""
    lasting = [spell for spell in notes(vitals) if spell.open]
    assert all(ongoing(vitals, [spell.condition], PATIENCE) == spell for spell in lasting)


def test_a_report_has_a_row_for_each_run_that_collapsed(tmp_path: Path) -> None:
    """Entropy falls from 0.6 by a factor e every four updates: under a tenth of it from the tenth on."""
    write_study(tmp_path, ("grpo", "opd"), seeds=1, updates=20)
    assert health_tables([(run.cell, run) for run in load_study(tmp_path).runs]) == []
    folder = tmp_path / "alfworld-mini-tiny-opd-s0"
    rows = pd.read_parquet(folder / "updates.parquet").assign(entropy=0.6 * np.exp(-np.arange(20) / 4))
    rows.to_parquet(folder / "updates.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["updates.parquet"] = hashlib.sha256((folder / "updates.parquet").read_bytes()).hexdigest()
    save_manifest(folder, manifest)
    (table,) = health_tables([(run.cell, run) for run in load_study(tmp_path).runs])
    assert table.rows == ((folder.name, "entropy below a tenth of its start from update 10 to the end"),)
    assert table.notes[0].startswith("1 of 2 runs; ")
