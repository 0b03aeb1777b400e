"""From the command line's words to a spec, and back to a sentence where they are wrong."""

import pytest

from stepcredit.harness.errors import UserError
from stepcredit.harness.setup.settings import build_spec, known_settings
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import MethodError


def spec_of(*overrides: str, model: str = "tiny", method: str = "grpo") -> RunSpec:
    return build_spec(model=model, benchmark="alfworld", suite=None, method=method, seed=3, overrides=overrides)


def test_overrides_reach_their_section() -> None:
    sections = ("rollout.tasks=8", "optim.lr=1e-3", "evaluation.size=null", "evaluation.split=valid_seen")
    spec = spec_of("updates=7", *sections)
    assert (spec.updates, spec.rollout.tasks, spec.optim.lr) == (7, 8, 0.001)
    assert (spec.evaluation.size, spec.evaluation.split, spec.seed) == (None, "valid_seen", 3)


def test_preset_brings_its_own_settings() -> None:
    paper = spec_of("rollout.group=4", model="qwen2.5-3b")
    assert (paper.suite, paper.rollout.max_turns, paper.rollout.group) == ("real", 50, 4)
    assert spec_of().suite == "mini"


def test_method_options_are_complete_in_the_spec() -> None:
    spec = spec_of("method_options.alpha_clip=0.1", method="stepopsd")
    assert spec.method_options["alpha_clip"] == 0.1
    assert spec.method_options["lambda_mix"] == 0.2


def test_every_setting_changes_the_hash() -> None:
    assert len({spec_of(text).sha256 for text in ("updates=7", "updates=8", "optim.lr=0.1", "train_split=x")}) == 4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rollout.task=3", "did you mean 'rollout.tasks'"),
        ("seed=3", "unknown setting 'seed'"),
        ("rollout.tasks=0", "setting rollout.tasks: .*greater than or equal to 1, but the value is 0"),
        ("rollout.tasks=many", "setting rollout.tasks: .*but the value is 'many'"),
        ("optim.lr", "lacks a value"),
        ("rollout=3", "unknown setting 'rollout'"),
    ],
)
def test_wrong_settings_are_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        spec_of(text)
    assert "\n" not in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        spec_of(model="tinny")
    with pytest.raises(MethodError, match="did you mean 'stepopsd'"):
        spec_of(method="stepopds")
    with pytest.raises(MethodError, match="alpha"):
        spec_of("method_options.alpha=1", method="grpo")


def test_known_settings_are_the_leaves_of_the_spec() -> None:
    assert {"updates", "rollout.tasks", "optim.lr", "evaluation.size", "train_split"} <= set(known_settings())
    assert not {"model", "seed", "rollout", "method"} & set(known_settings())
