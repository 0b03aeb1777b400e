"""A small suite of the project's own that tells whether training damaged what the policy could do before.

Five kinds of items with four choices of equal length, so that chance is 25% and no choice wins by being short, and a
few passages of plain English whose bits per byte say how far the policy has moved away from ordinary text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from stepcredit.harness.capability.tasks import Suite, Task

CHOICES = 4
ITEMS = 20
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "ivory", "jolly", "lemon", "maple")
_NAMES = ("Anna", "Boris", "Clara", "David", "Edith", "Frank", "Greta", "Hugo")
_CITIES = ("Oslo", "Rome", "Lima", "Bern", "Cork", "Kiev", "Bonn", "Nice")
_PASSAGES = (
    "The ferry left the harbour before sunrise. Two children stood at the rail and counted the gulls.",
    "To make the soup, cut the onions, fry them slowly in butter, and add the stock once they are soft.",
    "Snow had fallen all night, so the school stayed closed and the street was full of sledges.",
    "My uncle repairs clocks. He says that most of them stop because nobody has cleaned them for years.",
    "The museum opens at ten and closes at six. On Mondays it is closed, except in August.",
    "After the storm the farmer walked along the fence and wrote down every post that had to be replaced.",
    "She read the letter twice, folded it, and put it back into the drawer without saying a word.",
    "A good knife is kept sharp. A dull one slips, and then it cuts the hand that holds it.",
    "The train was late again, and the people on the platform had begun to talk to each other.",
    "In spring the river rises, and the meadow behind the mill turns into a shallow lake.",
    "He had planted six apple trees. Four of them grew well, one died, and one never bore any fruit.",
    "The library lends bicycles as well as books. You bring them back when you have had enough of them.",
)


class Item(NamedTuple):
    """A prompt, the right continuation and the wrong ones."""

    prompt: str
    right: str
    wrong: tuple[str, ...]


def regression(seed: int) -> list[Task]:
    """The suite: 20 different items of each kind, the same for the same seed, and the passages."""
    kinds: dict[str, Callable[[Random], Item]] = {
        "copying": _copying,
        "counting": _counting,
        "arithmetic": _arithmetic,
        "sorting": _sorting,
        "recall": _recall,
    }
    choices = [_multiple_choice(name, make, seed) for name, make in kinds.items()]
    passages = tuple({"id": f"text/{number:03d}", "text": text} for number, text in enumerate(_PASSAGES))
    return [*choices, Task(Suite.TEXT, "english", passages)]


def _multiple_choice(name: str, make: Callable[[Random], Item], seed: int) -> Task:
    random = Random(f"regression:{name}:{seed}")
    items: dict[str, Item] = {}
    while len(items) < ITEMS:
        item = make(random)
        items.setdefault(item.prompt, item)
    documents = (_document(f"{name}/{number:03d}", item, random) for number, item in enumerate(items.values()))
    return Task(Suite.REGRESSION, name, tuple(documents))


def _document(name: str, item: Item, random: Random) -> dict[str, Any]:
    choices = random.sample((item.right, *item.wrong), CHOICES)
    return {"id": name, "prompt": item.prompt, "choices": choices, "answer": choices.index(item.right)}


def _copying(random: Random) -> Item:
    words = random.sample(_WORDS, 3)
    return _ordering(random, f"Words: {' '.join(words)}\nThe same words again:", words)


def _sorting(random: Random) -> Item:
    words = random.sample(_WORDS, 3)
    return _ordering(random, f"Words: {' '.join(words)}\nIn the order of the alphabet:", sorted(words))


def _counting(random: Random) -> Item:
    count = random.randint(1, 9)
    word = random.choice(_WORDS)
    return _digit(random, f"Words: {' '.join([word] * count)}\nNumber of words:", count)


def _arithmetic(random: Random) -> Item:
    total = random.randint(1, 9)
    first = random.randint(0, total)
    return _digit(random, f"{first} + {total - first} =", total)


def _recall(random: Random) -> Item:
    names, cities = random.sample(_NAMES, CHOICES), random.sample(_CITIES, CHOICES)
    asked = random.randrange(CHOICES)
    facts = " ".join(f"{name} lives in {city}." for name, city in zip(names, cities, strict=True))
    wrong = tuple(city for city in cities if city != cities[asked])
    return Item(f"{facts}\nQuestion: Where does {names[asked]} live?\nAnswer:", cities[asked], wrong)


def _ordering(random: Random, prompt: str, right: Sequence[str]) -> Item:
    first, second, third = right
    others = [(first, third, second), (second, first, third), (second, third, first), (third, first, second)]
    wrong = random.sample([" ".join(words) for words in others], CHOICES - 1)
    return Item(prompt, " ".join(right), tuple(wrong))


def _digit(random: Random, prompt: str, right: int) -> Item:
    wrong = random.sample([digit for digit in range(1, 10) if digit != right], CHOICES - 1)
    return Item(prompt, str(right), tuple(str(digit) for digit in wrong))
