"""A searching expert: knows only what the agent has read, so a policy can imitate it.

It reads the same text as the agent, remembers what it saw where, and looks for what the task names. How
well it searches is a parameter: a demonstrator that wanders leaves something to learn.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from stepcredit.envs.alfworld.rooms import LAMP, LAMP_STANDS_ON
from stepcredit.envs.contract import EnvError

_LISTED = re.compile(r"\ban? (\w+ \d+)")
_ROOM = re.compile(r"Looking quickly around you, you see (.*?)\.?\n")
_SHOWN = re.compile(r"(?:On the|The) (\w+ \d+)(?: is open\. In it)?, you see (.*?)\.")
_CLOSED = re.compile(r"The (\w+ \d+) is closed\.|You close the (\w+ \d+)\.")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_MOVED = re.compile(r"You (?:move|put) the (\w+ \d+) (?:to|in/on) the (\w+ \d+)\.")
_TREATED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using the (\w+ \d+)\.")
_HINTED = re.compile(r"take (\w+ \d+) from (\w+ \d+)")
_HINTED_LIGHT = re.compile(r"use (\w+ \d+)")

_GOALS = (
    (re.compile(r"(?:look at|examine) (?:the )?(\w+) (?:under|with) the (\w+)"), "look", 1),
    (re.compile(r"(?:put|find) two (\w+) (?:and put them )?in (\w+)"), "", 2),
    (re.compile(r"put a (?P<state>clean|hot|cool) (\w+) in (\w+)"), "", 1),
    (re.compile(r"(?P<state>clean|heat|cool) some (\w+) and put it in (\w+)"), "", 1),
    (re.compile(r"put (?:a|some) (\w+) (?:in|on) (\w+)"), "", 1),
)
_APPLIANCE = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
_VERB = {"clean": "clean", "hot": "heat", "heat": "heat", "cool": "cool"}


@dataclass(frozen=True, slots=True)
class Goal:
    """What the task sentence asks for: `count` things of type `wanted`, treated, brought to `target`."""

    wanted: str
    target: str
    treatment: str
    count: int

    @classmethod
    def parse(cls, sentence: str) -> Goal:
        """Read a task sentence.

        Raises:
            EnvError: no template of the benchmark fits.
        """
        for pattern, kind, count in _GOALS:
            match = pattern.search(sentence)
            if match:
                state = match.groupdict().get("state")
                wanted, target = match.groups()[-2:]
                return cls(wanted, target, _VERB[state] if state else kind, count)
        raise EnvError(f"task sentence {sentence!r} fits no goal template; the searching expert cannot read it")


@dataclass(frozen=True, slots=True)
class Skill:
    """How well a demonstrator searches.

    Attributes:
        plausible: probability of searching only where the wanted thing can be.
        waste: probability of a turn spent on a command that helps nothing.
    """

    plausible: float = 1.0
    waste: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """The next command and the sub-goal that explains it in a few words."""

    thought: str
    action: str


@dataclass
class Searcher:
    """One episode's expert. Feed it every observation in order; ask it for the next decision at any time.

    Attributes:
        homes: object type -> receptacle types that may hold it, all in lower case.
        skill: how well it searches.
        rng: source of its choices.
    """

    homes: Mapping[str, frozenset[str]]
    skill: Skill
    rng: random.Random
    goal: Goal = field(init=False)
    receptacles: list[str] = field(init=False, default_factory=list)
    contents: dict[str, list[str]] = field(init=False, default_factory=dict)
    closed: set[str] = field(init=False, default_factory=set)
    here: set[str] = field(init=False, default_factory=set)
    treated: set[str] = field(init=False, default_factory=set)
    delivered: dict[str, str] = field(init=False, default_factory=dict)
    held: str | None = field(init=False, default=None)

    def begin(self, introduction: str) -> None:
        """Read the room and the task."""
        room = _ROOM.search(introduction)
        if room is None or "Your task is to: " not in introduction:
            raise EnvError("the introduction names no room or no task; the searching expert cannot start")
        self.receptacles = _LISTED.findall(room[1])
        self.goal = Goal.parse(introduction.split("Your task is to: ")[1])

    def read_hint(self, actions: Sequence[str]) -> None:
        """Learn from a successful episode's actions where the wanted things were."""
        for action in actions:
            taken = _HINTED.fullmatch(action)
            if taken and _type(taken[1]) == self.goal.wanted:
                self._remember(taken[2], [*self.contents.get(taken[2], []), taken[1]])
        if self.goal.treatment == "look":
            self._read_light(actions)

    def informed_by(
        self, actions: Sequence[str], openable: Collection[str], rng: random.Random, *, faultless: bool = False
    ) -> Searcher:
        """A twin that also knows what an episode on the same task found out, told by its admitted actions.

        Where the wanted things and the light were, and at which places it saw nothing of use. What this one has seen
        itself it knows better.

        Args:
            actions: of any other episode, whether it succeeded or not.
            openable: types of receptacles that show nothing while they are closed, in lower case.
            rng: of the twin's choices.
            faultless: whether it also wastes no turn and searches at plausible places alone.
        """
        twin = copy.copy(self)
        twin.skill = Skill() if faultless else self.skill
        twin.rng, twin.contents = rng, {place: list(things) for place, things in self.contents.items()}
        for place, things in self._found(actions, openable).items():
            if place in self.receptacles:
                twin.contents.setdefault(place, things)
        return twin

    def _found(self, actions: Sequence[str], openable: Collection[str]) -> dict[str, list[str]]:
        """Receptacle -> what of use the other episode found there."""
        found: dict[str, list[str]] = {}
        place, taken = "", set[str]()
        for action in actions:
            verb, _, rest = action.partition(" ")
            take, light = _HINTED.fullmatch(action), _HINTED_LIGHT.fullmatch(action)
            if verb == "go":
                place = rest.removeprefix("to ")
            if (verb == "go" and _type(place) not in openable) or verb == "open":
                found.setdefault(place, [])
            if take and _type(take[1]) == self.goal.wanted and take[1] not in taken:
                found.setdefault(take[2], []).append(take[1])
                taken.add(take[1])
            if light and self.goal.treatment == "look" and place:
                found.setdefault(place, []).append(light[1])
        return found

    def observe(self, action: str, text: str) -> None:
        """Take in what a command led to."""
        if text == "Nothing happens.":
            if action.startswith("go to ") and action[6:] in self.receptacles:
                self.here.add(action[6:])
            return
        if action.startswith("go to "):
            self.here = {action[6:]}
        for receptacle, things in _SHOWN.findall(text):
            self.closed.discard(receptacle)
            self._remember(receptacle, _LISTED.findall(things))
        for arrived, shut in _CLOSED.findall(text):
            self.closed.add(arrived or shut)
        self._take_in_change(text)

    def decide(self) -> Decision:
        """The next command; with the skill's probability one that helps nothing."""
        if self.rng.random() < self.skill.waste:
            return self._wasted()
        if self.held is not None:
            return self._use_held(self.held)
        place = self._where(self.goal.wanted)
        if place is None:
            return self._search(self.goal.wanted)
        thing, receptacle = place
        return Decision(f" take {thing}", self._at(receptacle, f"take {thing} from {receptacle}"))

    def _read_light(self, actions: Sequence[str]) -> None:
        place = None
        for action in actions:
            if action.startswith("go to "):
                place = action[6:]
            lit = _HINTED_LIGHT.fullmatch(action)
            if lit and place:
                self._remember(place, [*self.contents.get(place, []), lit[1]])

    def _remember(self, receptacle: str, things: list[str]) -> None:
        self.contents[receptacle] = things

    def _take_in_change(self, text: str) -> None:
        if taken := _TAKEN.search(text):
            self.held = taken[1]
            self.delivered.pop(taken[1], None)
            self._remember(taken[2], [o for o in self.contents.get(taken[2], []) if o != taken[1]])
        elif moved := _MOVED.search(text):
            self.held = None
            self._remember(moved[2], [*self.contents.get(moved[2], []), moved[1]])
            if _type(moved[2]) == self.goal.target:
                self.delivered[moved[1]] = moved[2]
        elif (treated := _TREATED.search(text)) and treated[1] == self.goal.treatment:
            self.treated.add(treated[2])

    def _where(self, kind: str) -> tuple[str, str] | None:
        """A known thing of that type that still has to be fetched, nearest first."""
        found = [
            (receptacle not in self.here, thing, receptacle)
            for receptacle, things in self.contents.items()
            for thing in things
            if _type(thing) == kind and not self._done_with(thing)
        ]
        return min(found)[1:] if found else None

    def _done_with(self, thing: str) -> bool:
        return thing in self.delivered and (not self.goal.treatment or thing in self.treated)

    def _use_held(self, thing: str) -> Decision:
        goal = self.goal
        if _type(thing) != goal.wanted:
            return self._put_down(thing)
        if goal.treatment == "look":
            light = self._where(goal.target)
            if light is None:
                return self._search(goal.target)
            return Decision(f" use {light[0]}", self._arrive(light[1], f"use {light[0]}"))
        if goal.treatment and thing not in self.treated:
            place = self._nearest(_APPLIANCE[goal.treatment])
            return Decision(f" {goal.treatment} {thing}", self._arrive(place, f"{goal.treatment} {thing} with {place}"))
        place = next(iter(self.delivered.values()), None) or self._nearest(goal.target)
        return Decision(f" move {thing}", self._at(place, f"move {thing} to {place}"))

    def _put_down(self, thing: str) -> Decision:
        fits = [r for r in self.receptacles if _type(r) in self.homes.get(_type(thing), ())]
        near = [r for r in fits if r in self.here] or fits or self.receptacles
        return Decision(f" move {thing}", self._at(near[0], f"move {thing} to {near[0]}"))

    def _search(self, kind: str) -> Decision:
        thought = f" find {kind}"
        shut = [r for r in self.receptacles if r in self.here and r in self.closed]
        if shut and (self._plausible(kind, shut[0]) or self.rng.random() >= self.skill.plausible):
            return Decision(thought, f"open {shut[0]}")
        unseen = [r for r in self.receptacles if r not in self.contents and not (r in self.here and r in self.closed)]
        likely = [r for r in unseen if self._plausible(kind, r)]
        if likely and self.rng.random() < self.skill.plausible:
            unseen = likely
        choice = self.rng.choice(unseen or self.receptacles)
        return Decision(thought, f"examine {choice}" if choice in self.here else f"go to {choice}")

    def _plausible(self, kind: str, receptacle: str) -> bool:
        return _type(receptacle) in self.homes.get(kind, ())

    def _nearest(self, kind: str) -> str:
        places = [r for r in self.receptacles if _type(r) == kind]
        if not places:
            raise EnvError(f"the room has no {kind}, which the task {self.goal} needs")
        return next((r for r in places if r in self.here), places[0])

    def _arrive(self, receptacle: str, command: str) -> str:
        return command if receptacle in self.here else f"go to {receptacle}"

    def _at(self, receptacle: str, command: str) -> str:
        if receptacle in self.here and receptacle in self.closed:
            return f"open {receptacle}"
        return self._arrive(receptacle, command)

    def _wasted(self) -> Decision:
        choices = ["look", "inventory", *(f"examine {r}" for r in sorted(self.here))]
        choices += [f"go to {r}" for r in self.receptacles if r not in self.here]
        return Decision(f" find {self.goal.wanted}", self.rng.choice(choices))


def plausible_homes(fits: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Object type -> receptacle types that may hold it, in lower case, from the wheel's table of what fits where."""
    homes: dict[str, set[str]] = {LAMP.lower(): {kind.lower() for kind in LAMP_STANDS_ON}}
    for receptacle, objects in fits.items():
        for name in objects:
            homes.setdefault(name.lower(), set()).add(receptacle.lower())
    return {name: frozenset(receptacles) for name, receptacles in homes.items()}


def _type(instance: str) -> str:
    return instance.rpartition(" ")[0]
