"""Recipes of methods that were published on mathematics, logic or pictures, carried over to ALFWorld.

What is the method's own is read from its authors' code; all else is GiGPO's recipe, whose benchmark it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepcredit.harness.recipes import gigpo
from stepcredit.harness.recipes.places import (
    AGENTOPSD_CODE,
    AGENTOPSD_SCRIPT,
    OPSD_CODE,
    OPSD_SCRIPT,
    OURS,
    RLCSD_CODE,
    RLCSD_CONFIG,
    RLSD_CONFIG,
    RLSD_SCRIPT,
    SDAR_SKILLS,
    VINEPPO_CONFIG,
)
from stepcredit.harness.recipes.recipe import Deviation, PaperRecipe, Sourced, not_published, read_from
from stepcredit.harness.recipes.verl_agent import ROWS

_PLACE = {"model": "qwen2.5-3b"}


def _on_alfworld(
    name: str, paper: str, fields: Mapping[str, Sourced], deviations: Mapping[str, Deviation], silent: str
) -> PaperRecipe:
    """The method's own fields, and GiGPO's where `silent` says that the authors did something else."""
    carried = {"task": Deviation(silent, "ALFWorld, by GiGPO's recipe", next(iter(fields.values())).source)}
    usual = {**not_published(gigpo.FOR_EPISODES), **read_from(OURS, _PLACE)}
    others = {topic: item for topic, item in gigpo.ALFWORLD.deviations.items() if topic != "other models"}
    return PaperRecipe(name, paper, {**usual, **fields}, {**not_published(others), **carried, **deviations})


def _method(source: str, method: str, options: Mapping[str, Any]) -> dict[str, Sourced]:
    return read_from(source, {"method": method, **{f"method_options.{name}": value for name, value in options.items()}})


_PEER = Deviation("a sample's own solution and answer", "a successful peer's episode", RLCSD_CODE)

OPSD = _on_alfworld(
    "opsd",
    "OPSD, arXiv 2601.18734",
    {
        **_method(OPSD_SCRIPT, "opd", {"teacher": "initial", "divergence": "jsd", "beta": 0.5}),
        **read_from(OPSD_CODE, {"method_options.hindsight": "golden_rollout", "method_options.hindsight_text": "full"}),
        **read_from(
            OPSD_SCRIPT,
            {
                "optim.rank": 64,
                "optim.lr": 2e-4,
                "rollout.temperature": 1.1,
                "rollout.top_p": 0.95,
                "objective.kl": 0.0,
            },
        ),
        **read_from(OURS, {"method_options.top_k": 100}),
    },
    {
        "vocabulary": Deviation("all of it", "the teacher's 100 likeliest tokens, the others as one", OPSD_CODE),
        "sampling": Deviation("the 20 likeliest tokens", "all within top_p", OPSD_SCRIPT),
    },
    "mathematics: problems with solutions",
)

RLSD = _on_alfworld(
    "rlsd",
    "RLSD, arXiv 2604.03128",
    {
        **_method(
            RLSD_SCRIPT,
            "rlsd",
            {"lambda_mix": 0.5, "clip": 0.2, "decay_updates": 60, "teacher": "stale", "refresh": 20},
        ),
        **read_from(RLSD_SCRIPT, {"objective.clip_low": 0.2, "objective.clip_high": 0.28, "objective.kl": 0.0}),
    },
    {"hint": Deviation("the answer", "a successful peer's episode", RLSD_SCRIPT)},
    "questions about pictures",
)

RLSD_FROZEN = _on_alfworld(
    "rlsd-frozen",
    "RLSD, arXiv 2604.03128",
    {
        **_method(RLSD_CONFIG, "rlsd", {"lambda_mix": 0.5, "clip": 0.2, "decay_updates": None, "teacher": "initial"}),
        **read_from(RLSD_CONFIG, {"objective.clip_low": 0.2, "objective.clip_high": 0.28, "objective.kl": 0.0}),
    },
    {"hint": Deviation("the answer", "a successful peer's episode", RLSD_CONFIG)},
    "questions about pictures",
)

RLCSD = _on_alfworld(
    "rlcsd",
    "RLCSD, arXiv 2606.11709",
    {
        **_method(
            RLCSD_CONFIG,
            "rlcsd",
            {
                "tau": 0.02, "beta": 1.0, "lam": 0.5, "delta": 0.02, "largest": 2.0, "eta": 1.0, "wrong": 4,
                "refresh": 10, "hindsight_text": "full",
            },
        ),
        **read_from(
            RLCSD_CONFIG,
            {
                "objective.clip_low": 0.2, "objective.clip_high": 0.2, "objective.kl": 0.0, "optim.lr": 1e-6,
                "rollout.top_p": 0.95,
            },
        ),
    },
    {
        "importance": Deviation("truncated at 2 a token", "objective.importance=token_truncate does so", RLCSD_CONFIG),
        "hint": _PEER,
    },
    "logic and mathematics",
)  # fmt: skip

AGENTOPSD = _on_alfworld(
    "agentopsd-alfworld",
    "AgentOPSD, arXiv 2608.05987",
    {
        **_method(AGENTOPSD_SCRIPT, "agentopsd", {"b": 0.2, "lambda_mix": 0.5}),
        **read_from(
            AGENTOPSD_CODE,
            {"method_options.gamma": 1.0, "method_options.least_prior": 1e-4, "method_options.belief_eps": 1e-6},
        ),
        **ROWS,
        **read_from(
            AGENTOPSD_SCRIPT,
            {
                "rollout.tasks": 16,
                "rollout.group": 8,
                "optim.lr": 1e-6,
                "objective.kl": 0.01,
                "objective.invalid_penalty": 0.1,
            },
        ),
    },
    {
        "skills": Deviation(
            "texts retrieved for the task",
            "a successful peer's episode; method_options.hindsight=skills shows the texts of a folder",
            f"{AGENTOPSD_SCRIPT}; {SDAR_SKILLS}",
        )
    },
    "the same benchmark; only what stands here was read there",
)

VINEPPO = _on_alfworld(
    "vineppo",
    "VinePPO, arXiv 2410.01679",
    _method(VINEPPO_CONFIG, "vineppo", {"continuations": 9, "whiten": True}),
    {"mean": Deviation("whitened over a micro-batch", "over an update", VINEPPO_CONFIG)},
    "MATH",
)

ALL = (OPSD, RLSD, RLSD_FROZEN, RLCSD, AGENTOPSD, VINEPPO)
