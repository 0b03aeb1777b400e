"""How long a run takes at most: worked out by hand for one spec, and in the right order for others."""

import json
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.setup.settings import with_settings
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.study.hours import Rates, hours_of
from tests.harness.hub import random_qwen

SIZES = {"layers": 10, "hidden": 100, "intermediate": 400, "vocabulary": 1000}
SHAPE = ModelShape(10**9, **SIZES, bytes_per_token=10**4, linear_ends=10**5)
RATES = Rates(flops=1e14, bandwidth=1e12)
SPEC = with_settings(
    RunSpec(updates=36),
    [
        *("rollout.tasks=5", "rollout.group=2", "rollout.max_turns=10", "rollout.max_response_tokens=100"),
        *("rollout.max_context_tokens=1000", "evaluation.size=20", "evaluation.every=36"),
    ],
)


def test_hours_are_those_worked_out_by_hand() -> None:
    """Ten transcripts of 1,000 tokens an update: 2e13 operations for a pass without a gradient, 0.2 s.

    A thousand tokens are drawn one after the other; each reads 2e9 bytes of weights and 1e8 of keys and values, 2.1 ms.
    """
    hours = hours_of(SPEC, SHAPE, RATES)
    assert hours.rollouts == pytest.approx(36 * (0.2 + 2.1) / 3600)
    assert hours.credit == pytest.approx(36 * 0.2 / 3600)
    assert hours.updates == pytest.approx(36 * 0.6 / 3600)
    assert hours.evaluations == pytest.approx((2 * 20 * 1e3 * 1e9 * 2 / 1e14 + 1000 * (2e9 + 40 * 1e7) / 1e12) / 3600)


@pytest.mark.parametrize(
    ("setting", "part", "times"),
    [
        ("rollout.window=2", "updates", 10),
        ("optim.epochs=3", "updates", 3),
        ("optim.recompute=true", "updates", 8 / 6),
        ("objective.kl=0.1", "updates", 8 / 6),
        ("updates=72", "credit", 2),
    ],
)
def test_what_costs_more_takes_longer(setting: str, part: str, times: float) -> None:
    before, after = (hours_of(spec, SHAPE, RATES) for spec in (SPEC, with_settings(SPEC, [setting])))
    assert getattr(after, part) == pytest.approx(times * getattr(before, part))


def test_doctor_says_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_qwen(300).save_pretrained(tmp_path)
    asked = ["doctor", "--model", str(tmp_path), "--json"]
    assert run([*asked, "--tflops", "200"]) == 0
    slow = json.loads(capsys.readouterr().out)["hours"]
    assert run(asked) == 0
    fast = json.loads(capsys.readouterr().out)["hours"]
    assert slow["updates"] == pytest.approx(2 * fast["updates"])
    assert run([*asked, "--processes", "8"]) == 0
    shared = json.loads(capsys.readouterr().out)["hours"]
    assert (shared["updates"] < fast["updates"], shared["credit"]) == (True, fast["credit"])
