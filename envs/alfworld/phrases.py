"""The phrases of ALFWorld's text, for tokenizers that want to fit the domain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_SENTENCES = (
    "-= Welcome to TextWorld, ALFRED! =-\n\n",
    "You are in the middle of a room. Looking quickly around you, you see",
    "\n\nYour task is to: ",
    "You are facing the",
    ". Next to it, you see",
    "You arrive at",
    "You open the",
    "You close the",
    "You pick up the",
    "You move the",
    "You put the",
    "You clean the",
    "You heat the",
    "You cool the",
    "You turn on the",
    "You sliced the",
    "Nothing happens.",
    "You are carrying: a",
    "You are not carrying anything.",
    "This is a normal",
    "There's nothing special about",
    "This is a",
    "This",
    ". On the",
    ". The",
    "On the",
    "The",
    " is open. In it, you see",
    " is closed.",
    ". In it, you see",
    ", you see",
    " nothing.",
    " from the",
    " to the",
    " in/on the",
    " using the",
    " with the",
    ", and a",
    ", and",
    ", a",
    ",",
    ".",
    "\n",
)
_COMMANDS = (
    "go to",
    "take",
    "move",
    "put",
    "open",
    "close",
    "use",
    "clean",
    "heat",
    "cool",
    "slice",
    "examine",
    "look",
    "inventory",
    "help",
)
# fmt: off
_WORDS = (
    "a", "an", "and", "at", "again", "clean", "close", "closed", "cold", "cool", "done", "examine", "facing",
    "find", "from", "heat", "held", "hot", "in", "in/on", "is", "it", "light", "loc", "look", "move", "off",
    "on", "open", "of", "put", "search", "slice", "sliced", "some", "take", "the", "them", "to", "turn", "two",
    "under", "use", "with",
)
# fmt: on


def phrases(receptacle_types: Iterable[str], object_types: Iterable[str], many: Iterable[str]) -> list[str]:
    """Sentence parts, commands, words and instance names, each once, in a fixed order.

    Args:
        receptacle_types: names such as `Cabinet`; numbered 1 to 9.
        object_types: names such as `Mug`; numbered 1 to 6.
        many: those receptacle types of which rooms hold more than nine; numbered 1 to 30.
    """
    receptacles = sorted({name.lower() for name in receptacle_types})
    objects = sorted({name.lower() for name in object_types} - set(receptacles))
    plenty = {name.lower() for name in many}

    def instances() -> Iterator[str]:
        for name in receptacles:
            yield f" {name}"
            yield from (f" {name} {number}" for number in range(1, 31 if name in plenty else 10))
        for name in objects:
            yield f" {name}"
            yield from (f" {name} {number}" for number in range(1, 7))

    words = (f" {word}" for word in sorted(set(_WORDS)))
    digits = (f" {digit}" for digit in range(10))
    return list(dict.fromkeys((*_SENTENCES, *_COMMANDS, *words, *digits, *instances())))
