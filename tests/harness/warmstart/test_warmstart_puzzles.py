"""The diagnostic benchmark's warm start, and what the policy that it ships can do."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.envs.diagnostic.puzzles import Puzzle
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.model import presets
from stepcredit.harness.model.policy import Policy, load_policy, weights_sha256
from stepcredit.harness.warmstart.build import build, course_of
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration
from stepcredit.harness.warmstart.puzzles import PuzzleCourse, PuzzleExpert, PuzzleTutor, PuzzleWarmstartSpec
from stepcredit.harness.warmstart.reading import ReadingSpec
from stepcredit.harness.warmstart.understanding import Understanding, understand

FOLDER = Path(presets.__file__).parents[1] / "policies" / "tiny-diagnostic"
SMALL = replace(
    PuzzleWarmstartSpec(),
    layers=1,
    hidden=64,
    cloning=CloningSpec(steps=20, batch=4),
    reading=ReadingSpec(games=5, cloning=CloningSpec(steps=2, batch=2)),
)


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return load_policy("tiny", load_benchmark("diagnostic", "critical_step", {}), "cpu")


def read(policy: Policy, demonstration: Demonstration, *, imitated: bool) -> str:
    tokens = demonstration.token_ids[(demonstration.weights == 1.0) == imitated]
    return b"".join(policy.transcript.token_bytes(int(token)) for token in tokens).decode()


def test_equal_specs_give_equal_bits() -> None:
    one, other = (build(PuzzleCourse(SMALL), lambda _: None) for _ in range(2))
    assert weights_sha256(one.model) == weights_sha256(other.model)


def test_the_shipped_policy_is_the_specs(shipped: Policy) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert manifest["spec"] == json.loads(json.dumps(asdict(PuzzleWarmstartSpec())))
    assert manifest["weights_sha256"] == weights_sha256(shipped.model)
    success = {(row["suite"], row["hindsight"]): row["success"] for row in manifest["measured"]}
    for puzzle in Puzzle:
        assert 0.2 < success[puzzle, "none"] < 0.7, "there is room to learn"
    for place in manifest["reads"]:
        assert place["straight"]["low"] > 0.0 > place["other"]["high"]
        assert place["beyond"]["low"] > 0.0
        assert place["foreign"]["low"] < 0.0 < place["foreign"]["high"], "a placebo says nothing of the truth"
    for puzzle in ("critical_step", "delayed_key"):
        assert success[puzzle, "true"] > success[puzzle, "none"] + 0.3


def test_only_the_expert_is_imitated(shipped: Policy) -> None:
    course = PuzzleCourse(replace(PuzzleWarmstartSpec(), wrong=0.3, hinted=0.0))
    (demonstrations,) = course.streams(shipped)
    for _ in range(10):
        shown = next(demonstrations)
        assert "You " not in read(shipped, shown, imitated=True)
        assert "Your task is to:" in read(shipped, shown, imitated=False)


def test_an_expert_has_habits_and_is_told() -> None:
    """Told an episode's actions it mostly takes them; told another task's, which are not possible, its own."""
    process = load_benchmark("diagnostic", "critical_step").process("test-001")  # type: ignore[attr-defined]
    told = [f"open {process.colours[0]} door"] * 5
    tutor = PuzzleTutor(process, Puzzle.CRITICAL_STEP, 0.85, random.Random(0))
    followed = [tutor.answer(told)[1] == f"<action>{told[0]}</action>" for _ in range(400)]
    assert 0.82 < sum(followed) / 400 < 0.97
    strange = [tutor.answer(["open silver door"])[1] == f"<action>{told[0]}</action>" for _ in range(400)]
    assert 0.15 < sum(strange) / 400 < 0.5
    expert = PuzzleExpert(process, Puzzle.CRITICAL_STEP, random.Random(0))
    assert expert.best((process.critical, 1)) == f"open {process.way_out} door"


def test_the_shipped_policy_understands_what_it_reads(shipped: Policy) -> None:
    """What leads straight to what a peer did is likelier with the peer's block, all else less so."""
    course = PuzzleCourse()
    benchmark, panel = course.held_out()
    action, response = understand(Player.of(shipped, benchmark), panel, 10, course.limits, course.tutor)
    for found in (action, response):
        assert isinstance(found, Understanding)
        assert found.straight.low > 0.0 > found.other.high
        assert found.beyond.value > 0.0
        assert found.straight.count + found.other.count == found.placebo.count


def test_warm_starts_are_found_by_name() -> None:
    course = course_of("diagnostic")
    assert (course.command, course.spec) == (
        "stepcredit warmstart --benchmark diagnostic --out FOLDER",
        PuzzleWarmstartSpec(),
    )
