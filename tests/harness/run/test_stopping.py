"""Runs that collapse or diverge: recorded, said, stopped where their spec asks for it, and made again bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.errors import Diverged, UserError
from stepcredit.harness.record import files, manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import Manifest, Status
from stepcredit.harness.run import train
from stepcredit.harness.setup.settings import with_settings
from stepcredit.harness.spec import RunSpec, StopSpec
from stepcredit.paper.errors import PaperError
from stepcredit.paper.health import Condition
from stepcredit.paper.results import load_study
from tests.harness.cells import run_here, small_spec

BROKEN = small_spec("updates=6", "evaluation.every=6", "rollout.max_turns=8", "optim.lr=0.3", method="grpo")
"""Its first step throws the policy far away: no episode succeeds any more."""
STOPPED = with_settings(BROKEN, ["stop.after=2", "stop.on=success"])
DIVERGING = with_settings(BROKEN, ["optim.lr=1e8", "objective.kl=0.1", "updates=3"])
"""The distance from the start overflows in its second update."""


def trained(study: Path, spec: RunSpec) -> tuple[Path, Manifest]:
    run_here(study, spec.model_dump(mode="json"))
    folder = Cell(study, spec).folder
    return folder, manifest.require(folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("stopped"), STOPPED)[0]


def test_a_run_stops_where_its_rule_says_and_is_evaluated_there(stopped: Path) -> None:
    found = manifest.require(stopped)
    assert found.status is Status.STOPPED
    assert found.stopped is not None
    assert (found.stopped.update, found.stopped.condition) == (3, Condition.SUCCESS)
    assert found.stopped.reason == "no success any more, for 2 updates"
    assert found.updates == 3
    assert Cell(stopped.parent, STOPPED).ended()


def test_listings_and_verification_know_it(
    stopped: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path))
    assert run(["runs", str(stopped), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["status"], record["updates"]) == ("stopped", "3/6")
    # The step that broke the policy moved it by far more than a nat: that is told of at once.
    assert record["notes"] == (
        "stopped before its end: no success any more, for 2 updates; KL of an update above 0.5 nats a token in update 0"
    )
    assert run(["verify", str(stopped)]) == 0
    assert capsys.readouterr().out.startswith(
        "3 of 3 updates made again, 47 recorded rows and the last weights compared: equal"
    )
    assert run(["verify", str(stopped), "--updates", "2"]) == 0


def test_tables_leave_it_out_and_say_so(stopped: Path) -> None:
    with pytest.raises(PaperError, match="was stopped early after 3 of 6 updates: no success any more, for 2 updates"):
        load_study(stopped.parent)


def test_interrupted_in_its_last_evaluation_it_stops_with_the_same_bits(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, calls = train._evaluate, []

    def interrupted(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, STOPPED)
    _, again = trained(tmp_path, STOPPED)
    found = manifest.require(stopped)
    assert again.resumed_at == [3]
    assert (again.stopped, again.final_weights_sha256) == (found.stopped, found.final_weights_sha256)
    assert {n: h for n, h in again.files.items() if n != "timings.parquet"} == {
        n: h for n, h in found.files.items() if n != "timings.parquet"
    }


def test_without_a_rule_divergence_ends_the_command_and_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(
        Diverged, match=r"training diverged: the loss is .* and its gradient's norm nan; lower optim\.lr"
    ):
        trained(tmp_path, DIVERGING)
    found = manifest.require(Cell(tmp_path, DIVERGING).folder)
    assert found.status is Status.RUNNING
    assert found.diverged.endswith("and its gradient's norm nan in update 1")


def test_with_a_rule_divergence_is_a_stop(tmp_path: Path) -> None:
    folder, found = trained(tmp_path, with_settings(DIVERGING, ["stop.after=3"]))
    assert found.stopped is not None
    assert (found.stopped.update, found.stopped.condition) == (1, Condition.NOT_FINITE)
    assert found.stopped.reason.endswith("and its gradient's norm nan in update 1")
    assert files.sha256_of(folder / "updates.parquet") == found.files["updates.parquet"]
    assert not found.diverged


def test_a_rule_changes_no_hash_until_it_is_set() -> None:
    assert with_settings(BROKEN, ["stop.after=null"]).sha256 == BROKEN.sha256
    both = [
        with_settings(BROKEN, ["stop.after=3", f"stop.on={names}"]) for names in ("cut,entropy", '["entropy","cut"]')
    ]
    assert both[0].sha256 == both[1].sha256 != BROKEN.sha256
    assert StopSpec(after=3).conditions == tuple(Condition)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (["stop.on=cut"], "stop.on has no effect without stop.after"),
        (["stop.after=3", "stop.on=[]"], "stop.on names no condition"),
        (["stop.after=0"], "setting stop.after: input should be greater than or equal to 1"),
        (["stop.after=3", "stop.on=collapse"], "setting stop.on.0: input should be 'not_finite', 'entropy', "),
    ],
)
def test_a_rule_without_effect_or_sense_is_refused(setting: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace(".", r"\.").replace("[", r"\[")):
        with_settings(BROKEN, setting)
