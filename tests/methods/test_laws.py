"""Every registered method keeps to the laws of its traits; and laws that only some of our methods have."""

from itertools import cycle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.methods.advantages import advantages_of
from stepcredit.methods.checks import require_valid
from stepcredit.methods.contract import Credit, Group, Method
from stepcredit.methods.laws import Law, laws_of
from stepcredit.methods.registry import METHODS, build, registered
from tests.methods.support import HashRescorer, groups, one_word_group, random_group

TAUGHT = ("stepopsd", "opd", "rlsd", "sdar", "agentopsd")
# Traits are of the defaults: scrambled gaps come from later tokens too, an empty block is there without a success, and
# a contrast has two teachers.
CONTROLS = (*("empty", "failed_peer", "foreign", "shuffled", "scrambled_gap", "peer_any", "without_task", "self"),)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("grpo", {"std": False}),
    ("opd", {"base": "grpo", "weight": 0.5}),
    ("opd", {"teacher": "stale", "hindsight_text": "full"}),
    ("stepopsd", {"weight": "exp", "budget": False, "lambda_mix": 1.0, "alpha_clip": 0.99}),
    ("stepopsd", {"teacher": "live_actor", "student": "rollout_old_log_prob", "outcome_line": True}),
    ("stepopsd", {"target": "clean_step_no_observation", "hindsight_text": "full"}),
    ("stepopsd", {"hindsight": "none", "lambda_mix": 0.5}),
    ("stepopsd", {"hindsight": "golden_rollout", "target": "answer_only"}),
    ("stepopsd", {"target": "final_answer_only", "lambda_mix": 1.0}),
    ("opd", {"teacher": "checkpoint", "checkpoint": "another"}),
    ("rlsd", {"lambda_mix": 1.0, "clip": 0.99}),
    ("sdar", {"beta": 100.0, "hindsight_text": "full"}),
    ("agentopsd", {"lambda_mix": 1.0, "b": 0.9, "gamma": 0.0}),
    ("gigpo", {"anchor": "state", "std": False, "omega": 3.0}),
    ("vineppo", {"continuations": 1}),
    ("rlsd_ectr", {"lambda_mix": 1.0, "hindsight_text": "full", "decay_updates": None}),
    ("rlcsd", {"tau": 0.02, "beta": 1.0, "largest": 2.0, "wrong": 1, "hindsight_text": "full"}),
    ("rlsd", {"teacher": "initial", "decay_updates": None}),
    ("opd", {"teacher": "ema", "divergence": "jsd", "top_k": 3}),
    ("opd", {"teacher": "live", "divergence": "forward_kl", "entry_clip": 0.05, "base": "grpo"}),
    ("opd", {"divergence": "reverse_kl", "teacher": "stale", "refresh": 3}),
    ("sdar", {"lambda_distill": 0.5, "outcome_line": True}),
    ("sdar", {"rows": True}),
    ("agentopsd", {"gamma": 1.0, "least_prior": 1e-4, "belief_eps": 1e-6, "hindsight": "golden_rollout"}),
    ("gigpo", {"similarity": 0.9, "rows": True}),
    ("vineppo", {"whiten": True}),
    ("grpo", {"rows": True}),
    ("stepopsd", {"taught": "all", "block": "response", "tags": False}),
    ("stepopsd", {"hindsight": "outcome", "weight": "exp"}),
    *((name, {"hindsight": arm}) for name, arm in zip(cycle(TAUGHT), CONTROLS, strict=False)),
    ("stepopsd", {"hindsight": "skills", "skills": "texts", "target": "clean_step_no_observation"}),
]
CASES = [*((name, {}) for name in registered()), *VARIANTS]
FEW = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("law", [law for case in CASES for law in laws_of(*case)], ids=str)
def test_law(law: Law) -> None:
    law.check()


def credit_of(method: Method, group: Group, rescore: HashRescorer | None = None, update: int = 0) -> list[Credit]:
    credits = method.credit(group, rescore or HashRescorer(), update)
    require_valid(method, group, credits)
    return credits


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(outcomes=st.lists(st.sampled_from([(True, 1.0), (False, 0.0)]), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_our_methods_ask_the_rescorer_once(name: str, outcomes: list[tuple[bool, float]], seed: int) -> None:
    """One call is one pass over the model: two would read each transcript twice."""
    method, rescore = build(name, {}), HashRescorer()
    credit_of(method, random_group(outcomes, seed, method.needs), rescore)
    assert len(rescore.calls) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_ours_names_its_source_and_explains_its_options(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.paper
    assert method.__doc__
    assert "=" in method.__doc__, "the class docstring gives the formula"
    undocumented = [option for option, field in method.Config.model_fields.items() if not field.description]
    assert undocumented == []


@pytest.mark.parametrize(
    ("name", "options", "update"),
    [
        ("stepopsd", {"lambda_mix": 0.0}, 0),
        ("stepopsd", {}, 50),
        ("stepopsd", {"decay_updates": 3}, 3),
        ("stepopsd", {"diagnose_after_decay": True}, 50),
        ("opd", {"base": "grpo", "weight": 0.0}, 0),
    ],
)
@FEW
@given(group=groups)
def test_without_its_share_a_method_is_grpo_to_the_bit(
    name: str, options: dict[str, Any], update: int, group: Group
) -> None:
    rescore = HashRescorer()
    credits = credit_of(build(name, options), group, rescore, update)
    for credit, grpo in zip(credits, credit_of(build("grpo", {}), group), strict=True):
        assert torch.equal(credit.advantage_T, grpo.advantage_T)
    assert not rescore.calls or options.get("diagnose_after_decay")


def test_after_decay_the_teacher_is_heard_only_for_diagnostics() -> None:
    group, numbers = one_word_group(True, False, True), []
    for options in ({}, {"diagnose_after_decay": True}):
        rescore = HashRescorer()
        numbers.append(credit_of(build("stepopsd", options), group, rescore, 50)[0].diagnostics)
        assert len(rescore.requests) == (6 if options else 0)
    assert numbers[0] == {"lambda_mix": 0.0, "taught_share": 0.0}
    assert numbers[1].keys() == {
        *numbers[0],
        "gap_mean_target",
        "gap_abs_target",
        "weight_clipped_share",
    }


def test_lambda_falls_in_a_straight_line() -> None:
    group, method = one_word_group(True, False), build("stepopsd", {"lambda_mix": 0.5, "decay_updates": 10})
    shares = [credit_of(method, group, update=update)[0].diagnostics["lambda_mix"] for update in range(13)]
    assert shares == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("name", ["opd", "stepopsd"])
def test_a_sole_winner_is_not_its_own_teacher(name: str) -> None:
    group, rescore = one_word_group(False, True, False), HashRescorer()
    credits = credit_of(build(name, {"taught": "all"} if name == "stepopsd" else {}), group, rescore)
    taught = [request.trajectory.index for request in rescore.requests if request.hindsight is not None]
    assert taught == [0, 2]
    assert {request.trajectory.index for request in rescore.requests} == {0, 2}
    advantage = advantages_of(group, eps=1e-6)[1] if name == "stepopsd" else 0.0
    assert torch.equal(credits[1].advantage_T, torch.full((8,), advantage))
