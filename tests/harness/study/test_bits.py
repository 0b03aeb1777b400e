"""`stepcredit determinism`: what is equal, what is not, and what this machine lacks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.study import bits
from stepcredit.harness.study.bits import chosen
from stepcredit.harness.study.conditions import conditions

README = Path(__file__).resolve().parents[3] / "harness" / "record" / "README.md"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_equal_bits_other_bits_and_what_is_not_measured(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [word for name in ("hash-seed", "token-budget", "versions") for word in ("--only", name)]
    assert run(["determinism", "--json", *asked]) == 0
    same, other, lacking = json.loads(capsys.readouterr().out)
    assert (same["promised"], same["equal_bits"], same["first_update"], same["details"]) == ("yes", "yes", None, [])
    assert (other["promised"], other["equal_bits"]) == ("no", "no")
    # Other micro-batches add up a gradient in another order: from the first update on, by what float32 rounds.
    assert other["first_update"] == 0
    assert 0.0 < float(other["largest_change_of_a_weight"]) < 1e-3
    assert any("the last weights: sha256" in sentence for sentence in other["details"])
    assert lacking["equal_bits"].startswith("not measured here: ")
    assert not list((cache / "verify").iterdir()), "nothing is left lying about"


def test_a_run_that_fails_is_no_missing_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(chosen(["hash-seed"])[0], program=("-c", "raise SystemExit('no such luck')"))
    monkeypatch.setattr(bits, "conditions", lambda: [broken])
    assert run(["determinism", "--json"]) == 1
    (failed,) = json.loads(capsys.readouterr().out)
    assert failed["equal_bits"] == "its run failed: condition hash-seed: no such luck"


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["determinism", "--only", "thread-2"]) == 2
    assert "unknown condition 'thread-2': did you mean 'threads-2'?" in capsys.readouterr().err


def test_the_readme_has_a_row_for_each_condition() -> None:
    printed = README.read_text(encoding="utf-8")
    assert [own.name for own in conditions() if f"| {own.what} | " not in printed] == []
    broken = [own.name for own in conditions() if own.promised and f"| {own.what} | yes | no |" in printed]
    assert broken == []
