"""The words of ALFWorld's two text grammars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
NOTHING_HAPPENS = "Nothing happens."
INSTRUCTIONS = (
    "You are an agent in a household. In every turn, reason in <think> ... </think>, then give exactly one command "
    "in <action> ... </action>. Commands: go to (receptacle), open (receptacle), close (receptacle), take (object) "
    "from (receptacle), move (object) to (receptacle), use (object), clean (object) with (receptacle), heat (object) "
    "with (receptacle), cool (object) with (receptacle), examine (something), look, inventory."
)

_HELP = """\
Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""


@dataclass(frozen=True, slots=True)
class Grammar:
    """Where the versions of the text grammar differ.

    Attributes:
        version: as ALFWorld numbers it.
        put: command with fields {object} and {receptacle}.
        has_put: its feedback.
        arrives_at_receptacle: whether one arrives at "shelf 3", or else at "loc 7".
        help: answer to the command `help`; None where there is no such command.
    """

    version: str
    put: str
    has_put: str
    arrives_at_receptacle: bool
    help: str | None


GRAMMARS: Mapping[str, Grammar] = {
    "2.1.1": Grammar(
        version="2.1.1",
        put="put {object} in/on {receptacle}",
        has_put="You put the {object} in/on the {receptacle}.",
        arrives_at_receptacle=False,
        help=None,
    ),
    "2.1.2": Grammar(
        version="2.1.2",
        put="move {object} to {receptacle}",
        has_put="You move the {object} to the {receptacle}.",
        arrives_at_receptacle=True,
        help=_HELP,
    ),
}


def enumerate_names(names: Iterable[str]) -> str:
    """ "nothing", "a", "a, and b", "a, b, and c"."""
    listed = list(names)
    if len(listed) < 2:
        return listed[0] if listed else "nothing"
    return f"{', '.join(listed[:-1])}, and {listed[-1]}"


def enumerate_things(names: Iterable[str]) -> str:
    """The same with articles: "a mug 1, and a pen 2"."""
    return enumerate_names("a " + name for name in names)


def describe_state(name: str, *, clean: bool, hot: bool, cool: bool, sliced: bool, on: bool) -> str:
    """What examining an object that holds nothing says. Temperature alone is "cold", with others "cool"."""
    temperature = "hot" if hot else "cool" if cool else ""
    words = " and ".join(word for word in (temperature, "clean" if clean else "") if word)
    if words:
        words = "cold" if words == "cool" and not sliced else words
        return f"This is a {words}{' sliced' if sliced else ''} {name}."
    if on:
        return f"This {name} is on."
    return f"This is a sliced {name}." if sliced else f"There's nothing special about {name}."
