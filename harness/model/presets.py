"""Policies by name, each with the run settings it is meant for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stepcredit.envs import BENCHMARKS, family_of
from stepcredit.envs.family import Family
from stepcredit.harness.errors import UserError
from stepcredit.harness.words import spelled


class Source(StrEnum):
    """Where a policy's weights come from."""

    EMBEDDED = "embedded"
    HUB = "hub"


@dataclass(frozen=True)
class Recipe:
    """How a policy is trained on a benchmark.

    Attributes:
        suite: the benchmark's variant, where none is asked for.
        settings: fields of RunSpec that differ from its defaults; a mapping stands for a section.
        method_options: the same by method, for options whose published setting depends on the benchmark.
        folder: an embedded policy's folder below harness/policies.
    """

    suite: str
    settings: Mapping[str, Any]
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True)
class Preset:
    """A named policy.

    Attributes:
        name: what `--model` takes.
        source: where the weights come from.
        location: hub id; empty for embedded policies.
        recipes: how it is trained, by benchmark.
    """

    name: str
    source: Source
    location: str
    recipes: Mapping[str, Recipe]

    @property
    def prefers_gpu(self) -> bool:
        """Whether `--device auto` puts it on a GPU where there is one."""
        return self.source is Source.HUB

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


# verl-agent's ALFWorld recipe (arXiv 2505.10978) with StepOPSD's lengths (arXiv 2605.27140).
_PAPER: Mapping[str, Mapping[str, Any]] = {
    "rollout": {
        "tasks": 16,
        "group": 8,
        "max_turns": 50,
        "max_response_tokens": 512,
        "max_context_tokens": 16384,
    },
    "objective": {"kl": 0.01},
    "optim": {"lr": 1e-6, "beta2": 0.999, "token_budget": 16384},
    "evaluation": {"temperature": 0.4},
}

_TINY: Mapping[str, Mapping[str, Any]] = {
    "rollout": {"tasks": 8, "group": 8, "max_turns": BENCHMARKS["alfworld"].suites["mini"].max_turns}
}

# Search-R1's setting (arXiv 2503.09516) with StepOPSD's batch and lengths (arXiv 2605.27140, the authors' script).
_PAPER_SEARCH: Mapping[str, Any] = {
    "updates": 200,
    "rollout": {
        "tasks": 64,
        "group": 5,
        "max_turns": 5,
        "max_response_tokens": 500,
        "max_observation_tokens": 500,
        "max_context_tokens": 8192,
    },
    "objective": {"kl": 0.001},
    "optim": {"lr": 1e-6, "beta2": 0.999, "token_budget": 16384},
    "evaluation": {"split": "test", "temperature": 0.0, "every": 50},
}

# Generated questions: two searches, an answer, and room for something to go wrong.
_TINY_SEARCH: Mapping[str, Any] = {
    "rollout": {"tasks": 8, "group": 8, "max_turns": 5, "max_response_tokens": 32, "max_observation_tokens": 192},
    "evaluation": {"split": "test"},
}

# The reasoning counts as well where an action is a query (arXiv 2605.27140).
_SEARCH_METHODS: Mapping[str, Mapping[str, Any]] = {"stepopsd": {"target": "clean_step_no_observation"}}

_PAPER_RECIPES: Mapping[str, Recipe] = {
    "alfworld": Recipe("real", _PAPER),
    "searchqa": Recipe("real", _PAPER_SEARCH, _SEARCH_METHODS),
}
_TINY_RECIPES: Mapping[str, Recipe] = {
    "alfworld": Recipe("mini", _TINY, folder="tiny"),
    "searchqa": Recipe("synthetic", _TINY_SEARCH, _SEARCH_METHODS, folder="tiny-searchqa"),
}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("tiny", Source.EMBEDDED, "", _TINY_RECIPES),
        Preset("qwen3-1.7b", Source.HUB, "Qwen/Qwen3-1.7B", _PAPER_RECIPES),
        Preset("qwen2.5-3b", Source.HUB, "Qwen/Qwen2.5-3B-Instruct", _PAPER_RECIPES),
        Preset("qwen2.5-7b", Source.HUB, "Qwen/Qwen2.5-7B-Instruct", _PAPER_RECIPES),
    )
}


def _for_others(family: Family) -> Recipe:
    """ALFWorld's settings with the limits of the benchmark's own suite."""
    suite = family.suites[family.default_suite]
    room = max(_PAPER["rollout"]["max_context_tokens"], suite.max_context_tokens)
    rollout = {**_PAPER["rollout"], "max_turns": suite.max_turns, "max_context_tokens": room}
    settings = {**_PAPER, "rollout": rollout, "evaluation": {**_PAPER["evaluation"], "split": family.held_out}}
    return Recipe(family.default_suite, settings)


def preset_named(name: str) -> Preset:
    """Look up a preset, in any case.

    Raises:
        UserError: no preset has that name; the message suggests the nearest.
    """
    known = spelled(name, PRESETS)
    if known is not None:
        return PRESETS[known]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown model {name!r}: {hint}known models are {', '.join(PRESETS)}")
