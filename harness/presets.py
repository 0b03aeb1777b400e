"""Policies by name, each with the run settings it is meant for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.errors import UserError


class Source(StrEnum):
    """Where a policy's weights come from."""

    EMBEDDED = "embedded"
    HUB = "hub"


@dataclass(frozen=True)
class Preset:
    """A named policy.

    Attributes:
        name: what `--model` takes.
        source: where the weights come from.
        location: hub id; empty for embedded policies.
        suite: benchmark variant it trains on by default.
        settings: fields of RunSpec that differ from its defaults, by section.
    """

    name: str
    source: Source
    location: str
    suite: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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

# Generated rooms of at most ten receptacles: a good search ends in 14 turns, the warm start's often does not.
_TINY: Mapping[str, Mapping[str, Any]] = {"rollout": {"tasks": 8, "group": 8, "max_turns": 14}}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("tiny", Source.EMBEDDED, "", "mini", _TINY),
        Preset("qwen3-1.7b", Source.HUB, "Qwen/Qwen3-1.7B", "real", _PAPER),
        Preset("qwen2.5-3b", Source.HUB, "Qwen/Qwen2.5-3B-Instruct", "real", _PAPER),
        Preset("qwen2.5-7b", Source.HUB, "Qwen/Qwen2.5-7B-Instruct", "real", _PAPER),
    )
}


def preset_named(name: str) -> Preset:
    """Look up a preset.

    Raises:
        UserError: no preset has that name; the message suggests the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown model {name!r}: {hint}known models are {', '.join(PRESETS)}")
