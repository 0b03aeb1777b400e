"""The policy that has had the second lesson: it plays as before, and uses what it is shown."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.harness.cli.app import run
from stepcredit.harness.model import presets
from stepcredit.harness.model.policy import load_policy, weights_sha256
from stepcredit.harness.warmstart.household import BLIND, HouseholdCourse
from stepcredit.harness.warmstart.search import SearchCourse

POLICIES = Path(presets.__file__).parents[1] / "policies"


def test_the_shipped_reader_is_the_specs_and_plays_with_room_to_learn() -> None:
    """The bounds are those that a teacher has to keep: at most 10% and 25% invalid, 85% with a true block."""
    manifest = json.loads((POLICIES / "tiny" / "manifest.json").read_text())
    assert manifest["spec"] == json.loads(json.dumps(asdict(HouseholdCourse().spec)))
    assert manifest["command"] == HouseholdCourse().command == "stepcredit warmstart --out FOLDER"
    policy = load_policy("tiny", load_benchmark("alfworld", "mini", {}), "cpu")
    assert manifest["weights_sha256"] == weights_sha256(policy.model)
    none, true, foreign = (row for row in manifest["measured"] if row["suite"] == "mini")
    assert 0.4 <= none["success"] <= 0.6
    assert (true["success"] >= 0.85, true["invalid"] <= 0.1) == (True, True)
    assert (foreign["success"] >= 0.3, foreign["invalid"] <= 0.25) == (True, True)
    before_action = manifest["reads"][0]
    assert before_action["beyond"]["low"] > 0.0 > before_action["other"]["high"]
    assert before_action["straight"]["low"] > 0.0
    before_response = manifest["reads"][1]
    assert before_response["beyond"]["low"] > 0.0
    assert abs(before_response["placebo"]["value"]) < 0.1


def test_searchqas_reader_is_the_specs_and_takes_what_it_is_told() -> None:
    """It answers as a block says, and searches all the same: a block says little of what searches are worth."""
    manifest = json.loads((POLICIES / "tiny-searchqa" / "manifest.json").read_text())
    assert manifest["spec"] == json.loads(json.dumps(asdict(SearchCourse().spec)))
    assert manifest["command"] == SearchCourse().command == "stepcredit warmstart --benchmark searchqa --out FOLDER"
    policy = load_policy("tiny", load_benchmark("searchqa", "synthetic", {}), "cpu")
    assert manifest["weights_sha256"] == weights_sha256(policy.model)
    none, true, foreign = manifest["measured"]
    assert 0.4 <= none["success"] <= 0.6
    assert (true["success"] >= 0.85, true["invalid"] <= 0.1) == (True, True)
    assert (foreign["success"] >= 0.3, foreign["invalid"] <= 0.25) == (True, True)
    assert all(place["other"]["high"] < place["straight"]["low"] for place in manifest["reads"])


def test_a_policy_that_cannot_read_is_alfworlds_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--benchmark", "searchqa"], ["--model", "smollm2-135m"]):
        assert run(["warmstart", "--blind", "--out", str(tmp_path / "policy"), *words]) == 2
        assert "--blind is for" in capsys.readouterr().err
    manifest = json.loads((POLICIES / "tiny-blind" / "manifest.json").read_text())
    assert manifest["command"] == HouseholdCourse(BLIND).command == "stepcredit warmstart --blind --out FOLDER"
