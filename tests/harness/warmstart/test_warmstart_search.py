"""Search-QA's warm start: what is imitated, what is only shown, that words of a kind begin alike."""

from dataclasses import replace
from itertools import islice
from random import Random

import pytest
import torch

from stepcredit.envs.searchqa.synthetic.expert import Habits, Solver, solution
from stepcredit.envs.searchqa.synthetic.questions import drafts
from stepcredit.harness.model.policy import Policy, weights_sha256
from stepcredit.harness.warmstart.build import build
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration
from stepcredit.harness.warmstart.reading import ReadingSpec
from stepcredit.harness.warmstart.search import (
    SearchCourse,
    SearchDemonstrationSpec,
    SearchDemonstrator,
    SearchWarmstartSpec,
)

READING = ReadingSpec(games=1, group=2, cloning=CloningSpec(steps=1, batch=2))
EPISODES = replace(SearchDemonstrationSpec(), drills=0.0, habits=Habits())


@pytest.fixture(scope="module")
def policy() -> Policy:
    return SearchCourse().fresh()


def demonstrations(policy: Policy, spec: SearchDemonstrationSpec, count: int = 40) -> list[Demonstration]:
    return list(islice(SearchDemonstrator(spec, policy.transcript).stream(Random(1)), count))


def text(policy: Policy, demonstration: Demonstration, weight: float) -> str:
    chosen = demonstration.token_ids[demonstration.weights == torch.tensor(weight).item()]
    return b"".join(policy.transcript.token_bytes(int(token)) for token in chosen).decode()


def test_episodes_imitate_turns_and_read_passages(policy: Policy) -> None:
    flawless = replace(EPISODES, wrong=0.0, hinted=0.0, observation_weight=0.5)
    for demonstration in demonstrations(policy, flawless):
        imitated, read = text(policy, demonstration, 1.0), text(policy, demonstration, 0.5)
        assert "information" not in imitated
        assert imitated.endswith("</answer>")
        assert read.startswith("<|obs|>Question:")
        assert set(demonstration.weights.tolist()) == {0.5, 1.0}


def test_slips_are_shown_and_not_imitated(policy: Policy) -> None:
    for demonstration in demonstrations(policy, replace(EPISODES, wrong=1.0, hinted=0.0)):
        assert not (demonstration.weights == 1.0).any()


def test_hints_hold_a_way_to_the_answer_and_are_not_learned(policy: Policy) -> None:
    marker, suffix = policy.transcript.hindsight("")[0], policy.transcript.generation_suffix[0]
    for demonstration in demonstrations(policy, replace(EPISODES, wrong=0.0, hinted=1.0)):
        (place,) = (demonstration.token_ids == marker).nonzero()[0]
        end = place + (demonstration.token_ids[place:] == suffix).nonzero()[0][0]
        assert not demonstration.weights[place : end + 1].any()
        hint = b"".join(policy.transcript.token_bytes(int(token)) for token in demonstration.token_ids[place:end])
        answer = hint.decode().split("<answer>")[1].removesuffix("</answer>")
        assert text(policy, demonstration, 1.0).endswith(f"<answer> {answer}</answer>")


def test_drills_teach_what_stands_in_the_passages_and_nothing_else(policy: Policy) -> None:
    for demonstration in demonstrations(policy, replace(EPISODES, drills=1.0)):
        learned = [value for value in text(policy, demonstration, 1.0).split("</think>") if value]
        shown = text(policy, demonstration, 0.0)
        assert len(learned) >= 3
        assert all(value.strip() in shown for value in learned)


def test_words_of_a_kind_begin_alike(policy: Policy) -> None:
    rows_VD = policy.model.get_parameter("model.embed_tokens.weight").detach()

    def likeness(first: str, second: str) -> float:
        ids = policy.tokenizer.convert_tokens_to_ids([first, second])
        return float(torch.cosine_similarity(rows_VD[ids[0]], rows_VD[ids[1]], dim=0))

    assert likeness(" Dove", "Dove") > 0.6
    assert likeness(" Dove", " Humber") > 0.15
    assert abs(likeness(" Dove", " surgeon")) < 0.3
    assert likeness(" 1850", " 1851") > likeness(" 1710", " 1960")


def test_the_same_spec_gives_the_same_bits() -> None:
    course = SearchCourse(
        replace(
            SearchWarmstartSpec(),
            layers=1,
            hidden=64,
            cloning=CloningSpec(steps=2),
            erring=CloningSpec(steps=1),
            reading=READING,
        )
    )
    assert weights_sha256(build(course, lambda _: None).model) == weights_sha256(build(course, lambda _: None).model)


@pytest.mark.parametrize("hasty", [False, True])
def test_only_a_hasty_expert_answers_before_it_has_searched(hasty: bool) -> None:
    """Both know that an answer was right; one that was wrong tells neither anything."""
    draft = next(draft for draft in drafts().values() if len(draft.hops) == 2)
    solver = Solver(draft, Habits(hasty=hasty), {}, Random(0))
    told = solution(draft)
    assert solver.informed_by(told, Random(0)).decide().sent == (told[-1] if hasty else told[0])
    assert solver.informed_by([*told[:-1], "<answer>nobody</answer>"], Random(0)).decide().sent == told[0]
    assert solver.decide().sent == told[0]


def test_who_would_guess_guesses_what_was_told() -> None:
    draft = next(draft for draft in drafts().values() if len(draft.hops) == 1)
    solver = Solver(draft, Habits(guess=1.0), {draft.hops[0].slot: ["somebody"]}, Random(0))
    assert solver.decide().sent == "<answer>somebody</answer>"
    assert solver.informed_by(solution(draft), Random(0)).decide().sent == solution(draft)[-1]
