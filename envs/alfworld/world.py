"""One episode's state: what it reads like, what can be done, what doing it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stepcredit.envs.alfworld.actions import Action, Menu, Verb
from stepcredit.envs.alfworld.game import Game, grouped
from stepcredit.envs.alfworld.text import NOTHING_HAPPENS, WELCOME, describe_state, enumerate_names, enumerate_things


class World:
    """The state of one episode. Clones share the game and nothing else that can change.

    Attributes:
        game: the static part.
        location: where the agent is.
        held: the object in the agent's hand.
        contents: receptacle -> objects in or on it, sorted; never-used receptacles are no keys.
        lying: object -> locations where it has been put down.
        left: (object, receptacle) for each object that was taken from the receptacle and not put back there.
        opened: receptacles that are open.
        clean, hot, cool, toggled, sliced: objects that are so.
        won: whether the goal is met.
    """

    __slots__ = (
        "_menu",
        "clean",
        "contents",
        "cool",
        "game",
        "held",
        "hot",
        "left",
        "location",
        "lying",
        "opened",
        "sliced",
        "toggled",
        "won",
    )

    def __init__(self, game: Game) -> None:
        problem = game.problem
        self.game = game
        self.location = problem.start
        self.held: str | None = next((item for _, item in problem.facts["holds"]), None)
        self.contents = grouped((place, item) for item, place in problem.facts["inreceptacle"])
        self.lying = grouped(problem.facts["objectatlocation"])
        self.left: frozenset[tuple[str, str]] = frozenset()
        self.opened = problem.arguments("opened")
        self.clean = problem.arguments("isclean")
        self.hot = problem.arguments("ishot")
        self.cool = problem.arguments("iscool")
        self.toggled = problem.arguments("istoggled")
        self.sliced = problem.arguments("issliced")
        self._menu: Menu | None = None
        self.won = game.compiled_goal.is_met(self)

    def clone(self) -> World:
        """An independent copy of the episode as it stands."""
        twin = object.__new__(World)
        for name in World.__slots__:
            setattr(twin, name, getattr(self, name))
        twin.contents = self.contents.copy()
        twin.lying = self.lying.copy()
        return twin

    def introduction(self) -> str:
        """What the agent reads before its first command, word for word as in TextWorld."""
        view = self._facing() or self._middle_of_room(self.game.all_receptacles)
        return f"{WELCOME}\n\n{view}\n\nYour task is to: {self.game.task}"

    def commands(self) -> tuple[str, ...]:
        """The admissible commands, sorted."""
        return self.menu().commands

    def menu(self) -> Menu:
        """The admissible commands with the actions they stand for."""
        if self._menu is None:
            game, contents = self.game, self.contents
            at_hand = [(r, self.reachable(r), contents.get(r, ())) for r in game.receptacles_at.get(self.location, ())]
            self._menu = game.menu(self.location, self.held, tuple(at_hand), self._cuttable())
        return self._menu

    def find(self, command: str) -> Action | None:
        """The action that the command stands for, None if it is not admissible."""
        return self.menu().find(command.strip())

    def step(self, command: str) -> str:
        """Carry the command out and say what happened; an inadmissible one changes nothing."""
        action = self.find(command)
        return NOTHING_HAPPENS if action is None else self.apply(action)

    def apply(self, action: Action) -> str:
        """Carry out an admissible action and say what happened."""
        text = _EFFECTS[action.verb](self, action)
        changed = _CHANGES.get(action.verb)
        if changed is not None:
            self._menu = None
            goal = self.game.compiled_goal
            if not goal.predicates.isdisjoint(changed):
                self.won = goal.is_met(self)
        return text

    def reachable(self, receptacle: str) -> bool:
        """Whether one can reach into the receptacle: it is open, or does not close."""
        return receptacle not in self.game.openable or receptacle in self.opened

    def marks(self) -> Mapping[str, frozenset[str]]:
        """PDDL predicate -> the objects that actions have given it."""
        return {
            "isclean": self.clean,
            "ishot": self.hot,
            "iscool": self.cool,
            "istoggled": self.toggled,
            "issliced": self.sliced,
        }

    def _cuttable(self) -> tuple[str, ...]:
        """The objects that the held knife can slice here."""
        if self.held not in self.game.knives:
            return ()
        return tuple(item for item in sorted(self.game.sliceable) if self.location in self.lying.get(item, ()))

    # What things look like.

    def _look(self, _: Action) -> str:
        # The stock grammar looks for receptacles at the agent's own location only, except in the introduction.
        return self._facing() or self._middle_of_room(())

    def _facing(self) -> str | None:
        """The view at receptacles, None away from them.

        The stock grammar lists as "next to it" what lies at the location and has been taken out of a receptacle there.
        """
        receptacles = self.game.receptacles_at.get(self.location)
        if not receptacles:
            return None
        names = self.game.names
        beside = [o for o, r in sorted(self.left) if r in receptacles and self.location in self.lying.get(o, ())]
        facing = enumerate_names([names[receptacle] for receptacle in receptacles])
        return f"You are facing the {facing}. Next to it, you see {enumerate_things([names[o] for o in beside])}."

    def _middle_of_room(self, visible: tuple[str, ...]) -> str:
        things = enumerate_things([self.game.names[receptacle] for receptacle in visible])
        return f"You are in the middle of a room. Looking quickly around you, you see {things}."

    def _take_stock(self, _: Action) -> str:
        if self.held is None:
            return "You are not carrying anything."
        return f"You are carrying: a {self.game.names[self.held]}."

    def _help(self, _: Action) -> str:
        return self.game.grammar.help or NOTHING_HAPPENS

    def _examine_receptacle(self, action: Action) -> str:
        name = self.game.names[action.receptacle]
        if not self.reachable(action.receptacle):
            return f"The {name} is closed."
        things = enumerate_things([self.game.names[item] for item in self.contents.get(action.receptacle, ())])
        if action.receptacle in self.game.openable:
            return f"The {name} is open. In it, you see {things}."
        return f"On the {name}, you see {things}."

    def _examine_object(self, action: Action) -> str:
        item, names = action.object, self.game.names
        if item in self.game.containers:
            inside = enumerate_things([names[inner] for inner in self.game.inside.get(item, ())])
            return f"This is a normal {names[item]}. In it, you see {inside}."
        return describe_state(
            names[item],
            clean=item in self.clean,
            hot=item in self.hot,
            cool=item in self.cool,
            sliced=item in self.sliced,
            on=item in self.toggled,
        )

    # What actions change.

    def _go(self, action: Action) -> str:
        self.location = action.location
        arrived = action.receptacle if self.game.grammar.arrives_at_receptacle else action.location
        return f"You arrive at {self.game.names[arrived]}. {self._examine_receptacle(action)}"

    def _open(self, action: Action) -> str:
        self.opened |= {action.receptacle}
        return f"You open the {self.game.names[action.receptacle]}. {self._examine_receptacle(action)}"

    def _close(self, action: Action) -> str:
        self.opened -= {action.receptacle}
        return f"You close the {self.game.names[action.receptacle]}."

    def _take(self, action: Action) -> str:
        item, receptacle = action.object, action.receptacle
        self.held = item
        self.contents[receptacle] = _without(self.contents[receptacle], item)
        self.lying[item] = _without(self.lying.get(item, ()), self.location)
        self.left |= {(item, receptacle)}
        return f"You pick up the {self.game.names[item]} from the {self.game.names[receptacle]}."

    def _put(self, action: Action) -> str:
        item, receptacle = action.object, action.receptacle
        self.held = None
        self.contents[receptacle] = _with(self.contents.get(receptacle, ()), item)
        self.lying[item] = _with(self.lying.get(item, ()), self.location)
        self.left -= {(item, receptacle)}
        names = self.game.names
        return self.game.grammar.has_put.format(object=names[item], receptacle=names[receptacle])

    def _use(self, action: Action) -> str:
        # The stock grammar asks whether the lamp was ever toggled, so that using it always turns it on.
        self.toggled |= {action.object}
        return f"You turn on the {self.game.names[action.object]}."

    def _clean(self, action: Action) -> str:
        self.clean |= {action.object}
        return f"You clean the {self._using(action)}."

    def _heat(self, action: Action) -> str:
        self.hot |= {action.object}
        self.cool -= {action.object}
        return f"You heat the {self._using(action)}."

    def _cool(self, action: Action) -> str:
        self.cool |= {action.object}
        self.hot -= {action.object}
        return f"You cool the {self._using(action)}."

    def _slice(self, action: Action) -> str:
        self.sliced |= {action.object}
        return f"You sliced the {self.game.names[action.object]} with the {self.game.names[action.tool]}."

    def _using(self, action: Action) -> str:
        return f"{self.game.names[action.object]} using the {self.game.names[action.receptacle]}"


def _with(members: tuple[str, ...], member: str) -> tuple[str, ...]:
    return tuple(sorted({*members, member}))


def _without(members: tuple[str, ...], member: str) -> tuple[str, ...]:
    return tuple([other for other in members if other != member])


_EFFECTS: Mapping[Verb, Callable[[World, Action], str]] = {
    Verb.LOOK: World._look,
    Verb.INVENTORY: World._take_stock,
    Verb.HELP: World._help,
    Verb.GO: World._go,
    Verb.OPEN: World._open,
    Verb.CLOSE: World._close,
    Verb.TAKE: World._take,
    Verb.PUT: World._put,
    Verb.USE: World._use,
    Verb.CLEAN: World._clean,
    Verb.HEAT: World._heat,
    Verb.COOL: World._cool,
    Verb.SLICE: World._slice,
    Verb.EXAMINE_RECEPTACLE: World._examine_receptacle,
    Verb.EXAMINE_OBJECT: World._examine_object,
}

_CHANGES: Mapping[Verb, frozenset[str]] = {
    Verb.GO: frozenset({"atlocation"}),
    Verb.OPEN: frozenset({"opened"}),
    Verb.CLOSE: frozenset({"opened"}),
    Verb.TAKE: frozenset({"inreceptacle", "holds"}),
    Verb.PUT: frozenset({"inreceptacle", "holds"}),
    Verb.USE: frozenset({"istoggled"}),
    Verb.CLEAN: frozenset({"isclean"}),
    Verb.HEAT: frozenset({"ishot", "iscool"}),
    Verb.COOL: frozenset({"ishot", "iscool"}),
    Verb.SLICE: frozenset({"issliced"}),
}
"""The dynamic predicates that an action changes; what only reads is missing."""
