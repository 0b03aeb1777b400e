"""How two runs are meant to differ: recipes, presets and run folders, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stepcredit.harness.recipes import RECIPES, recipe_named
from stepcredit.harness.recipes.places import OURS
from stepcredit.harness.recipes.recipe import Deviation, PaperRecipe, Sourced
from stepcredit.harness.record.manifest import NAME, read
from stepcredit.harness.setup.published import published_spec
from stepcredit.harness.setup.settings import build_spec, leaves
from stepcredit.harness.spec import RunSpec

_NO_PART = ("seed", "checkpoint_every")
_DEFAULTS = {"method_options": "the method's default", "env_options": "the benchmark's default"}
_ABSENT = Sourced(None, "")


@dataclass(frozen=True)
class Description:
    """Every field of a run with its source, but for the seed and the checkpoints.

    Attributes:
        name: the recipe, the run's folder, or `model@benchmark`.
        origin: the paper, or what else it is.
        fields: by dotted path; values are JSON values.
        deviations: what a recipe's spec cannot say.
    """

    name: str
    origin: str
    fields: Mapping[str, Sourced]
    deviations: Mapping[str, Deviation] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        """The sources of all that it says."""
        return [item.source for item in self.fields.values()] + [item.source for item in self.deviations.values()]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field whose values differ; the side that lacks it has the value None and no source."""

    field: str
    a: Sourced
    b: Sourced

    @property
    def sources(self) -> list[str]:
        """Of both sides."""
        return [self.a.source, self.b.source]


def described(name: str) -> Description:
    """What a name stands for: a recipe, a run's folder, or `model@benchmark` (how that preset trains GRPO).

    Raises:
        UserError: none of them has that name (the message suggests the nearest), or a damaged manifest.
    """
    if name in RECIPES:
        return _of_recipe(recipe_named(name))
    manifest = read(Path(name)) if (Path(name) / NAME).is_file() else None
    if manifest is not None:
        return Description(name, "a run", _fields(manifest.spec, {}, "the run"))
    model, at, benchmark = name.partition("@")
    if at:
        spec = build_spec(model=model, benchmark=benchmark, suite=None, method="grpo", seed=0)
        return Description(name, "a preset", _fields(spec, {}, "the preset"))
    return _of_recipe(recipe_named(name))


def differences(a: Description, b: Description) -> list[Difference]:
    """The fields in which two runs differ, section by section."""
    return _differing(a.fields, b.fields)


def deviation_differences(a: Description, b: Description) -> list[Difference]:
    """The topics about which their papers say different things that no spec has a place for."""
    return _differing(_published(a), _published(b))


def _published(side: Description) -> dict[str, Sourced]:
    return {topic: Sourced(item.published, item.source) for topic, item in side.deviations.items()}


def _of_recipe(recipe: PaperRecipe) -> Description:
    return Description(
        recipe.name, recipe.paper, _fields(published_spec(recipe), recipe.fields, None), recipe.deviations
    )


def _fields(spec: RunSpec, known: Mapping[str, Sourced], otherwise: str | None) -> dict[str, Sourced]:
    return {
        path: Sourced(value, known[path].source if path in known else otherwise or _default_source(path))
        for path, value in leaves(spec)
        if path not in _NO_PART
    }


def _default_source(path: str) -> str:
    return _DEFAULTS.get(path.split(".")[0], OURS)


def _differing(a: Mapping[str, Sourced], b: Mapping[str, Sourced]) -> list[Difference]:
    paths = list(dict.fromkeys([*a, *b]))
    sections = list(dict.fromkeys(_section(path) for path in paths))
    paths.sort(key=lambda path: sections.index(_section(path)))
    pairs = ((path, a.get(path, _ABSENT), b.get(path, _ABSENT)) for path in paths)
    return [Difference(path, left, right) for path, left, right in pairs if left.value != right.value]


def _section(path: str) -> str:
    return path.rpartition(".")[0]
