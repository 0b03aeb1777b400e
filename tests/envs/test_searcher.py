"""The searching expert: it solves every game by reading, never by peeking."""

import random
import re

import pytest

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.searcher import Goal, Searcher, Skill, plausible_homes
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import EnvError

HOMES = plausible_homes(load_assets().fits)


def _env(subset: Subset, index: int, suite: str = "mini") -> AlfworldEnv:
    drawn = generate(suite, "valid_unseen", subset, index)
    return AlfworldEnv(Game.from_pddl(drawn.problem, drawn.task))


def _play(env: AlfworldEnv, expert: Searcher, hint: list[str] | None = None, turns: int = 80) -> tuple[bool, list[str]]:
    expert.begin(env.reset().text)
    if hint:
        expert.read_hint(hint)
    actions: list[str] = []
    for _ in range(turns):
        action = expert.decide().action
        result = env.step(action)
        assert result.valid, (action, actions)
        actions.append(action)
        if result.done:
            return result.success, actions
        expert.observe(action, result.observation.text)
    return False, actions


@pytest.mark.parametrize("subset", list(Subset))
@pytest.mark.parametrize("skill", [Skill(), Skill(plausible=0.0, waste=0.3)], ids=["best", "wandering"])
def test_it_solves_games_with_admissible_commands_only(subset: Subset, skill: Skill) -> None:
    for index in range(10):
        success, _ = _play(_env(subset, index), Searcher(HOMES, skill, random.Random(index)), turns=200)
        assert success, (subset, index)


@pytest.mark.parametrize("subset", list(Subset))
def test_it_solves_full_rooms(subset: Subset) -> None:
    assert _play(_env(subset, 0, "full"), Searcher(HOMES, Skill(), random.Random(0)), turns=200)[0]


def test_a_hint_shortens_the_search() -> None:
    shorter = 0
    for index in range(30):
        subset = list(Subset)[index % 6]
        _, blind = _play(_env(subset, index), Searcher(HOMES, Skill(0.0, 0.2), random.Random(index)), turns=300)
        _, informed = _play(_env(subset, index), Searcher(HOMES, Skill(), random.Random(index)), hint=blind)
        shorter += len(informed) < len(blind)
    assert shorter >= 25


OPENABLE = frozenset(kind.lower() for kind in load_assets().openable)
ROOM = """Looking quickly around you, you see a bed 1, a drawer 1, a desk 1, and a safe 1.

Your task is to: put a book in bed."""


def _reader() -> Searcher:
    expert = Searcher(HOMES, Skill(waste=1.0), random.Random(0))
    expert.begin(ROOM)
    return expert


def _informed(expert: Searcher, *actions: str) -> str:
    return expert.informed_by(actions, OPENABLE, random.Random(1), faultless=True).decide().action


def test_told_where_things_were_it_goes_there_and_stays_itself() -> None:
    expert = _reader()
    actions = ("go to drawer 1", "open drawer 1", "take book 2 from drawer 1", "go to bed 1", "take book 2 from bed 1")
    assert _informed(expert, *actions) == "go to drawer 1"
    assert expert.contents == {}
    assert expert.skill.waste == 1.0


def test_what_others_saw_in_vain_it_leaves_out() -> None:
    seen = ("go to bed 1", "go to desk 1", "go to safe 1", "open safe 1", "go to drawer 1")
    assert _informed(_reader(), *seen) == "go to drawer 1"  # was closed, and nobody opened it


def test_its_own_eyes_count_for_more() -> None:
    expert = _reader()
    expert.observe("go to desk 1", "You arrive at desk 1. On the desk 1, you see a pen 1.")
    assert _informed(expert, "go to desk 1", "take book 1 from desk 1") != "take book 1 from desk 1"


def test_other_rooms_tell_it_nothing() -> None:
    told = ("go to fridge 1", "open fridge 1", "take book 1 from fridge 1")
    assert _reader().informed_by(told, OPENABLE, random.Random(1)).contents == {}


def test_told_where_the_light_was() -> None:
    expert = Searcher(HOMES, Skill(), random.Random(0))
    expert.begin(ROOM.replace("put a book in bed", "examine the book with the desklamp"))
    expert.observe("go to bed 1", "You arrive at bed 1. On the bed 1, you see a book 1.")
    expert.observe("take book 1 from bed 1", "You pick up the book 1 from the bed 1.")
    assert _informed(expert, "take book 1 from bed 1", "go to desk 1", "use desklamp 1") == "go to desk 1"


@pytest.mark.parametrize("index", range(6))
def test_what_it_has_not_seen_does_not_change_what_it_does(index: int) -> None:
    drawn = generate("mini", "valid_unseen", Subset.PICK, index)
    assert _rotated(drawn.problem) != drawn.problem
    envs = [AlfworldEnv(Game.from_pddl(text, drawn.task)) for text in (drawn.problem, _rotated(drawn.problem))]
    experts = [Searcher(HOMES, Skill(), random.Random(index)) for _ in envs]
    texts = [env.reset().text for env in envs]
    assert texts[0] == texts[1]
    for expert, text in zip(experts, texts, strict=True):
        expert.begin(text)
    while texts[0] == texts[1]:
        actions = [expert.decide().action for expert in experts]
        assert actions[0] == actions[1]
        texts = [env.step(action).observation.text for env, action in zip(envs, actions, strict=True)]
        for expert, action, text in zip(experts, actions, texts, strict=True):
            expert.observe(action, text)


def _rotated(problem: str) -> str:
    """The same room with every object where the next one was."""
    facts = re.findall(r"\(inReceptacle (\S+) (\S+)\)\s*\(objectAtLocation \S+ (\S+)\)", problem)
    for (name, place, spot), (_, other, there) in zip(facts, [*facts[1:], facts[0]], strict=True):
        problem = problem.replace(f"(inReceptacle {name} {place})", f"(inReceptacle {name} {other})")
        problem = problem.replace(f"(objectAtLocation {name} {spot})", f"(objectAtLocation {name} {there})")
    return problem


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("put a mug in shelf.", Goal("mug", "shelf", "", 1)),
        ("put some mug on shelf.", Goal("mug", "shelf", "", 1)),
        ("put a clean mug in shelf.", Goal("mug", "shelf", "clean", 1)),
        ("clean some mug and put it in shelf.", Goal("mug", "shelf", "clean", 1)),
        ("put a hot mug in shelf.", Goal("mug", "shelf", "heat", 1)),
        ("cool some mug and put it in shelf.", Goal("mug", "shelf", "cool", 1)),
        ("put two mug in shelf.", Goal("mug", "shelf", "", 2)),
        ("find two mug and put them in shelf.", Goal("mug", "shelf", "", 2)),
        ("look at mug under the desklamp.", Goal("mug", "desklamp", "look", 1)),
        ("examine the mug with the desklamp.", Goal("mug", "desklamp", "look", 1)),
    ],
)
def test_every_goal_template_is_read(sentence: str, goal: Goal) -> None:
    assert Goal.parse(sentence) == goal


def test_an_unknown_sentence_is_refused_by_name() -> None:
    with pytest.raises(EnvError, match="juggle two mugs"):
        Goal.parse("juggle two mugs")
