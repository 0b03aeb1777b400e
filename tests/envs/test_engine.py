"""The engine's laws, its odd corners, and what it says about problems it cannot read."""

from __future__ import annotations

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.alfworld.env import AlfworldEnv
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.goal import GoalSpec
from stepcredit.envs.alfworld.identity import state_key
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.alfworld.world import World
from stepcredit.envs.contract import EnvError
from tests.envs import rooms

GRAMMARS = ("2.1.1", "2.1.2")

choices = st.lists(st.integers(0, 10_000), max_size=40)
games = st.builds(
    lambda subset, index, grammar: generated(subset, index, grammar),
    st.sampled_from(list(Subset)),
    st.integers(0, 19),
    st.sampled_from(GRAMMARS),
)


def generated(subset: Subset, index: int, grammar: str) -> Game:
    game = generate("mini", "valid_unseen", subset, index)
    return Game.from_pddl(game.problem, game.task, grammar)


def room(problem: str | None = None, grammar: str = "2.1.2") -> World:
    return World(Game.from_pddl(problem or rooms.problem(), "put a mug in sidetable.", grammar))


def after(*commands: str, problem: str | None = None, grammar: str = "2.1.2") -> World:
    """The room after commands that must all be admissible."""
    world = room(problem, grammar)
    for command in commands:
        assert command in world.commands(), (command, world.commands())
        world.step(command)
    return world


def walk(world: World, choices: Sequence[int]) -> list[str]:
    """Take the commands at these positions; return everything read and offered on the way."""
    read = []
    for choice in choices:
        commands = world.commands()
        read += [*commands, world.step(commands[choice % len(commands)]), str(world.won)]
    return read


@settings(max_examples=40, deadline=None)
@given(games, choices)
def test_the_same_commands_lead_to_the_same_words(game: Game, taken: list[int]) -> None:
    one, other = World(game), World(game)
    assert one.introduction() == other.introduction()
    assert walk(one, taken) == walk(other, taken)
    assert state_key(one) == state_key(other)


@settings(max_examples=40, deadline=None)
@given(games, choices, choices, choices)
def test_clones_go_their_own_ways(game: Game, first: list[int], left: list[int], right: list[int]) -> None:
    world = World(game)
    walk(world, first)
    twin = world.clone()
    assert state_key(twin) == state_key(world)
    read_left, read_right = walk(twin, left), walk(world, right)
    for branch, read in ((left, read_left), (right, read_right)):
        alone = World(game)
        walk(alone, first)
        assert walk(alone, branch) == read


def every_phrase(game: Game) -> list[str]:
    """Every command that the grammar could form of the game's names."""
    names = [game.names[item] for item in (*game.receptacle_types, *game.object_types)]
    ones = ("{} " + name for name in names)
    pairs = itertools.permutations(names, 2)
    bare = ["look", "inventory", "help", "dance wildly", ""]
    single = [one.format(verb) for one in ones for verb in ("go to", "open", "close", "examine", "use")]
    forms = ("take {} from {}", "move {} to {}", "put {} in/on {}", "clean {} with {}")
    forms += ("heat {} with {}", "cool {} with {}", "slice {} with {}")
    return bare + single + [form.format(*pair) for pair in pairs for form in forms]


@settings(max_examples=15, deadline=None)
@given(games, choices)
def test_listed_commands_are_accepted_and_no_others(game: Game, taken: list[int]) -> None:
    world = World(game)
    walk(world, taken)
    phrases, before = every_phrase(game), state_key(world)
    assert set(world.commands()) <= set(phrases)
    for phrase in phrases:
        trial = world.clone()
        accepted = trial.step(phrase) != "Nothing happens."
        assert accepted == (phrase in world.commands()), phrase
        assert accepted or state_key(trial) == before


@settings(max_examples=40, deadline=None)
@given(games, choices)
def test_commands_are_sorted_and_distinct(game: Game, taken: list[int]) -> None:
    world = World(game)
    walk(world, taken)
    assert list(world.commands()) == sorted(set(world.commands()))


# The corners in which the stock engine surprises; the texts are its own.


def test_the_introduction_lists_the_room_and_looking_does_not() -> None:
    world = room()
    assert world.introduction() == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
        "a cabinet 1, a countertop 1, a fridge 1, a microwave 1, a sidetable 1, and a sinkbasin 1.\n\n"
        "Your task is to: put a mug in sidetable."
    )
    assert world.step("look") == "You are in the middle of a room. Looking quickly around you, you see nothing."


def test_numbers_run_against_the_order_of_ids() -> None:
    names = room().game.names
    assert (names["mug_bar_1"], names["mug_bar_2"]) == ("mug 2", "mug 1")
    assert names["sink_bar_1_bar_sinkbasin"] == "sinkbasin 1"
    assert names["loc_bar_0"] == "loc 6"


def test_objects_are_examined_in_hand_only() -> None:
    world = after("go to countertop 1")
    assert "examine apple 1" not in world.commands()
    world.step("take apple 1 from countertop 1")
    assert world.step("examine apple 1") == "There's nothing special about apple 1."


def test_one_cannot_go_to_what_shares_ones_location() -> None:
    world = after("go to countertop 1")
    assert "go to cabinet 1" not in world.commands()
    assert {"examine cabinet 1", "open cabinet 1"} <= set(world.commands())
    assert world.step("look").startswith("You are facing the cabinet 1, and countertop 1. Next to it, you see nothing.")


def test_what_was_moved_to_the_neighbour_lies_next_to_it() -> None:
    world = after("go to countertop 1", "open cabinet 1", "take mug 1 from countertop 1", "move mug 1 to cabinet 1")
    assert world.step("look").endswith("Next to it, you see a mug 1.")
    world.step("take mug 1 from cabinet 1")
    assert world.step("look").endswith("Next to it, you see nothing.")


def test_appliances_work_closed() -> None:
    world = after("go to countertop 1", "take apple 1 from countertop 1", "go to microwave 1")
    assert world.step("heat apple 1 with microwave 1") == "You heat the apple 1 using the microwave 1."
    assert world.step("examine apple 1") == "This is a hot apple 1."
    world.step("go to fridge 1")
    assert world.step("cool apple 1 with fridge 1") == "You cool the apple 1 using the fridge 1."
    assert world.step("examine apple 1") == "This is a cold apple 1."
    world.step("go to sinkbasin 1")
    world.step("clean apple 1 with sinkbasin 1")
    assert world.step("examine apple 1") == "This is a cool and clean apple 1."


def test_a_lamp_only_ever_turns_on() -> None:
    world = after("go to sidetable 1")
    assert [world.step("use desklamp 1") for _ in range(2)] == ["You turn on the desklamp 1."] * 2


def test_containers_show_their_content_and_never_their_state() -> None:
    world = after("go to sidetable 1", "take plate 1 from sidetable 1", "go to sinkbasin 1")
    world.step("clean plate 1 with sinkbasin 1")
    assert world.step("examine plate 1") == "This is a normal plate 1. In it, you see nothing."


def test_the_grammars_differ_in_putting_arriving_and_helping() -> None:
    fetch = ("go to countertop 1", "take mug 1 from countertop 1")
    old, new = (after(*fetch, grammar=grammar) for grammar in GRAMMARS)
    assert (
        old.step("go to sidetable 1") == "You arrive at loc 1. On the sidetable 1, you see a desklamp 1, and a plate 1."
    )
    assert new.step("go to sidetable 1").startswith("You arrive at sidetable 1. On the")
    assert old.step("put mug 1 in/on sidetable 1") == "You put the mug 1 in/on the sidetable 1."
    assert new.step("move mug 1 to sidetable 1") == "You move the mug 1 to the sidetable 1."
    assert old.step("help") == "Nothing happens."
    assert new.step("help").startswith("Available commands:\n  look:  ")


def test_a_sink_cleans_in_the_older_domain_only() -> None:
    sink = rooms.problem(extra="(receptacleType Sink_bar_1 SinkType) (receptacleAtLocation Sink_bar_1 loc_bar_2)")
    for cleans in (False, True):
        world = World(Game.from_pddl(sink, "put a mug in sidetable.", sink_cleans=cleans))
        for command in ("go to countertop 1", "take mug 1 from countertop 1", "go to sink 1"):
            world.step(command)
        assert ("clean mug 1 with sink 1" in world.commands()) == cleans
        assert "clean mug 1 with sinkbasin 1" in world.commands()


# Goals.

FETCH = ("go to countertop 1", "take mug 1 from countertop 1")
STORE = ("go to sidetable 1", "move mug 1 to sidetable 1")
WAYS = {
    Subset.PICK: (*FETCH, *STORE),
    Subset.LOOK: (*FETCH, "go to sidetable 1", "use desklamp 1"),
    Subset.CLEAN: (*FETCH, "go to sinkbasin 1", "clean mug 1 with sinkbasin 1", *STORE),
    Subset.HEAT: (*FETCH, "go to microwave 1", "heat mug 1 with microwave 1", *STORE),
    Subset.COOL: (*FETCH, "go to fridge 1", "cool mug 1 with fridge 1", *STORE),
    Subset.PICK_TWO: (
        *(*FETCH, *STORE),
        *("go to cabinet 1", "open cabinet 1", "take mug 2 from cabinet 1"),
        *("go to sidetable 1", "move mug 2 to sidetable 1"),
    ),
}


@pytest.mark.parametrize("subset", list(Subset))
def test_a_goal_is_met_by_the_last_command_and_undone_by_going_back(subset: Subset) -> None:
    world = room(rooms.problem(subset))
    target = "desklamp" if subset is Subset.LOOK else "sidetable"
    assert world.game.goal == GoalSpec(subset, "mug", target)
    for command in WAYS[subset]:
        assert not world.won
        assert command in world.commands()
        world.step(command)
    assert world.won
    world.step("go to fridge 1" if subset is Subset.LOOK else "take mug 1 from sidetable 1")
    assert not world.won


@pytest.mark.parametrize("subset", [Subset.CLEAN, Subset.HEAT, Subset.COOL])
def test_an_untreated_object_does_not_meet_the_goal(subset: Subset) -> None:
    assert not after(*FETCH, *STORE, problem=rooms.problem(subset)).won


def test_one_object_is_not_two() -> None:
    assert not after(*FETCH, *STORE, problem=rooms.problem(Subset.PICK_TWO)).won


# States that are the same to the agent.


def reachable_states(start: World) -> dict[str, World]:
    """Every state that commands lead to, told apart by everything that the engine keeps."""
    found, frontier = {raw(start): start}, [start]
    while frontier:
        world = frontier.pop()
        for command in world.commands():
            child = world.clone()
            child.step(command)
            if raw(child) not in found:
                found[raw(child)] = child
                frontier.append(child)
    return found


def raw(world: World) -> str:
    sets = (world.left, world.opened, *world.marks().values())
    contents = (sorted(part.items()) for part in (world.contents, world.lying))
    return repr((world.location, world.held, *contents, *map(sorted, sets)))


def behaviour_classes(states: dict[str, World]) -> dict[str, int]:
    """State -> class, in which two states share a class if and only if no sequence of commands tells them apart."""
    replies: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for name, world in states.items():
        for command in world.commands():
            child = world.clone()
            text = child.step(command)
            replies[name].append((command, text, raw(child)))
    classes, count = {name: int(world.won) for name, world in states.items()}, 0
    while len(set(classes.values())) != count:
        count = len(set(classes.values()))
        seen = {
            name: (classes[name], *((command, text, classes[to]) for command, text, to in replies[name]))
            for name in states
        }
        numbers = {signature: number for number, signature in enumerate(dict.fromkeys(seen.values()))}
        classes = {name: numbers[signature] for name, signature in seen.items()}
    return classes


@pytest.mark.parametrize("subset", [Subset.PICK, Subset.HEAT, Subset.LOOK])
def test_states_share_a_key_if_and_only_if_no_commands_tell_them_apart(subset: Subset) -> None:
    states = reachable_states(room(rooms.problem(subset, receptacles=rooms.NOOK, objects=rooms.NOOK_OBJECTS)))
    classes = behaviour_classes(states)
    keys = {name: state_key(world) for name, world in states.items()}
    assert len(set(keys.values())) < len(states)
    assert len(set(zip(keys.values(), classes.values(), strict=True))) == len(set(keys.values()))
    assert len(set(keys.values())) == len(set(classes.values()))


# The environment.


def test_an_episode_ends_with_success_and_offers_nothing_more() -> None:
    env = AlfworldEnv(room().game)
    assert "look" in env.reset().actions
    refused = env.step("move mug 1 to sidetable 1")
    assert (refused.observation.text, refused.valid, refused.done) == ("Nothing happens.", False, False)
    for command in WAYS[Subset.PICK][:-1]:
        result = env.step(command)
        assert (result.valid, result.done, result.success) == (True, False, False)
    last = env.step(WAYS[Subset.PICK][-1])
    assert (last.valid, last.done, last.success, last.observation.actions) == (True, True, True, ())
    with pytest.raises(EnvError, match="after the episode's end"):
        env.step("look")


def test_a_refused_command_leaves_the_state_as_it_was() -> None:
    env = AlfworldEnv(room().game)
    offered = env.reset().actions
    key = env.state_key
    assert env.step("open fridge 1").observation.actions == offered
    assert env.state_key == key


def test_an_environment_is_good_for_one_episode() -> None:
    env = AlfworldEnv(room().game)
    with pytest.raises(EnvError, match="call reset"):
        env.step("look")
    env.reset()
    with pytest.raises(EnvError, match="make a new environment"):
        env.reset()


def test_a_clone_continues_the_episode() -> None:
    env = AlfworldEnv(room().game)
    env.reset()
    for command in FETCH:
        env.step(command)
    twin = env.clone()
    assert [twin.step(command).done for command in STORE] == [False, True]
    assert env.step("inventory").observation.text == "You are carrying: a mug 1."


# Problems that cannot be read.

BROKEN = [
    ("(:init", "(:start", "no '(:init' section"),
    ("(:goal", "(:wish", "no '(:goal' section"),
    ("(atLocation agent1 loc_bar_0)", "", "place the agent once, found 0"),
    ("(openable Fridge_bar_1)", "(openable Fridge_bar_1 now)", "'openable' takes 1 argument(s)"),
    ("(openable Fridge_bar_1)", "(lockable Fridge_bar_1)", "no predicate 'lockable'"),
    ("(openable Fridge_bar_1)", "openable Fridge_bar_1", "flat facts, found 'openable fridge_bar_1'"),
    ("(openable Fridge_bar_1)", "(openable (Fridge_bar_1))", "flat facts, found 'openable'"),
    ("(objectType Apple_bar_1 AppleType)", "", "no type to the object 'apple_bar_1'"),
    (
        "(objectType Apple_bar_1 AppleType)",
        "(objectType Apple_bar_1 MugType) (objectType Apple_bar_1 AppleType)",
        "2 types",
    ),
    ("(objectType ?o MugType)", "(objectType ?other MugType)", "undeclared variable '?other'"),
    ("(objectType ?o MugType)", "(or (objectType ?o MugType))", "does not know: (or (objecttype"),
    ("(objectType ?o MugType)", "", "must name one type with 'objecttype'"),
    ("(objectType ?o MugType)", "(isSliced ?o) (objectType ?o MugType)", "none of ALFWorld's six tasks"),
    ("(inReceptacle ?o ?r)", "(not (inReceptacle ?o ?r))", "it depends on not inreceptacle"),
    ("?o - object", "?o - thing", "unknown type 'thing'"),
]


@pytest.mark.parametrize(("part", "instead", "message"), BROKEN)
def test_a_broken_problem_is_refused_with_what_is_wrong(part: str, instead: str, message: str) -> None:
    problem = rooms.problem()
    assert part in problem
    with pytest.raises(EnvError, match=re.escape(message)):
        Game.from_pddl(problem.replace(part, instead), "put a mug in sidetable.")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_problem_cut_short_is_refused(share: float) -> None:
    problem = rooms.problem()
    with pytest.raises(EnvError, match="PDDL"):
        Game.from_pddl(problem[: int(share * len(problem))], "put a mug in sidetable.")


def test_an_unknown_grammar_is_refused_by_name() -> None:
    with pytest.raises(EnvError, match=r"'2\.1\.3'.*did you mean"):
        Game.from_pddl(rooms.problem(), "put a mug in sidetable.", "2.1.3")


def test_comments_costs_and_upper_case_are_read_like_the_planner_reads_them() -> None:
    problem = rooms.problem(
        extra="(= (total-cost) 0) ; a comment (with parentheses\n(= (distance loc_bar_1 loc_bar_2) 7)"
    )
    plain, rng = room(), random.Random(3)
    other = World(Game.from_pddl(problem.upper(), "put a mug in sidetable."))
    assert walk(plain, picks := [rng.randrange(1000) for _ in range(60)]) == walk(other, picks)
