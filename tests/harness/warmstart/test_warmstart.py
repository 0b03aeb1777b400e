"""The warm start: what demonstrations show, that cloning learns and repeats to the bit, that folders are checked."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.searcher import Skill, plausible_homes
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy, load_directory, weights_sha256
from stepcredit.harness.warmstart.build import build, save
from stepcredit.harness.warmstart.cloning import CloningSpec, CloningStep
from stepcredit.harness.warmstart.demonstrations import Demonstration, DemonstrationSpec, Demonstrator
from stepcredit.harness.warmstart.household import HouseholdCourse, WarmstartSpec
from stepcredit.harness.warmstart.reading import ReadingSpec
from tests.harness.support import TURNS

READING = ReadingSpec(games=1, group=2, cloning=CloningSpec(steps=2, batch=2))
SPEC = replace(WarmstartSpec(), hidden=64, layers=1, cloning=replace(CloningSpec(), steps=30), reading=READING)
HOMES = plausible_homes(load_assets().fits)


@pytest.fixture(scope="module")
def trained() -> tuple[Policy, list[CloningStep]]:
    steps: list[CloningStep] = []
    return build(HouseholdCourse(SPEC), steps.append), steps


def _maker(subset: Subset, index: int) -> Callable[[], AlfworldEnv]:
    drawn = generate("mini", "train", subset, index)
    return partial(AlfworldEnv, Game.from_pddl(drawn.problem, drawn.task))


def _demonstrate(policy: Policy, spec: DemonstrationSpec, count: int) -> list[Demonstration]:
    demonstrator = Demonstrator(spec, policy.transcript, HOMES)
    rng = random.Random(3)
    return [
        demonstration
        for index in range(count)
        for demonstration in demonstrator.demonstrations(_maker(Subset.PICK, index), 1, rng)
    ]


def _text(policy: Policy, demonstration: Demonstration, imitated: bool) -> str:
    chosen = demonstration.token_ids[(demonstration.weights == 1.0) == imitated]
    return b"".join(policy.transcript.token_bytes(int(token)) for token in chosen).decode()


def test_only_the_expert_is_imitated(trained: tuple[Policy, list[CloningStep]]) -> None:
    policy, _ = trained
    plain = DemonstrationSpec(skill=Skill(), wrong=0.0, hinted=0.0, max_turns=60)
    for demonstration in _demonstrate(policy, plain, 5):
        assert "You " not in _text(policy, demonstration, imitated=True)
        assert "<action>" not in _text(policy, demonstration, imitated=False)
        assert _text(policy, demonstration, imitated=True).count("<think>") >= 3


def test_wrong_commands_are_shown_and_not_imitated(trained: tuple[Policy, list[CloningStep]]) -> None:
    policy, _ = trained
    for demonstration in _demonstrate(policy, DemonstrationSpec(wrong=1.0, again=1.0, hinted=0.0), 5):
        assert not (demonstration.weights == 1.0).any()
        assert "Nothing happens." in _text(policy, demonstration, imitated=False)


def test_a_hint_stands_before_a_response_and_weighs_nothing(trained: tuple[Policy, list[CloningStep]]) -> None:
    policy, _ = trained
    marker, suffix = policy.transcript.hindsight("")[0], policy.transcript.generation_suffix[0]
    for demonstration in _demonstrate(policy, DemonstrationSpec(hinted=1.0, max_turns=60), 5):
        places = (demonstration.token_ids == marker).nonzero()[0]
        assert len(places) == 1
        end = places[0] + (demonstration.token_ids[places[0] :] == suffix).nonzero()[0][0]
        assert not demonstration.weights[places[0] : end + 1].any()
        hint = demonstration.token_ids[places[0] : end]
        assert b"take" in b"".join(policy.transcript.token_bytes(int(token)) for token in hint)


def test_cloning_learns(trained: tuple[Policy, list[CloningStep]]) -> None:
    _, steps = trained
    assert [step.step for step in steps] == list(range(32))
    assert steps[29].loss < steps[0].loss - 1.0


def test_the_same_spec_gives_the_same_bits() -> None:
    few = HouseholdCourse(replace(SPEC, cloning=replace(SPEC.cloning, steps=2)))
    assert weights_sha256(build(few, lambda _: None).model) == weights_sha256(build(few, lambda _: None).model)


def test_a_saved_policy_loads_to_the_same_policy(trained: tuple[Policy, list[CloningStep]], tmp_path: Path) -> None:
    policy, _ = trained
    save(HouseholdCourse(SPEC), policy, [], [], tmp_path)
    loaded = load_directory("tiny", tmp_path, TURNS)
    assert weights_sha256(loaded.model) == weights_sha256(policy.model)
    text = "You are in the middle of a room."
    assert loaded.transcript.first(text) == policy.transcript.first(text)
    ids = torch.tensor([policy.transcript.first(text)])
    assert torch.equal(loaded.model(ids).logits, policy.model(ids).logits)


def test_damaged_or_missing_weights_are_named(trained: tuple[Policy, list[CloningStep]], tmp_path: Path) -> None:
    policy, _ = trained
    save(HouseholdCourse(SPEC), policy, [], [], tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors has sha256 .*damaged"):
        load_directory("tiny", tmp_path, TURNS)
    weights.unlink()
    with pytest.raises(UserError, match=r"lacks model\.safetensors"):
        load_directory("tiny", tmp_path, TURNS)
