"""Tables of generated rooms: what stands in each kind of room, what lies about, and which rooms are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Furniture:
    """How many receptacles of a type a room has, drawn per room; both ends are included."""

    type: str
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class RoomKind:
    """One kind of room.

    Attributes:
        numbers: ALFRED's room numbers of this kind.
        held_out: the rooms that only `valid_unseen` uses.
        objects: types of the objects that may lie about.
    """

    name: str
    numbers: range
    held_out: frozenset[int]
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A suite of generated games.

    Attributes:
        furniture: kind of room -> its receptacles.
        objects: kind of room -> least and most objects a game holds.
        copies: most objects of one type among those the goal does not name.
    """

    name: str
    furniture: Mapping[str, tuple[Furniture, ...]]
    objects: Mapping[str, tuple[int, int]]
    copies: int


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split())


def _furniture(table: str) -> tuple[Furniture, ...]:
    """Furniture from words such as "Drawer:1-3 Fridge:1"."""
    pieces = []
    for word in table.split():
        name, _, count = word.partition(":")
        least, _, most = count.partition("-")
        pieces.append(Furniture(name, int(least), int(most or least)))
    return tuple(pieces)


KINDS: tuple[RoomKind, ...] = (
    RoomKind(
        name="Kitchen",
        numbers=range(1, 31),
        held_out=frozenset({10, 17, 24}),
        objects=_names(
            "Apple Bread ButterKnife Bowl Cup DishSponge Egg Fork Glassbottle Kettle Knife Ladle Lettuce Mug Pan"
            " PepperShaker Plate Pot Potato SaltShaker SoapBottle Spatula Spoon Tomato Vase WineBottle"
        ),
    ),
    RoomKind(
        name="LivingRoom",
        numbers=range(201, 231),
        held_out=frozenset({205, 212, 219}),
        objects=_names(
            "Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pencil Pen Pillow Plate RemoteControl Statue"
            " TissueBox Vase Watch WateringCan"
        ),
    ),
    RoomKind(
        name="Bedroom",
        numbers=range(301, 331),
        held_out=frozenset({308, 315, 322}),
        objects=_names(
            "AlarmClock BaseballBat BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug Pen"
            " Pencil Pillow Statue TennisRacket TissueBox Watch"
        ),
    ),
    RoomKind(
        name="Bathroom",
        numbers=range(401, 431),
        held_out=frozenset({410, 417, 424}),
        objects=_names(
            "Candle Cloth DishSponge HandTowel Plunger SoapBar SoapBottle SprayBottle TissueBox ToiletPaper Towel"
        ),
    ),
)

SIZES: Mapping[str, Size] = {
    "mini": Size(
        name="mini",
        furniture={
            "Kitchen": _furniture(
                "Fridge:1 Microwave:1 SinkBasin:1 CounterTop:1 Cabinet:1-2 Drawer:1-2 DiningTable:0-1 GarbageCan:0-1"
            ),
            "LivingRoom": _furniture(
                "Sofa:1 CoffeeTable:1 SideTable:1 Drawer:2-3 Cabinet:1-2 ArmChair:0-1 Shelf:0-1 Safe:0-1"
            ),
            "Bedroom": _furniture("Bed:1 Desk:1 SideTable:1 Drawer:3-4 Shelf:0-1 Dresser:0-1 Safe:0-1"),
            "Bathroom": _furniture("Toilet:1 SinkBasin:1 CounterTop:1 Cabinet:2-3 Drawer:1-2 Shelf:0-1 GarbageCan:0-1"),
        },
        objects={"Kitchen": (5, 9), "LivingRoom": (5, 9), "Bedroom": (5, 9), "Bathroom": (5, 9)},
        copies=2,
    ),
    "full": Size(
        name="full",
        furniture={
            "Kitchen": _furniture(
                "Cabinet:6-14 CounterTop:1-3 Drawer:3-8 Fridge:1 Microwave:1 SinkBasin:1 StoveBurner:4 GarbageCan:1"
                " CoffeeMachine:1 Toaster:1 DiningTable:0-1 Shelf:0-3 SideTable:0-1"
            ),
            "LivingRoom": _furniture(
                "Sofa:1-2 ArmChair:1-2 CoffeeTable:1-2 SideTable:1-3 Drawer:2-8 Shelf:0-6 Cabinet:0-4 GarbageCan:1"
                " DiningTable:0-1 Dresser:0-1 Ottoman:0-1 Safe:0-1 TVStand:0-1"
            ),
            "Bedroom": _furniture(
                "Bed:1 Desk:1-2 SideTable:1-2 Drawer:2-8 Shelf:1-6 GarbageCan:1 Dresser:0-1 LaundryHamper:0-1 Safe:0-1"
                " ArmChair:0-1 Cabinet:0-3"
            ),
            "Bathroom": _furniture(
                "Toilet:1 SinkBasin:1-2 CounterTop:1 Cabinet:2-6 GarbageCan:1 ToiletPaperHanger:1 HandTowelHolder:1-2"
                " TowelHolder:1-2 Drawer:0-5 Shelf:0-3 BathtubBasin:0-1 SideTable:0-1 Cart:0-1"
            ),
        },
        objects={"Kitchen": (30, 60), "LivingRoom": (12, 32), "Bedroom": (16, 32), "Bathroom": (12, 22)},
        copies=3,
    ),
}

SPLIT_SIZES: Mapping[str, int] = {"train": 500, "valid_seen": 40, "valid_unseen": 40}
"""Games per subset in each split of a generated suite."""

LAMP = "DeskLamp"
LAMP_STANDS_ON = frozenset({"Desk", "SideTable", "Dresser", "CoffeeTable", "Shelf"})
"""Where desk lamps stand in ALFRED's rooms."""


def kind_of(number: int) -> RoomKind:
    """The kind of the room with this number."""
    return next(kind for kind in KINDS if number in kind.numbers)


def rooms_of(split: str) -> tuple[int, ...]:
    """Numbers of the rooms that a split draws from: the held-out ones for `valid_unseen`, else the others."""
    held_out = split == "valid_unseen"
    return tuple(number for kind in KINDS for number in kind.numbers if (number in kind.held_out) == held_out)
