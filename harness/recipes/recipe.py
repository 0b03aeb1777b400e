"""A published recipe: the settings of a run, each with the place it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from stepcredit.harness.recipes.places import OURS

_CHOSEN = ("model", "benchmark", "suite", "method")
_OPTIONS = "method_options."


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value, and the short name of the place it was read from, or `(ours)`; see `places`."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something published that a run spec has no place for.

    Attributes:
        published: what the authors did.
        here: what runs of this project do instead.
        source: the place it was read from.
    """

    published: str
    here: str
    source: str


_Item = TypeVar("_Item", Sourced, Deviation)


@dataclass(frozen=True)
class PaperRecipe:
    """How a paper trained its method on a benchmark.

    Attributes:
        name: method and benchmark.
        paper: name and arXiv number.
        fields: dotted paths of RunSpec, `model`, `benchmark`, `suite` and `method` among them.
        deviations: what the spec cannot say, by topic.
    """

    name: str
    paper: str
    fields: Mapping[str, Sourced]
    deviations: Mapping[str, Deviation]

    def value(self, path: str) -> Any:
        """What the recipe sets a field to."""
        return self.fields[path].value

    @property
    def settings(self) -> dict[str, Any]:
        """What it sets by dotted path, but for what a run is named after and the method's options."""
        kept = (path for path in self.fields if path not in _CHOSEN and not path.startswith(_OPTIONS))
        return {path: self.value(path) for path in kept}

    def sections(self) -> dict[str, Any]:
        """The same with a mapping for each section."""
        nested: dict[str, Any] = {}
        for path, value in self.settings.items():
            *sections, name = path.split(".")
            place = nested
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return nested

    @property
    def method_options(self) -> dict[str, Any]:
        """What it sets of its method's options."""
        return {path.removeprefix(_OPTIONS): self.value(path) for path in self.fields if path.startswith(_OPTIONS)}


def read_from(source: str, values: Mapping[str, Any]) -> dict[str, Sourced]:
    """Fields that were read in one place."""
    return {path: Sourced(value, source) for path, value in values.items()}


def not_published(items: Mapping[str, _Item]) -> dict[str, _Item]:
    """The same for a paper that is silent about them: their sources say so, except for our own choices."""
    return {
        name: item if item.source == OURS else replace(item, source=f"not published; as in {item.source}")
        for name, item in items.items()
    }
