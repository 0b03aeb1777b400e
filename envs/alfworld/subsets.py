"""The six subsets of ALFWorld: their names in tables, their task types in ALFRED, the treatment each asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Subset(StrEnum):
    """Subsets in the order in which tables list them."""

    PICK = "Pick"
    LOOK = "Look"
    CLEAN = "Clean"
    HEAT = "Heat"
    COOL = "Cool"
    PICK_TWO = "PickTwo"

    @property
    def task_type(self) -> str:
        """ALFRED's name of the subset, used by the wheel's goal library and by the games' folders."""
        return _TASK_TYPES[self]

    @property
    def treatment(self) -> Treatment | None:
        """What must be done to the object before it is put down, if anything."""
        return _TREATMENTS.get(self)

    @property
    def wanted(self) -> int:
        """How many objects of the wanted type the goal needs."""
        return 2 if self is Subset.PICK_TWO else 1

    @classmethod
    def of_task_type(cls, task_type: str) -> Subset | None:
        """The subset that ALFRED calls `task_type`, None if ALFWorld has no such subset."""
        return next((subset for subset in cls if subset.task_type == task_type), None)


@dataclass(frozen=True, slots=True)
class Treatment:
    """A change of an object's state.

    Attributes:
        verb: the agent's command for it.
        affordance: key of the wheel's table of the object types that can undergo it.
        appliance: the receptacle type that does it.
    """

    verb: str
    affordance: str
    appliance: str


_TASK_TYPES: Mapping[Subset, str] = {
    Subset.PICK: "pick_and_place_simple",
    Subset.LOOK: "look_at_obj_in_light",
    Subset.CLEAN: "pick_clean_then_place_in_recep",
    Subset.HEAT: "pick_heat_then_place_in_recep",
    Subset.COOL: "pick_cool_then_place_in_recep",
    Subset.PICK_TWO: "pick_two_obj_and_place",
}

_TREATMENTS: Mapping[Subset, Treatment] = {
    Subset.CLEAN: Treatment("clean", "Cleanable", "SinkBasin"),
    Subset.HEAT: Treatment("heat", "Heatable", "Microwave"),
    Subset.COOL: Treatment("cool", "Coolable", "Fridge"),
}
